//! Why is this person in, or out, and when will time alone change that? For people to read: it shows a person's values.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{
    ast::{Comparator, EventValue, Expr, Filter, Operand, Path, Scalar, Source, Span},
    interpret::{Event, Profile, Scope, holds},
    value::{Value, instant_of, walk},
    visit,
};
use crate::limits;

/// One definition held against one history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub holds: bool,
    /// The instant that was asked about.
    pub evaluated_at: DateTime<Utc>,
    pub next_change: NextChange,
    pub reason: Reason,
}

/// When the answer changes if nothing more is heard of the person, and memberships referred to stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextChange {
    /// The first instant of the other answer.
    At(DateTime<Utc>),
    Never,
    /// A history with so many edges that not all were tried, or a statement, which nobody here can look into.
    Unknown,
}

/// A part of the definition, whether it holds, and the values behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The part, as it is printed.
    pub text: String,
    pub holds: bool,
    /// What the left side of a comparison is; `missing` if it is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// What the right sides are that the text does not show: traits, properties, other events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub right: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Reason>,
}

/// Explains a definition for a profile at instant `at`.
pub fn explain(expr: &Expr, profile: &Profile, at: DateTime<Utc>) -> Explanation {
    let reason = reason(expr, &Scope::new(profile, at));
    Explanation { holds: reason.holds, evaluated_at: at, next_change: next_change(expr, profile, at), reason }
}

/// Explains whom a statement yields: all that can be said of it is whether it does.
pub fn statement(yields: bool, at: DateTime<Utc>) -> Explanation {
    let text = "the statement yields this user".to_owned();
    let reason = Reason { text, holds: yields, left: None, right: Vec::new(), parts: Vec::new() };
    Explanation { holds: yields, evaluated_at: at, next_change: NextChange::Unknown, reason }
}

fn reason(expr: &Expr, scope: &Scope<'_>) -> Reason {
    let (mut left, mut right) = (None, Vec::new());
    let parts = match expr {
        Expr::Or(terms) | Expr::And(terms) => terms.iter().map(|term| reason(term, scope)).collect(),
        Expr::Not(inner) | Expr::Any(inner) | Expr::All(inner) => vec![reason(inner, scope)],
        Expr::Compare(comparison) => {
            left = Some(shown(&scope.values(&comparison.left)));
            let operands = comparison.comparator.operands().iter();
            right.extend(
                operands
                    .filter(|operand| matches!(operand, Operand::Scalar(_)))
                    .map(|operand| shown(&scope.rights(operand))),
            );
            Vec::new()
        }
    };
    Reason { text: expr.to_string(), holds: scope.holds(expr), left, right, parts }
}

fn shown(values: &[Value]) -> String {
    fn one(value: &Value) -> String {
        match value {
            Value::Text(text) => format!("'{text}'"),
            Value::Array(entries) => format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(", ")),
            Value::Object => "{…}".into(),
            value => value.text().unwrap_or_default(),
        }
    }
    match values {
        [] => "missing".into(),
        values => values.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// Only instants at which some window or date edge passes can change an answer: each event or date value, moved by each
/// duration of the definition either way, and the microsecond after, since some edges are still inside.
fn next_change(expr: &Expr, profile: &Profile, at: DateTime<Utc>) -> NextChange {
    let now = holds(expr, profile, at);
    let (instants, spans) = edges(expr, profile);
    let tick = TimeDelta::microseconds(1);
    let mut moves = BTreeSet::from([TimeDelta::zero()]);
    for span in spans {
        moves.extend([TimeDelta::microseconds(span.micros()), -TimeDelta::microseconds(span.micros())]);
    }
    let mut candidates = BTreeSet::new();
    for instant in &instants {
        for edge in moves.iter().filter_map(|by| instant.checked_add_signed(*by)) {
            for candidate in [Some(edge), edge.checked_add_signed(tick)].into_iter().flatten().filter(|edge| *edge > at)
            {
                candidates.insert(candidate);
            }
        }
    }
    let tried = candidates.len().min(limits::EXPLAIN_INSTANTS);
    match candidates.iter().take(tried).find(|candidate| holds(expr, profile, **candidate) != now) {
        Some(change) => NextChange::At(*change),
        None if tried < candidates.len() => NextChange::Unknown,
        None => NextChange::Never,
    }
}

/// The instants of a history that a definition may look at, and the durations of the definition.
fn edges(expr: &Expr, profile: &Profile) -> (BTreeSet<DateTime<Utc>>, BTreeSet<Span>) {
    let (mut spans, mut names) = (BTreeSet::new(), BTreeSet::new());
    let (mut traits, mut properties, mut contexts) = (BTreeSet::<&Path>::new(), BTreeSet::new(), BTreeSet::new());
    visit::comparisons(expr, &mut |comparison| {
        match &comparison.comparator {
            Comparator::WithinLast(span)
            | Comparator::WithinNext(span)
            | Comparator::BeforeLast(span)
            | Comparator::AfterNext(span) => drop(spans.insert(*span)),
            _ => {}
        }
        for scalar in comparison.scalars() {
            match scalar {
                Scalar::Trait(path) | Scalar::Computed(path) => drop(traits.insert(path)),
                Scalar::Property(path) | Scalar::ParentProperty(path) => drop(properties.insert(path)),
                Scalar::Context(path) => drop(contexts.insert(path)),
                Scalar::Reduce(stream, reducer) => {
                    if let Source::Event(name) = &stream.source {
                        names.insert(name.as_str());
                    }
                    match reducer.value() {
                        Some(EventValue::Property(path)) => drop(properties.insert(path)),
                        Some(EventValue::Context(path)) => drop(contexts.insert(path)),
                        None => {}
                    }
                    for filter in &stream.filters {
                        match filter {
                            Filter::Within(span) | Filter::WithinParent(span) | Filter::ExpiresAfter(span) => {
                                spans.insert(*span);
                            }
                            Filter::Between { near, far } => spans.extend([*near, *far]),
                            Filter::Where(_) | Filter::ExcludeSources(_) => {}
                        }
                    }
                }
            }
        }
    });
    let dates = |json, paths: &BTreeSet<&Path>| -> Vec<DateTime<Utc>> {
        let values = paths.iter().flat_map(|path| walk(json, path));
        values.filter_map(|value| value.as_str().and_then(instant_of)).collect()
    };
    let mut instants = BTreeSet::from_iter(dates(&profile.traits, &traits));
    for event in profile.events.iter().filter(|event: &&Event| names.contains(event.name.as_str())) {
        instants.insert(event.occurred_at);
        instants.extend(dates(&event.properties, &properties));
        instants.extend(dates(&event.context, &contexts));
    }
    (instants, spans)
}
