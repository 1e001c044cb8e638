//! What is asked of the events of one name? A condition's count or sum, or the value of a computed trait.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::fold::is_timestamp;
use crate::{
    Result,
    audience::{
        ComputedTrait,
        ast::{Comparison, EventValue, Expr, Filter, Path, Reducer, Scalar, Segment, Span, Stream},
        conditions::Condition,
        visit,
    },
    evaluate::{
        compile::{self, Compiler, Names, Window, event_name},
        tally::SUM_DECIMALS,
        threshold::Threshold,
    },
};

/// A question that a scan can answer.
#[derive(Debug, Clone)]
pub(in crate::evaluate) struct Probe<'c> {
    pub asker: Asker<'c>,
    pub(super) stream: Cow<'c, Stream>,
    pub(super) window: Window,
    pub(super) measure: Measure<'c>,
    /// It holds for a profile without events, so the profiles that are counted are those for which it does not.
    pub(super) negated: bool,
    pub(super) reads_rows: bool,
    /// Its number stands in a typed column.
    promoted: bool,
    /// Its filters look at more than the event, so it shares a scan only with those that have the very same filters.
    pub(super) apart: bool,
    /// Only the last session counts: back from the last event to the first longer silence.
    pub(super) session: Option<Span>,
}

/// Who wants to know.
#[derive(Debug, Clone, Copy)]
pub(in crate::evaluate) enum Asker<'c> {
    Condition(&'c Condition),
    /// The n-th value that was asked for.
    Value(usize),
}

#[derive(Debug, Clone)]
pub(super) enum Measure<'c> {
    /// At least one event, or none: no count is kept.
    Occurs,
    Count(Threshold),
    Sum(&'c EventValue, Threshold),
    /// Everybody's value.
    Value(&'c Reducer),
}

impl<'c> Probe<'c> {
    /// A condition's; `None` if it needs a query of its own.
    pub(in crate::evaluate) fn of(condition: &'c Condition, t: DateTime<Utc>, names: &Names) -> Option<Probe<'c>> {
        let Comparison { left: Scalar::Reduce(stream, reducer), comparator } = &condition.0 else { return None };
        let negated = compile::holds_for_nobody(condition, t);
        let measure = match reducer {
            Reducer::Count => match Threshold::of(comparator, 0)? {
                threshold if threshold.passes(1) != negated && threshold.is_constant_from(1) => Measure::Occurs,
                threshold => Measure::Count(threshold),
            },
            Reducer::Sum(value @ EventValue::Property(path)) if is_plain(path) => {
                Measure::Sum(value, Threshold::of(comparator, SUM_DECIMALS)?)
            }
            _ => return None,
        };
        let promoted = match &measure {
            Measure::Sum(value, _) => Compiler::new(t, names).promoted(stream, value, "").ok()?.is_some(),
            _ => false,
        };
        let mut reads_rows = matches!(measure, Measure::Sum(..)) && !promoted;
        for filter in &stream.filters {
            match filter {
                Filter::Within(_) | Filter::Between { .. } => {}
                Filter::Where(expression) if reads_event_alone(expression) => reads_rows = true,
                Filter::ExcludeSources(_) => reads_rows = true,
                _ => return None,
            }
        }
        event_name(stream).ok()?;
        Some(Probe {
            asker: Asker::Condition(condition),
            window: Window::of(stream, t),
            stream: Cow::Borrowed(stream),
            measure,
            negated,
            reads_rows,
            promoted,
            apart: false,
            session: None,
        })
    }

    /// A computed trait's, the `n`-th of those asked for.
    pub(in crate::evaluate) fn of_value(
        n: usize,
        wanted: &'c ComputedTrait,
        t: DateTime<Utc>,
        names: &Names,
    ) -> Result<Probe<'c>> {
        event_name(&wanted.stream)?;
        let mut stream = wanted.stream.clone();
        let spans = stream.filters.iter().filter_map(|filter| match filter {
            Filter::ExpiresAfter(span) => Some(*span),
            _ => None,
        });
        // Of several silences the shortest ends a session first.
        let session = spans.min_by_key(|span| span.micros());
        stream.filters.retain(|filter| !matches!(filter, Filter::ExpiresAfter(_)));
        let (mut reads_rows, mut apart) = (session.is_some(), session.is_some());
        for filter in &stream.filters {
            match filter {
                Filter::Within(_) | Filter::Between { .. } => {}
                Filter::Where(expression) if reads_event_alone(expression) => reads_rows = true,
                Filter::ExcludeSources(_) => reads_rows = true,
                _ => (reads_rows, apart) = (true, true),
            }
        }
        let mut probe = Probe {
            asker: Asker::Value(n),
            window: Window::of(&stream, t),
            stream: Cow::Owned(stream),
            measure: Measure::Value(&wanted.reducer),
            negated: false,
            reads_rows,
            promoted: false,
            apart,
            session,
        };
        if let Some(value) = wanted.reducer.value().filter(|_| wanted.reducer.is_numeric()) {
            probe.promoted = Compiler::new(t, names).promoted(&probe.stream, value, "")?.is_some();
        }
        probe.reads_rows |= probe.read().is_some() || probe.reads_messages();
        Ok(probe)
    }

    pub(super) fn selects(&self) -> bool {
        self.stream.filters.iter().any(|filter| matches!(filter, Filter::Where(_) | Filter::ExcludeSources(_)))
    }

    /// What Postgres is to read of each event as a number.
    pub(super) fn summed(&self) -> Option<&'c EventValue> {
        match &self.measure {
            Measure::Sum(value, _) => Some(value),
            Measure::Value(reducer) if self.promoted => reducer.value(),
            _ => None,
        }
    }

    /// What is to be read of each event as JSON: a value's number too, where there is no column of it. To find it there takes
    /// less than to make Postgres say which number it is.
    pub(super) fn read(&self) -> Option<&'c EventValue> {
        match &self.measure {
            Measure::Value(reducer) if !self.promoted => reducer.value().filter(|value| !is_timestamp(value)),
            _ => None,
        }
    }

    pub(super) fn reads_messages(&self) -> bool {
        matches!(&self.measure, Measure::Value(Reducer::First(_) | Reducer::Last(_)))
    }

    pub(super) fn reads_instants(&self) -> bool {
        let Measure::Value(reducer) = &self.measure else { return false };
        self.reads_messages() || reducer.value().is_some_and(is_timestamp)
    }

    /// Whether another one, with the same kind of access to the same events, can be answered by the same pass at all.
    pub(super) fn goes_with(&self, other: &Probe<'_>) -> bool {
        let filters =
            !self.apart && !other.apart || self.stream.filters == other.stream.filters && self.session == other.session;
        self.stream.source == other.stream.source && self.reads_rows == other.reads_rows && filters
    }
}

impl Reducer {
    /// Whether it looks at numbers alone.
    pub(super) fn is_numeric(&self) -> bool {
        use crate::audience::ast::As;
        matches!(self, Reducer::Sum(_) | Reducer::Avg(_) | Reducer::Min(_, As::Number) | Reducer::Max(_, As::Number))
    }
}

/// No trait, no other event.
fn reads_event_alone(expression: &Expr) -> bool {
    let mut alone = true;
    visit::comparisons(expression, &mut |comparison| {
        alone &= comparison.scalars().all(|scalar| matches!(scalar, Scalar::Property(_) | Scalar::Context(_)));
    });
    alone
}

fn is_plain(path: &Path) -> bool {
    !path.0.contains(&Segment::Each)
}
