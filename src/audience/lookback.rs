//! How far back does a definition look at events? What is older may be dropped without changing its answer. Pure.

use chrono::TimeDelta;

use super::{
    ast::{Comparison, Expr, Filter, Scalar, Stream},
    computed::{Computed, Definition},
};

/// How old an event can be and still count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookback {
    /// Events at most this old; zero if it looks at none.
    Bounded(TimeDelta),
    /// All of them, however old.
    Everything,
}

impl Lookback {
    /// Of an audience or a computed trait.
    pub fn of(computed: &Computed) -> Lookback {
        match computed {
            Computed::Members { definition: Definition::Query(definition), .. } => Lookback::of_definition(definition),
            Computed::Value(computed) => of_stream(&computed.stream, None),
            Computed::Columns(columns) => {
                let all = columns.iter().map(|(_, computed)| of_stream(&computed.stream, None));
                all.fold(Lookback::Bounded(TimeDelta::zero()), Ord::max)
            }
            // What somebody else's statement reads, nobody here knows.
            Computed::Sql(_) | Computed::Members { definition: Definition::Statement(_), .. } => Lookback::Everything,
        }
    }

    /// Of an audience's definition.
    pub fn of_definition(definition: &Expr) -> Lookback {
        comparisons(definition, None)
    }
}

/// The furthest of all comparisons; `within` is that of the event in whose `where(…)` they stand.
fn comparisons(expr: &Expr, within: Option<Lookback>) -> Lookback {
    match expr {
        Expr::Or(terms) | Expr::And(terms) => {
            let furthest = terms.iter().map(|term| comparisons(term, within)).max();
            furthest.unwrap_or(Lookback::Bounded(TimeDelta::zero()))
        }
        Expr::Not(inner) | Expr::Any(inner) | Expr::All(inner) => comparisons(inner, within),
        Expr::Compare(comparison) => of_comparison(comparison, within),
    }
}

fn of_comparison(comparison: &Comparison, within: Option<Lookback>) -> Lookback {
    let streams = comparison.scalars().filter_map(|scalar| match scalar {
        Scalar::Reduce(stream, _) => Some(of_stream(stream, within)),
        _ => None,
    });
    streams.max().unwrap_or(Lookback::Bounded(TimeDelta::zero()))
}

/// A stream's own windows all hold, so the nearest of them bounds it; what stands in its `where(…)` may look further.
fn of_stream(stream: &Stream, parent: Option<Lookback>) -> Lookback {
    let windows = stream.filters.iter().filter_map(|filter| match filter {
        Filter::Within(span) => Some(Lookback::Bounded(TimeDelta::microseconds(span.micros()))),
        Filter::Between { far, .. } => Some(Lookback::Bounded(TimeDelta::microseconds(far.micros()))),
        // After the event around it, so never older than that.
        Filter::WithinParent(_) => parent,
        _ => None,
    });
    let own = windows.min().unwrap_or(Lookback::Everything);
    stream.conditions().map(|condition| comparisons(condition, Some(own))).fold(own, Ord::max)
}
