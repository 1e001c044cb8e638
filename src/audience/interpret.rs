//! Is this one person in? The meaning of a definition, straight from `docs/audience-language.md`, over a history in memory.
//!
//! Slow and plain on purpose: it is the oracle that the SQL is held against, and what `explain` shows. It never reads a
//! clock: the instant is a parameter, and events after it do not exist.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::BigDecimal;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;

use super::{
    ComputedTrait,
    ast::{
        As, Comparator, Comparison, EventValue, Expr, Filter, Literal, Operand, Path, Reducer, Scalar, Segment, Source,
        Span, Stream,
    },
    value::{Number, Value, walk},
};
use crate::{js, limits};

/// All that is known of one person.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// An object, with the values of computed traits by their keys, as `trait(…)` reads them.
    pub traits: Json,
    /// In any order.
    pub events: Vec<Event>,
    /// By audience key; every audience that exists has its entry.
    pub memberships: BTreeMap<String, bool>,
}

/// One thing that a person did.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub occurred_at: DateTime<Utc>,
    pub message_id: String,
    pub source_id: Option<String>,
    pub properties: Json,
    pub context: Json,
}

/// Whether the profile satisfies the definition at instant `at`.
///
/// `ANY` and `ALL` see an account of this one user; events of an `entity(…)` do not exist.
pub fn holds(expr: &Expr, profile: &Profile, at: DateTime<Utc>) -> bool {
    Scope::new(profile, at).holds(expr)
}

/// Whether values satisfy a comparator that has literals alone on its right.
pub fn compares(values: &[Value], comparator: &Comparator, at: DateTime<Utc>) -> bool {
    Scope::new(&Profile::default(), at).compares(values, comparator)
}

/// What a computed trait is for the profile at instant `at`, as JSON text, and how many events it was made of. There is no
/// value without an event that passes its filters; an empty list is none either.
pub fn value(computed: &ComputedTrait, profile: &Profile, at: DateTime<Utc>) -> (Option<String>, usize) {
    let scope = Scope::new(profile, at);
    let events = scope.events(&computed.stream).len();
    let value = scope.reduce(&computed.stream, &computed.reducer).filter(|_| events > 0);
    let word = matches!(computed.reducer, Reducer::Mode { kind: As::Number, .. });
    let json = value.and_then(|value| match value {
        Value::Array(mut items) => {
            items.truncate(limits::UNIQUE_ITEMS);
            let items: Vec<_> = items.iter().filter_map(json).collect();
            (!items.is_empty()).then(|| format!("[{}]", items.join(",")))
        }
        value if word => value.number().map(|number| number.text()).or_else(|| json(&value)),
        value => json(&value),
    });
    (json, events)
}

/// The events that a computed trait is made of, by time.
pub fn events<'p>(computed: &ComputedTrait, profile: &'p Profile, at: DateTime<Utc>) -> Vec<&'p Event> {
    Scope::new(profile, at).events(&computed.stream)
}

fn json(value: &Value) -> Option<String> {
    let text = value.text()?;
    match value {
        Value::Number(_) | Value::Bool(_) => Some(text),
        _ => {
            let mut quoted = String::new();
            js::push_string(&mut quoted, &text);
            Some(quoted)
        }
    }
}

/// Where an expression is evaluated: for a profile, or within `where(…)` for one event of it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'p> {
    profile: &'p Profile,
    at: DateTime<Utc>,
    event: Option<&'p Event>,
    parent: Option<&'p Event>,
}

impl<'p> Scope<'p> {
    pub(super) fn new(profile: &'p Profile, at: DateTime<Utc>) -> Self {
        Scope { profile, at, event: None, parent: None }
    }

    pub(super) fn holds(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Or(terms) => terms.iter().any(|term| self.holds(term)),
            Expr::And(terms) => terms.iter().all(|term| self.holds(term)),
            Expr::Not(inner) => !self.holds(inner),
            Expr::Any(inner) | Expr::All(inner) => self.holds(inner),
            Expr::Compare(comparison) => self.compare(comparison),
        }
    }

    pub(super) fn compare(&self, comparison: &Comparison) -> bool {
        self.compares(&self.values(&comparison.left), &comparison.comparator)
    }

    fn compares(&self, lefts: &[Value], comparator: &Comparator) -> bool {
        // Any value on the left against any on the right: there is one each, but for a `$` in a path.
        let any = |operand: &Operand, test: &dyn Fn(&Value, &Value) -> bool| {
            let rights = self.rights(operand);
            lefts.iter().any(|left| rights.iter().any(|right| test(left, right)))
        };
        let any_of = |operands: &[Operand], test: &dyn Fn(&Value, &Value) -> bool| {
            operands.iter().any(|operand| any(operand, test))
        };
        let present = |operands: &[Operand]| operands.iter().all(|operand| !self.rights(operand).is_empty());
        let instants = |test: &dyn Fn(DateTime<Utc>) -> bool| lefts.iter().filter_map(Value::instant).any(test);
        match comparator {
            Comparator::Exists => !lefts.is_empty(),
            Comparator::Absent => lefts.is_empty(),
            Comparator::Equals(right) => any(right, &equal),
            Comparator::Differs(right) => any(right, &|left, right| !equal(left, right)),
            Comparator::GreaterThan(right) => any(right, &|left, right| order(left, right).is_some_and(|o| o.is_gt())),
            Comparator::AtLeast(right) => any(right, &|left, right| order(left, right).is_some_and(|o| o.is_ge())),
            Comparator::LessThan(right) => any(right, &|left, right| order(left, right).is_some_and(|o| o.is_lt())),
            Comparator::AtMost(right) => any(right, &|left, right| order(left, right).is_some_and(|o| o.is_le())),
            Comparator::OneOf(rights) => any_of(rights, &equal),
            Comparator::NoneOf(rights) => present(rights) && !any_of(rights, &equal),
            Comparator::Contains(rights) => any_of(rights, &|left, right| search(left, right, |l, r| l.contains(r))),
            Comparator::Omits(right) => {
                present(std::slice::from_ref(right))
                    && !any(right, &|left, right| search(left, right, |l, r| l.contains(r)))
            }
            Comparator::StartsWith(right) => any(right, &|left, right| search(left, right, |l, r| l.starts_with(r))),
            Comparator::EndsWith(right) => any(right, &|left, right| search(left, right, |l, r| l.ends_with(r))),
            Comparator::BeforeDate(right) => any(right, &|left, right| dates(left, right).is_some_and(|(l, r)| l < r)),
            Comparator::AfterDate(right) => any(right, &|left, right| dates(left, right).is_some_and(|(l, r)| l > r)),
            Comparator::WithinLast(d) => instants(&|v| self.at - length(*d) <= v && v <= self.at),
            Comparator::WithinNext(d) => instants(&|v| self.at <= v && v <= self.at + length(*d)),
            Comparator::BeforeLast(d) => instants(&|v| v <= self.at - length(*d)),
            Comparator::AfterNext(d) => instants(&|v| v >= self.at + length(*d)),
        }
    }

    /// What a right side is compared as: scalars alone. None of them means that the right side is missing.
    pub(super) fn rights(&self, operand: &Operand) -> Vec<Value> {
        let mut values = match operand {
            Operand::Literal(Literal::Number(number)) => vec![Value::Number(Number::new(number.clone()))],
            Operand::Literal(Literal::Text(text)) => vec![Value::Text(text.clone())],
            Operand::Literal(Literal::Instant(instant)) => vec![Value::Instant(*instant)],
            Operand::Scalar(scalar) => self.values(scalar),
        };
        values.retain(Value::is_scalar);
        values
    }

    /// The values of an expression; none means missing. More than one only where a path has a `$`.
    pub(super) fn values(&self, scalar: &Scalar) -> Vec<Value> {
        match scalar {
            Scalar::Trait(path) => match path.0.as_slice() {
                [Segment::Key(key)] if self.profile.memberships.contains_key(key) => {
                    vec![Value::Text(self.profile.memberships[key].to_string())]
                }
                _ => read(&self.profile.traits, path),
            },
            Scalar::Computed(path) => read(&self.profile.traits, path),
            Scalar::Property(path) => self.event.map_or_else(Vec::new, |event| read(&event.properties, path)),
            Scalar::ParentProperty(path) => self.parent.map_or_else(Vec::new, |event| read(&event.properties, path)),
            Scalar::Context(path) => self.event.map_or_else(Vec::new, |event| context(event, path)),
            Scalar::Reduce(stream, reducer) => self.reduce(stream, reducer).into_iter().collect(),
        }
    }

    /// The events of a stream, by time, then message id.
    pub(super) fn events(&self, stream: &Stream) -> Vec<&'p Event> {
        let Source::Event(name) = &stream.source else { return Vec::new() };
        let mut events: Vec<_> = self
            .profile
            .events
            .iter()
            .filter(|event| event.name == *name && event.occurred_at <= self.at)
            .filter(|event| stream.filters.iter().all(|filter| self.admits(filter, event)))
            .collect();
        events.sort_by(|a, b| (a.occurred_at, &a.message_id).cmp(&(b.occurred_at, &b.message_id)));
        for filter in &stream.filters {
            if let Filter::ExpiresAfter(d) = filter {
                // The current or most recent session: back from the last event, to the first longer silence.
                let silence = |pair: &[&Event]| pair[1].occurred_at - pair[0].occurred_at > length(*d);
                let start = events.windows(2).rposition(silence).map_or(0, |last| last + 1);
                events.drain(..start);
            }
        }
        events
    }

    fn admits(&self, filter: &Filter, event: &'p Event) -> bool {
        let when = event.occurred_at;
        match filter {
            Filter::Where(condition) => Scope { event: Some(event), parent: self.event, ..*self }.holds(condition),
            Filter::Within(d) => self.at - length(*d) < when,
            Filter::WithinParent(d) => {
                self.event.is_some_and(|parent| parent.occurred_at < when && when <= parent.occurred_at + length(*d))
            }
            Filter::Between { near, far } => self.at - length(*far) < when && when <= self.at - length(*near),
            Filter::ExpiresAfter(_) => true,
            Filter::ExcludeSources(sources) => event.source_id.as_ref().is_none_or(|source| !sources.contains(source)),
        }
    }

    fn reduce(&self, stream: &Stream, reducer: &Reducer) -> Option<Value> {
        let events = self.events(stream);
        let numbers = |value| scalars(&events, value).filter_map(|value| value.number()).collect::<Vec<_>>();
        let texts = |value| scalars(&events, value).filter_map(|value| value.text());
        let count = |n: usize| Some(Value::Number(Number::new(BigDecimal::from(n as u64))));
        match reducer {
            Reducer::Count => count(events.len()),
            Reducer::Sum(value) => Some(Value::Number(Number::new(sum(&numbers(value))))),
            Reducer::Avg(value) => {
                let numbers = numbers(value);
                (!numbers.is_empty()).then(|| Value::Number(Number::average(sum(&numbers), numbers.len() as u64)))
            }
            Reducer::Min(value, As::Number) => numbers(value).into_iter().min().map(Value::Number),
            Reducer::Max(value, As::Number) => numbers(value).into_iter().max().map(Value::Number),
            Reducer::Min(value, _) => texts(value).min().map(Value::Text),
            Reducer::Max(value, _) => texts(value).max().map(Value::Text),
            Reducer::Mode { value, kind, min_frequency } => {
                let mut counts = BTreeMap::<String, u32>::new();
                let mut see = |text: String| *counts.entry(text).or_default() += 1;
                if *kind == As::Array {
                    events.iter().filter_map(|event| whole(event, value)).for_each(&mut see);
                } else {
                    texts(value).for_each(&mut see);
                }
                // Of equally frequent ones the first by bytes: the map is ordered, and `rev` makes `max_by_key` keep it.
                let (text, frequency) = counts.into_iter().rev().max_by_key(|(_, frequency)| *frequency)?;
                (frequency >= *min_frequency).then_some(Value::Text(text))
            }
            Reducer::First(value) => scalars(&events, value).next(),
            Reducer::Last(value) => scalars(&events, value).last(),
            Reducer::Unique(value) => {
                let unique: BTreeSet<_> = texts(value).collect();
                Some(Value::Array(unique.into_iter().map(Value::Text).collect()))
            }
            Reducer::UniqueCount(value) => count(texts(value).collect::<BTreeSet<_>>().len()),
        }
    }
}

fn length(span: Span) -> TimeDelta {
    TimeDelta::microseconds(span.micros())
}

fn sum(numbers: &[Number]) -> BigDecimal {
    numbers.iter().map(Number::decimal).sum()
}

fn read(json: &Json, path: &Path) -> Vec<Value> {
    walk(json, path).into_iter().filter_map(Value::from_json).collect()
}

fn context(event: &Event, path: &Path) -> Vec<Value> {
    match path.0.as_slice() {
        [Segment::Key(key)] if key == "timestamp" => vec![Value::Instant(event.occurred_at)],
        _ => read(&event.context, path),
    }
}

/// What one event holds for a reducer.
fn held(event: &Event, value: &EventValue) -> Vec<Value> {
    match value {
        EventValue::Property(path) => read(&event.properties, path),
        EventValue::Context(path) => context(event, path),
    }
}

/// The scalars that events hold for a reducer, in the events' order, then the array's.
fn scalars<'e>(events: &'e [&Event], value: &'e EventValue) -> impl Iterator<Item = Value> + 'e {
    events.iter().flat_map(move |event| held(event, value)).filter(Value::is_scalar)
}

/// `as array`: all scalars that one event holds, arrays opened, as one text with commas.
fn whole(event: &Event, value: &EventValue) -> Option<String> {
    let texts: Vec<_> = held(event, value)
        .into_iter()
        .flat_map(|value| match value {
            Value::Array(entries) => entries,
            value => vec![value],
        })
        .filter_map(|value| value.text())
        .collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// The right side decides the type. An array on the left equals what one of its entries equals.
fn equal(left: &Value, right: &Value) -> bool {
    match left {
        Value::Array(entries) => entries.iter().any(|entry| equal(entry, right)),
        Value::Object => false,
        left => order(left, right).is_some_and(|order| order.is_eq()),
    }
}

/// How two scalars compare, as the right side's type; `None` if the left has no value of that type.
fn order(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match right {
        Value::Number(right) => Some(left.number()?.cmp(right)),
        Value::Instant(right) => Some(left.instant()?.cmp(right)),
        right => Some(left.text()?.cmp(&right.text()?)),
    }
}

fn search(left: &Value, right: &Value, test: fn(&str, &str) -> bool) -> bool {
    match left {
        Value::Array(entries) => entries.iter().any(|entry| search(entry, right, test)),
        left => left.text().zip(right.text()).is_some_and(|(left, right)| test(&left, &right)),
    }
}

fn dates(left: &Value, right: &Value) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    left.instant().zip(right.instant())
}
