//! Random audience definitions, for every property test over them.
//!
//! Names, values and durations come from the same small pools as those of `histories`, so that definitions hit what
//! histories hold. Trees are such as the parser builds: well typed, and within its limits.

use bigdecimal::BigDecimal;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::{prelude::*, sample::select};
use rollcall::audience::ast::*;

use super::histories::{self, AUDIENCES, EVENTS, PATHS, SOURCES, TRAITS, now};

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
    let odd =
        (any.clone(), comparator(any.clone())).prop_map(|(left, comparator)| Comparison { left, comparator }).boxed();
    // Most comparisons make sense: numbers of numbers, dates of dates, words of words.
    let few = (1..4i64).prop_map(|n| Operand::Literal(Literal::Number(n.into())));
    let much = prop_oneof![
        4 => few.clone().prop_map(Comparator::AtLeast),
        1 => few.clone().prop_map(Comparator::LessThan),
        1 => few.clone().prop_map(Comparator::AtMost),
        1 => few.clone().prop_map(Comparator::GreaterThan),
        1 => few.prop_map(Comparator::Equals),
    ]
    .boxed();
    let when = prop_oneof![
        span().prop_map(Comparator::WithinLast),
        span().prop_map(Comparator::WithinNext),
        span().prop_map(Comparator::BeforeLast),
        span().prop_map(Comparator::AfterNext),
        instant().prop_map(|at| Comparator::BeforeDate(Operand::Literal(Literal::Instant(at)))),
        instant().prop_map(|at| Comparator::AfterDate(Operand::Literal(Literal::Instant(at)))),
    ]
    .boxed();
    let word = || text().prop_map(Operand::Literal);
    let which = prop_oneof![
        word().prop_map(Comparator::Equals),
        word().prop_map(Comparator::Differs),
        prop::collection::vec(word(), 1..4).prop_map(Comparator::OneOf),
        prop::collection::vec(word(), 1..4).prop_map(Comparator::Contains),
        prop::collection::vec(word(), 1..4).prop_map(Comparator::NoneOf),
        any.prop_map(|scalar| Comparator::Equals(Operand::Scalar(scalar))),
        Just(Comparator::Exists),
    ]
    .boxed();
    let plain = (plain_scalar(enclosing, references), which.clone(), much.clone(), when.clone());
    let plain = plain
        .prop_map(|((left, kind), which, much, when)| {
            let comparator = match kind {
                Kind::Word => which,
                Kind::Number => much,
                Kind::Date => when,
            };
            Comparison { left, comparator }
        })
        .boxed();
    if depth == 3 {
        return prop_oneof![1 => odd, 3 => plain].boxed();
    }
    let reduced = (stream(enclosing, depth, references), reducer(), which, much, when);
    let reduced = reduced.prop_map(|(stream, reducer, which, much, when)| {
        let comparator = match &reducer {
            Reducer::Min(_, As::String) | Reducer::Max(_, As::String) | Reducer::Mode { .. } => which,
            Reducer::First(EventValue::Context(_)) | Reducer::Last(EventValue::Context(_)) => when,
            _ => much,
        };
        Comparison { left: Scalar::Reduce(stream.into(), reducer), comparator }
    });
    let weight = if depth == 0 { 6 } else { 2 };
    prop_oneof![2 => odd, 3 => plain, weight => reduced].boxed()
}

/// What the values of a scalar mostly are.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Word,
    Number,
    Date,
}

/// A scalar that is no reduction of events, and what it mostly holds.
fn plain_scalar(enclosing: usize, references: bool) -> BoxedStrategy<(Scalar, Kind)> {
    let trait_of = |path: &'static [&'static str], kind| {
        self::path(path).prop_map(move |path| (Scalar::Trait(path), kind)).boxed()
    };
    let of_event = |path: &'static [&'static str], kind| {
        self::path(path).prop_map(move |path| (Scalar::Property(path), kind)).boxed()
    };
    let mut kinds = vec![
        (2, trait_of(&["plan", "a·b", "address.city", "tags", "tags.$"], Kind::Word)),
        (1, trait_of(&["score"], Kind::Number)),
        (1, trait_of(&["renews_at"], Kind::Date)),
    ];
    if references {
        kinds.push((1, trait_of(AUDIENCES, Kind::Word)));
    }
    if enclosing >= 1 {
        kinds.push((6, of_event(&["sku", "items", "items.$", "products.$.sku", "deep.er", "$"], Kind::Word)));
        kinds.push((4, of_event(&["revenue", "items.$"], Kind::Number)));
        kinds.push((2, of_event(&["at"], Kind::Date)));
        kinds.push((2, path(&["timestamp"]).prop_map(|path| (Scalar::Context(path), Kind::Date)).boxed()));
    }
    proptest::strategy::Union::new_weighted(kinds).boxed()
}

fn path(first: &'static [&'static str]) -> impl Strategy<Value = Path> + Clone {
    select(first).prop_map(|path| {
        Path(
            path.split('.')
                .enumerate()
                .map(
                    |(n, name)| {
                        if name == "$" && n > 0 { Segment::Each } else { Segment::Key(name.replace('·', ".")) }
                    },
                )
                .collect(),
        )
    })
}

fn scalar(enclosing: usize, depth: usize, references: bool) -> BoxedStrategy<Scalar> {
    let mut kinds = vec![(2, path(TRAITS).prop_map(Scalar::Trait).boxed())];
    if references {
        kinds.push((1, path(AUDIENCES).prop_map(Scalar::Trait).boxed()));
    }
    if enclosing >= 1 {
        kinds.push((4, path(PATHS).prop_map(Scalar::Property).boxed()));
        kinds.push((1, path(&["timestamp", "page.url"]).prop_map(Scalar::Context).boxed()));
    }
    if enclosing >= 2 {
        kinds.push((3, path(PATHS).prop_map(Scalar::ParentProperty).boxed()));
    }
    if depth < 3 {
        let weight = if depth == 0 { 6 } else { 2 };
        let reduce = (stream(enclosing, depth, references), reducer())
            .prop_map(|(stream, reducer)| Scalar::Reduce(stream.into(), reducer));
        kinds.push((weight, reduce.boxed()));
    }
    proptest::strategy::Union::new_weighted(kinds).boxed()
}

fn stream(enclosing: usize, depth: usize, references: bool) -> BoxedStrategy<Stream> {
    let mut filters = vec![
        (2, span().prop_map(Filter::Within).boxed()),
        (1, (span(), span()).prop_filter_map("one bound twice", between).boxed()),
        (
            1,
            prop::collection::vec(select(SOURCES).prop_map(str::to_owned), 1..3)
                .prop_map(Filter::ExcludeSources)
                .boxed(),
        ),
    ];
    if depth < 3 {
        let condition = comparison(enclosing + 1, depth + 1, references);
        let condition = if depth == 0 { expr(condition) } else { condition.prop_map(Expr::Compare).boxed() };
        filters.push((4, condition.prop_map(Filter::Where).boxed()));
    }
    if enclosing >= 1 {
        filters.push((4, span().prop_map(Filter::WithinParent).boxed()));
    }
    let filter = proptest::strategy::Union::new_weighted(filters);
    (prop_oneof![2 => Just(EVENTS[0]), 1 => select(EVENTS)], prop::collection::vec(filter, 0..3))
        .prop_map(|(name, filters)| Stream { source: Source::Event(name.to_owned()), filters })
        .boxed()
}

fn between((a, b): (Span, Span)) -> Option<Filter> {
    match a.micros().cmp(&b.micros()) {
        std::cmp::Ordering::Less => Some(Filter::Between { near: a, far: b }),
        std::cmp::Ordering::Greater => Some(Filter::Between { near: b, far: a }),
        std::cmp::Ordering::Equal => None,
    }
}

fn reducer() -> BoxedStrategy<Reducer> {
    let value = prop_oneof![
        6 => path(PATHS).prop_map(EventValue::Property),
        1 => path(&["timestamp", "page.url"]).prop_map(EventValue::Context),
    ];
    let kind = select(&[As::Number, As::String][..]);
    prop_oneof![
        4 => Just(Reducer::Count),
        1 => value.clone().prop_map(Reducer::Sum),
        1 => value.clone().prop_map(Reducer::Avg),
        1 => (value.clone(), kind.clone()).prop_map(|(value, kind)| Reducer::Min(value, kind)),
        1 => (value.clone(), kind).prop_map(|(value, kind)| Reducer::Max(value, kind)),
        1 => (value.clone(), select(&[As::Number, As::String, As::Array][..]), 1..3u32)
            .prop_map(|(value, kind, min_frequency)| Reducer::Mode { value, kind, min_frequency }),
        1 => value.clone().prop_map(Reducer::First),
        1 => value.clone().prop_map(Reducer::Last),
        1 => value.prop_map(Reducer::UniqueCount),
    ]
    .boxed()
}

fn span() -> impl Strategy<Value = Span> + Clone {
    let unit = select(&[Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week][..]);
    prop_oneof![
        (1..4u32, unit).prop_map(|(amount, unit)| Span { amount, unit }),
        // The same length in two units, and lengths that meet the edges of histories.
        select(&[(7, Unit::Day), (24, Unit::Hour), (60, Unit::Minute), (30, Unit::Day)][..])
            .prop_map(|(amount, unit)| Span { amount, unit }),
    ]
}

fn number() -> impl Strategy<Value = BigDecimal> + Clone {
    prop_oneof![
        3 => (-2..6i64).prop_map(BigDecimal::from),
        1 => (-300..300i64).prop_map(|n| (BigDecimal::from(n) / BigDecimal::from(100)).normalized()),
    ]
}

fn literal() -> impl Strategy<Value = Literal> + Clone {
    prop_oneof![number().prop_map(Literal::Number), text(), instant().prop_map(Literal::Instant)]
}

fn text() -> impl Strategy<Value = Literal> + Clone {
    histories::text().prop_map(|text| Literal::Text(text.to_owned()))
}

fn instant() -> impl Strategy<Value = DateTime<Utc>> + Clone {
    (-40..40i64, select(&[0, 1, 3_600_000_000][..]))
        .prop_map(|(days, micros)| now() + TimeDelta::days(days) + TimeDelta::microseconds(micros))
}

fn comparator(scalar: BoxedStrategy<Scalar>) -> BoxedStrategy<Comparator> {
    let with = |literal: BoxedStrategy<Literal>| {
        prop_oneof![3 => literal.prop_map(Operand::Literal), 1 => scalar.clone().prop_map(Operand::Scalar)].boxed()
    };
    let operand = with(literal().boxed());
    let searched = with(prop_oneof![3 => text(), 1 => number().prop_map(Literal::Number)].boxed());
    let dated = with(instant().prop_map(Literal::Instant).boxed());
    let several = |operand: &BoxedStrategy<Operand>| prop::collection::vec(operand.clone(), 1..4);
    prop_oneof![
        4 => operand.clone().prop_map(Comparator::Equals),
        2 => operand.clone().prop_map(Comparator::Differs),
        2 => operand.clone().prop_map(Comparator::GreaterThan),
        4 => operand.clone().prop_map(Comparator::AtLeast),
        2 => operand.clone().prop_map(Comparator::LessThan),
        2 => operand.clone().prop_map(Comparator::AtMost),
        1 => Just(Comparator::Exists),
        1 => Just(Comparator::Absent),
        1 => several(&searched).prop_map(Comparator::Contains),
        1 => searched.clone().prop_map(Comparator::Omits),
        1 => searched.clone().prop_map(Comparator::StartsWith),
        1 => searched.clone().prop_map(Comparator::EndsWith),
        1 => several(&operand).prop_map(Comparator::OneOf),
        1 => several(&operand).prop_map(Comparator::NoneOf),
        1 => dated.clone().prop_map(Comparator::BeforeDate),
        1 => dated.prop_map(Comparator::AfterDate),
        1 => span().prop_map(Comparator::WithinLast),
        1 => span().prop_map(Comparator::WithinNext),
        1 => span().prop_map(Comparator::BeforeLast),
        1 => span().prop_map(Comparator::AfterNext),
    ]
    .boxed()
}
