//! Random audience definitions, for every property test over them.
//!
//! Names, values and durations come from the same small pools as those of `histories`, so that definitions hit what
//! histories hold. Trees are such as the parser builds: well typed, and within its limits.

use bigdecimal::BigDecimal;
use proptest::{prelude::*, sample::select, strategy::Union};
use rollcall::audience::{ComputedTrait, ast::*};

use super::histories::{self, AUDIENCES, CONTEXTS, EVENTS, PATHS, SOURCES, TRAITS};

/// An audience of users: no `ANY`, `ALL` or `entity`. With references to [`AUDIENCES`], within `where(…)` too.
pub fn definition() -> impl Strategy<Value = Expr> {
    expr(comparison(0, 0, true).boxed())
}

/// As [`definition`], without references to audiences: it can be asked of the store as it is.
pub fn definition_without_references() -> impl Strategy<Value = Expr> {
    expr(comparison(0, 0, false).boxed())
}

/// A single comparison, as a condition is, without references.
pub fn condition() -> impl Strategy<Value = Comparison> {
    comparison(0, 0, false)
}

/// A single comparison of traits and memberships alone: cheap to make and to evaluate, so that value rules are tried often.
pub fn comparison_of_traits() -> impl Strategy<Value = Comparison> {
    comparison(0, 3, true)
}

/// A computed trait of users: every reducer, every filter, some with sessions.
pub fn computed_trait() -> impl Strategy<Value = ComputedTrait> {
    let lists = event_values().into_iter().map(Reducer::Unique).collect::<Vec<_>>();
    let reducer = prop_oneof![2 => counted(), 2 => chosen(), 1 => select(lists)];
    let session = prop_oneof![2 => Just(None), 1 => select(spans()).prop_map(Some)];
    (stream(0, 0, false), reducer, session).prop_map(|(mut stream, reducer, session)| {
        stream.filters.extend(session.map(Filter::ExpiresAfter));
        ComputedTrait { stream, reducer }
    })
}

fn expr(leaf: BoxedStrategy<Comparison>) -> BoxedStrategy<Expr> {
    leaf.prop_map(Expr::Compare)
        .prop_recursive(2, 5, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| Expr::Not(inner.into())),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
                prop::collection::vec(inner, 2..4).prop_map(Expr::Or),
            ]
        })
        .boxed()
}

/// `enclosing`: in how many events' `where(…)` this stands; `depth`: how many streams it is a part of.
fn comparison(enclosing: usize, depth: usize, references: bool) -> BoxedStrategy<Comparison> {
    let any = scalar(enclosing, depth, references);
    let odd = (any.clone(), comparator(any.clone())).prop_map(comparison_of);
    // Most comparisons make sense: numbers of numbers, dates of dates, words of words.
    let (words, numbers, dates) = (of_words(any), of_numbers(), of_dates());
    let plain = |kind| plain_scalar(kind, enclosing, references);
    let mut kinds = vec![
        (2, odd.boxed()),
        (2, (plain(Kind::Word), words.clone()).prop_map(comparison_of).boxed()),
        (1, (plain(Kind::Number), numbers.clone()).prop_map(comparison_of).boxed()),
        (1, (plain(Kind::Date), dates.clone()).prop_map(comparison_of).boxed()),
    ];
    if depth < 3 {
        let stream = stream(enclosing, depth, references);
        let mut reduced = |weight, reducer: BoxedStrategy<Reducer>, comparator: &BoxedStrategy<Comparator>| {
            let left = (stream.clone(), reducer).prop_map(|(stream, reducer)| Scalar::Reduce(stream.into(), reducer));
            kinds.push((weight, (left, comparator.clone()).prop_map(comparison_of).boxed()));
        };
        let weight = if depth == 0 { 3 } else { 1 };
        reduced(2 * weight, counted(), &numbers);
        reduced(weight, chosen(), &words);
        reduced(1, chosen(), &dates);
    }
    Union::new_weighted(kinds).boxed()
}

fn comparison_of((left, comparator): (Scalar, Comparator)) -> Comparison {
    Comparison { left, comparator }
}

fn path(written: &'static str) -> Path {
    let segment = |(n, name): (usize, &str)| match name {
        "$" if n > 0 => Segment::Each,
        name => Segment::Key(name.replace('·', ".")),
    };
    Path(written.split('.').enumerate().map(segment).collect())
}

fn scalars(paths: &[&'static str], times: usize, of: fn(Path) -> Scalar) -> Vec<Scalar> {
    paths.repeat(times).into_iter().map(|written| of(path(written))).collect()
}

/// What the values of a scalar mostly are.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Word,
    Number,
    Date,
}

/// A scalar that is no reduction of events and mostly holds such values.
fn plain_scalar(kind: Kind, enclosing: usize, references: bool) -> impl Strategy<Value = Scalar> {
    let (traits, properties): (&[_], &[_]) = match kind {
        Kind::Word => (
            &["plan", "a·b", "address.city", "tags", "tags.$"],
            &["sku", "items", "items.$", "products.$.sku", "deep.er", "$"],
        ),
        Kind::Number => (&["score"], &["revenue", "items.$"]),
        Kind::Date => (&["renews_at"], &["at"]),
    };
    let mut pool = scalars(traits, 1, Scalar::Trait);
    if references && matches!(kind, Kind::Word) {
        pool.extend(scalars(AUDIENCES, 1, Scalar::Trait));
    }
    if enclosing >= 1 {
        pool.extend(scalars(properties, 3, Scalar::Property));
        if matches!(kind, Kind::Date) {
            pool.extend(scalars(&["timestamp"], 3, Scalar::Context));
        }
    }
    select(pool)
}

/// Any scalar whatever.
fn scalar(enclosing: usize, depth: usize, references: bool) -> BoxedStrategy<Scalar> {
    let mut pool = scalars(TRAITS, 1, Scalar::Trait);
    if references {
        pool.extend(scalars(AUDIENCES, 2, Scalar::Trait));
    }
    if enclosing >= 1 {
        pool.extend(scalars(PATHS, 2, Scalar::Property));
        pool.extend(scalars(CONTEXTS, 1, Scalar::Context));
    }
    if enclosing >= 2 {
        pool.extend(scalars(PATHS, 2, Scalar::ParentProperty));
    }
    if depth == 3 {
        return select(pool).boxed();
    }
    let reduce = (stream(enclosing, depth, references), prop_oneof![counted(), chosen()])
        .prop_map(|(stream, reducer)| Scalar::Reduce(stream.into(), reducer));
    prop_oneof![2 => select(pool), 1 => reduce].boxed()
}

fn stream(enclosing: usize, depth: usize, references: bool) -> BoxedStrategy<Stream> {
    let spans = spans();
    let mut windows: Vec<Filter> = spans.iter().copied().map(Filter::Within).collect();
    for near in &spans {
        let longer = spans.iter().filter(|far| near.micros() < far.micros()).step_by(3);
        windows.extend(longer.map(|far| Filter::Between { near: *near, far: *far }));
    }
    if enclosing >= 1 {
        windows.extend(spans.iter().copied().map(Filter::WithinParent).cycle().take(windows.len()).collect::<Vec<_>>());
    }
    let source = SOURCES.iter().map(|source| Filter::ExcludeSources(vec![source.to_string()]));
    windows.extend(source.chain([Filter::ExcludeSources(SOURCES.iter().map(|source| source.to_string()).collect())]));
    let mut filters = vec![(1, select(windows).boxed())];
    if depth < 3 {
        let condition = comparison(enclosing + 1, depth + 1, references);
        let condition = if depth == 0 { expr(condition) } else { condition.prop_map(Expr::Compare).boxed() };
        filters.push((1, condition.prop_map(Filter::Where).boxed()));
    }
    let name = select([&[EVENTS[0]; 3], EVENTS].concat());
    (name, prop::collection::vec(Union::new_weighted(filters), 0..3))
        .prop_map(|(name, filters)| Stream { source: Source::Event(name.to_owned()), filters })
        .boxed()
}

fn event_values() -> Vec<EventValue> {
    let context = CONTEXTS.iter().map(|written| EventValue::Context(path(written)));
    PATHS.iter().map(|written| EventValue::Property(path(written))).chain(context).collect()
}

/// A reducer that gives a number.
fn counted() -> BoxedStrategy<Reducer> {
    let mut pool = vec![Reducer::Count; 20];
    for value in event_values() {
        pool.extend([Reducer::Sum(value.clone()), Reducer::Avg(value.clone()), Reducer::UniqueCount(value.clone())]);
        pool.extend([Reducer::Min(value.clone(), As::Number), Reducer::Max(value, As::Number)]);
    }
    select(pool).boxed()
}

/// A reducer that gives one of the values.
fn chosen() -> BoxedStrategy<Reducer> {
    let mut pool = Vec::new();
    for value in event_values() {
        pool.extend([Reducer::First(value.clone()), Reducer::Last(value.clone())]);
        pool.extend([Reducer::Min(value.clone(), As::String), Reducer::Max(value.clone(), As::String)]);
        for (kind, min_frequency) in [(As::Number, 1), (As::String, 1), (As::String, 2), (As::Array, 1)] {
            pool.push(Reducer::Mode { value: value.clone(), kind, min_frequency });
        }
    }
    select(pool).boxed()
}

/// Lengths that meet the edges of histories, some of them the same in two units.
fn spans() -> Vec<Span> {
    let units = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week];
    let few = units.into_iter().flat_map(|unit| (1..4).map(move |amount| Span { amount, unit }));
    let odd = [(7, Unit::Day), (24, Unit::Hour), (60, Unit::Minute), (30, Unit::Day)];
    few.chain(odd.map(|(amount, unit)| Span { amount, unit })).collect()
}

fn numbers() -> Vec<Literal> {
    let whole = (-2..6i64).map(BigDecimal::from);
    let hundredths = (-300..300i64).step_by(25).map(|n| (BigDecimal::from(n) / BigDecimal::from(100)).normalized());
    whole.clone().chain(whole).chain(hundredths).map(Literal::Number).collect()
}

fn texts() -> Vec<Literal> {
    histories::texts().into_iter().map(|text| Literal::Text(text.to_owned())).collect()
}

fn instants() -> Vec<Literal> {
    histories::instants().into_iter().step_by(3).map(Literal::Instant).collect()
}

fn operands(literals: Vec<Literal>) -> BoxedStrategy<Operand> {
    select(literals.into_iter().map(Operand::Literal).collect::<Vec<_>>()).boxed()
}

type Make<T> = fn(T) -> Comparator;
const EQUALITY: &[Make<Operand>] = &[Comparator::Equals, Comparator::Differs];
const ORDER: &[Make<Operand>] =
    &[Comparator::GreaterThan, Comparator::AtLeast, Comparator::LessThan, Comparator::AtMost];
const SEARCH: &[Make<Operand>] = &[Comparator::Omits, Comparator::StartsWith, Comparator::EndsWith];
const DATE: &[Make<Operand>] = &[Comparator::BeforeDate, Comparator::AfterDate];
const RELATIVE: &[Make<Span>] =
    &[Comparator::WithinLast, Comparator::WithinNext, Comparator::BeforeLast, Comparator::AfterNext];
const SETS: &[Make<Vec<Operand>>] = &[Comparator::OneOf, Comparator::NoneOf];

fn made<T: std::fmt::Debug + Clone + 'static>(
    makers: Vec<Make<T>>,
    of: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Comparator> {
    (select(makers), of).prop_map(|(make, of)| make(of)).boxed()
}

fn of_numbers() -> BoxedStrategy<Comparator> {
    let few = (1..4i64).map(|n| Literal::Number(n.into())).collect();
    made([ORDER, &[Comparator::AtLeast as Make<Operand>; 4], EQUALITY].concat(), operands(few))
}

fn of_dates() -> BoxedStrategy<Comparator> {
    prop_oneof![made(RELATIVE.to_vec(), select(spans())), made(DATE.to_vec(), operands(instants()))].boxed()
}

fn of_words(scalar: BoxedStrategy<Scalar>) -> BoxedStrategy<Comparator> {
    let word = operands(texts());
    let several = prop::collection::vec(word.clone(), 1..4);
    let with_scalar = (word.clone(), scalar.clone()).prop_map(|(word, scalar)| vec![word, Operand::Scalar(scalar)]);
    prop_oneof![
        4 => made([EQUALITY, SEARCH].concat(), word),
        2 => made([SETS, &[Comparator::Contains]].concat(), several),
        1 => made(SETS.to_vec(), with_scalar),
        2 => made([EQUALITY, SEARCH].concat(), scalar.prop_map(Operand::Scalar)),
        1 => select(vec![Comparator::Exists, Comparator::Absent]),
    ]
    .boxed()
}

/// Any comparator with any operand that the parser takes.
fn comparator(scalar: BoxedStrategy<Scalar>) -> BoxedStrategy<Comparator> {
    let with = |literals: Vec<Vec<Literal>>| {
        prop_oneof![2 => operands(literals.concat()), 1 => scalar.clone().prop_map(Operand::Scalar)].boxed()
    };
    let operand = with(vec![numbers(), texts(), instants()]);
    let searched = with(vec![numbers(), texts()]);
    let dated = with(vec![instants()]);
    prop_oneof![
        6 => made([EQUALITY, ORDER].concat(), operand.clone()),
        2 => made(SETS.to_vec(), prop::collection::vec(operand, 1..4)),
        2 => made(SEARCH.to_vec(), searched.clone()),
        1 => prop::collection::vec(searched, 1..4).prop_map(Comparator::Contains),
        1 => made(DATE.to_vec(), dated),
        1 => made(RELATIVE.to_vec(), select(spans())),
        1 => select(vec![Comparator::Exists, Comparator::Absent]),
    ]
    .boxed()
}
