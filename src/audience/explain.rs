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

/// When the answer changes if nothing more is heard of the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextChange {
    /// The first instant of the other answer.
    At(DateTime<Utc>),
    Never,
    /// A history with so many edges that not all were tried, or a statement, here or referred to, which nobody can look into.
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

/// Explains a definition for a profile at instant `at`, whose memberships and computed traits stay as they are: see
/// [`super::outlook`] for one that refers to others.
pub fn explain(expr: &Expr, profile: &Profile, at: DateTime<Utc>) -> Explanation {
    let reason = reason(expr, profile, at);
    let edges = edges(std::slice::from_ref(expr), profile, at);
    let next_change = next_change(edges, reason.holds, |later| holds(expr, profile, later));
    Explanation { holds: reason.holds, evaluated_at: at, next_change, reason }
}

/// Explains whom a statement yields: all that can be said of it is whether it does.
pub fn statement(yields: bool, at: DateTime<Utc>) -> Explanation {
    let text = "the statement yields this user".to_owned();
    let reason = Reason { text, holds: yields, left: None, right: Vec::new(), parts: Vec::new() };
    Explanation { holds: yields, evaluated_at: at, next_change: NextChange::Unknown, reason }
}

/// Whether a definition holds, part by part.
pub(super) fn reason(expr: &Expr, profile: &Profile, at: DateTime<Utc>) -> Reason {
    reason_in(expr, &Scope::new(profile, at))
}

fn reason_in(expr: &Expr, scope: &Scope<'_>) -> Reason {
    let (mut left, mut right) = (None, Vec::new());
    let parts = match expr {
        Expr::Or(terms) | Expr::And(terms) => terms.iter().map(|term| reason_in(term, scope)).collect(),
        Expr::Not(inner) | Expr::Any(inner) | Expr::All(inner) => vec![reason_in(inner, scope)],
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

/// The first of these instants at which the answer is another one than `now`. They are tried in their order.
pub(super) fn next_change(
    edges: BTreeSet<DateTime<Utc>>,
    now: bool,
    mut then: impl FnMut(DateTime<Utc>) -> bool,
) -> NextChange {
    let tried = edges.len().min(limits::EXPLAIN_INSTANTS);
    match edges.iter().take(tried).find(|edge| then(**edge) != now) {
        Some(change) => NextChange::At(*change),
        None if tried < edges.len() => NextChange::Unknown,
        None => NextChange::Never,
    }
}

/// Only instants at which some window or date edge passes can change an answer: each event or date value, moved by each
/// duration of the definitions either way, and the microsecond after, since some edges are still inside. Those after `at`.
pub(super) fn edges(definitions: &[Expr], profile: &Profile, at: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let (instants, spans) = looked_at(definitions, profile);
    let tick = TimeDelta::microseconds(1);
    let mut moves = BTreeSet::from([TimeDelta::zero()]);
    for span in spans {
        moves.extend([TimeDelta::microseconds(span.micros()), -TimeDelta::microseconds(span.micros())]);
    }
    let edges = instants.iter().flat_map(|instant| moves.iter().filter_map(|by| instant.checked_add_signed(*by)));
    edges.flat_map(|edge| [Some(edge), edge.checked_add_signed(tick)]).flatten().filter(|edge| *edge > at).collect()
}

/// The instants of a history that definitions may look at, and their durations.
fn looked_at(definitions: &[Expr], profile: &Profile) -> (BTreeSet<DateTime<Utc>>, BTreeSet<Span>) {
    let (mut spans, mut names) = (BTreeSet::new(), BTreeSet::new());
    let (mut traits, mut properties, mut contexts) = (BTreeSet::<&Path>::new(), BTreeSet::new(), BTreeSet::new());
    let mut comparisons = Vec::new();
    definitions.iter().for_each(|definition| visit::comparisons(definition, &mut |found| comparisons.push(found)));
    for comparison in comparisons {
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
    }
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
