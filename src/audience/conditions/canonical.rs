//! The one form of each condition: what means the same is written the same, and what is always or never true is not
//! asked. Memberships that are assumed to be known are put in place of references on the way, and computed traits are told
//! from imported ones.

use std::collections::BTreeMap;

use bigdecimal::{BigDecimal, RoundingMode, Signed, Zero};
use chrono::DateTime;

use crate::{
    audience::{
        ast::{
            Comparator, Comparison, Expr, Filter, Literal, Operand, Path, Reducer, Scalar, Segment, Span, Stream, Unit,
        },
        interpret::{self, Profile},
        value::plain,
    },
    error::{Error, Result},
};

/// An expression, or what it comes down to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Folded {
    Always,
    Never,
    Expr(Expr),
}

/// Folds expressions, with these memberships assumed.
pub(super) struct Fold<'m> {
    pub memberships: &'m BTreeMap<String, bool>,
    /// As [`Keys::traits`](super::Keys).
    pub traits: &'m BTreeMap<String, String>,
}

impl From<bool> for Folded {
    fn from(holds: bool) -> Self {
        if holds { Folded::Always } else { Folded::Never }
    }
}

impl Folded {
    fn not(self) -> Self {
        match self {
            Folded::Always => Folded::Never,
            Folded::Never => Folded::Always,
            Folded::Expr(Expr::Not(inner)) => Folded::Expr(*inner),
            Folded::Expr(expr) => Folded::Expr(Expr::Not(expr.into())),
        }
    }
}

impl Fold<'_> {
    pub(super) fn expr(&self, expr: &Expr) -> Result<Folded> {
        Ok(match expr {
            Expr::Or(terms) => self.join(terms, true)?,
            Expr::And(terms) => self.join(terms, false)?,
            Expr::Not(inner) => self.expr(inner)?.not(),
            Expr::Any(inner) | Expr::All(inner) => self.expr(inner)?,
            Expr::Compare(comparison) => self.comparison(comparison)?,
        })
    }

    fn join(&self, terms: &[Expr], or: bool) -> Result<Folded> {
        let mut kept = Vec::new();
        for term in terms {
            match (self.expr(term)?, or) {
                (Folded::Always, true) => return Ok(Folded::Always),
                (Folded::Never, false) => return Ok(Folded::Never),
                (Folded::Always | Folded::Never, _) => {}
                (Folded::Expr(Expr::Or(parts)), true) | (Folded::Expr(Expr::And(parts)), false) => kept.extend(parts),
                (Folded::Expr(part), _) => kept.push(part),
            }
        }
        kept.sort();
        kept.dedup();
        Ok(match kept.len() {
            0 => Folded::from(!or),
            1 => Folded::Expr(kept.remove(0)),
            _ if or => Folded::Expr(Expr::Or(kept)),
            _ => Folded::Expr(Expr::And(kept)),
        })
    }

    pub(super) fn comparison(&self, comparison: &Comparison) -> Result<Folded> {
        let Comparison { left, mut comparator } = comparison.clone();
        for operand in comparator.operands_mut() {
            if let Operand::Scalar(scalar) = operand {
                match self.membership(scalar) {
                    Some(holds) => *operand = Operand::Literal(Literal::Text(holds.to_string())),
                    None => *operand = Operand::Scalar(self.scalar(scalar)?),
                }
            }
        }
        if matches!(
            comparator,
            Comparator::BeforeDate(Operand::Literal(Literal::Text(_)))
                | Comparator::AfterDate(Operand::Literal(Literal::Text(_)))
        ) {
            return Ok(Folded::Never); // a membership is no date
        }
        let literal = comparator.operands().iter().all(|operand| matches!(operand, Operand::Literal(_)));
        if let Some(holds) = self.membership(&left) {
            return if literal {
                Ok(self.known(Comparison { left, comparator }))
            } else {
                self.mirrored(&holds.to_string(), &comparator)
            };
        }
        let left = self.scalar(&left)?;
        if literal && is_empty(&left) {
            return Ok(self.known(Comparison { left, comparator }));
        }
        Ok(normal(left, comparator))
    }

    /// The result of a comparison that no history can change.
    fn known(&self, comparison: Comparison) -> Folded {
        let nobody = Profile { memberships: self.memberships.clone(), ..Profile::default() };
        interpret::holds(&Expr::Compare(comparison), &nobody, DateTime::UNIX_EPOCH).into()
    }

    fn membership(&self, scalar: &Scalar) -> Option<bool> {
        match scalar {
            Scalar::Trait(path) => match path.0.as_slice() {
                [Segment::Key(key)] => self.memberships.get(key).copied(),
                _ => None,
            },
            _ => None,
        }
    }

    fn scalar(&self, scalar: &Scalar) -> Result<Scalar> {
        Ok(match scalar {
            Scalar::Reduce(stream, reducer) => Scalar::Reduce(self.stream(stream)?.into(), reducer.clone()),
            Scalar::Trait(path) => match self.stored(path) {
                Some(path) => Scalar::Computed(path),
                None => scalar.clone(),
            },
            scalar => scalar.clone(),
        })
    }

    /// Where the value of a computed trait is stored: below its own key, or in an object below that of several told together.
    fn stored(&self, path: &Path) -> Option<Path> {
        let Some(Segment::Key(key)) = path.0.first() else { return None };
        let stored = self.traits.get(key)?;
        let outer = (stored != key).then(|| Segment::Key(stored.clone()));
        Some(Path(outer.into_iter().chain(path.0.iter().cloned()).collect()))
    }

    fn stream(&self, stream: &Stream) -> Result<Stream> {
        let mut filters = Vec::new();
        let (mut within, mut within_parent, mut excluded) = (None::<Span>, None::<Span>, Vec::new());
        let shorter = |kept: Option<Span>, span: &Span| {
            Some(kept.map_or(*span, |kept| if kept.micros() <= span.micros() { kept } else { *span }))
        };
        for filter in &stream.filters {
            match filter {
                Filter::Where(condition) => match self.expr(condition)? {
                    Folded::Always => {}
                    Folded::Never => return Ok(Stream { source: stream.source.clone(), filters: vec![never()] }),
                    Folded::Expr(Expr::And(terms)) => filters.extend(terms.into_iter().map(Filter::Where)),
                    Folded::Expr(expr) => filters.push(Filter::Where(expr)),
                },
                Filter::Within(span) => within = shorter(within, span),
                Filter::WithinParent(span) => within_parent = shorter(within_parent, span),
                Filter::Between { near, far } => {
                    filters.push(Filter::Between { near: largest_unit(*near), far: largest_unit(*far) });
                }
                Filter::ExpiresAfter(span) => filters.push(Filter::ExpiresAfter(largest_unit(*span))),
                Filter::ExcludeSources(sources) => excluded.extend(sources.iter().cloned()),
            }
        }
        filters.extend(within.map(|span| Filter::Within(largest_unit(span))));
        filters.extend(within_parent.map(|span| Filter::WithinParent(largest_unit(span))));
        if !excluded.is_empty() {
            excluded.sort();
            excluded.dedup();
            filters.push(Filter::ExcludeSources(excluded));
        }
        filters.sort();
        filters.dedup();
        Ok(Stream { source: stream.source.clone(), filters })
    }

    /// A comparison whose left side is known to be `text` and whose right sides are not: turned round, so that what is
    /// asked of the store stands on the left. `r >= ''` holds for every scalar, and not for an array, an object or nothing,
    /// which as right sides make a comparison false.
    fn mirrored(&self, text: &str, comparator: &Comparator) -> Result<Folded> {
        if comparator.operands().iter().any(|operand| matches!(operand, Operand::Scalar(scalar) if has_each(scalar))) {
            return Err(Error::definition("membership of an audience is compared with each entry of an array")
                .help("Turn it round, with the array on the left: property('x.$') = 'true'."));
        }
        let is = |texts: Vec<String>, operand: &Operand| match operand {
            Operand::Literal(literal) => {
                let constant = match literal {
                    Literal::Text(literal) => texts.contains(literal),
                    Literal::Number(number) => texts.contains(&plain(number)),
                    Literal::Instant(_) => false,
                };
                vec![Comparison {
                    left: timestamp(),
                    comparator: if constant { Comparator::Exists } else { Comparator::Absent },
                }]
            }
            Operand::Scalar(scalar) => {
                let texts = texts.into_iter().map(|text| Operand::Literal(Literal::Text(text))).collect();
                vec![
                    scalar_at_least_nothing(scalar.clone()),
                    Comparison { left: scalar.clone(), comparator: Comparator::OneOf(texts) },
                ]
            }
        };
        let any = |texts: &dyn Fn() -> Vec<String>| {
            let cases = comparator
                .operands()
                .iter()
                .map(|operand| Expr::And(is(texts(), operand).into_iter().map(Expr::Compare).collect()));
            Expr::Or(cases.collect())
        };
        let none = |texts: &dyn Fn() -> Vec<String>| {
            let present = comparator.operands().iter().filter_map(|operand| match operand {
                Operand::Scalar(scalar) => Some(Expr::Compare(scalar_at_least_nothing(scalar.clone()))),
                Operand::Literal(_) => None,
            });
            Expr::And(present.chain([Expr::Not(any(texts).into())]).collect())
        };
        let whole = || vec![text.to_owned()];
        // Memberships are ASCII: any byte range is a piece of text.
        let pieces = || (0..=text.len()).flat_map(|to| (0..=to).map(move |from| text[from..to].to_owned())).collect();
        let turned = match comparator {
            Comparator::Equals(_) | Comparator::OneOf(_) => any(&whole),
            Comparator::Differs(_) | Comparator::NoneOf(_) => none(&whole),
            Comparator::Contains(_) => any(&pieces),
            Comparator::Omits(_) => none(&pieces),
            Comparator::StartsWith(_) => any(&|| (0..=text.len()).map(|to| text[..to].to_owned()).collect()),
            Comparator::EndsWith(_) => any(&|| (0..=text.len()).map(|from| text[from..].to_owned()).collect()),
            Comparator::GreaterThan(_) | Comparator::AtLeast(_) | Comparator::LessThan(_) | Comparator::AtMost(_) => {
                return Err(Error::definition("membership of an audience is compared by order")
                    .help("It is 'true' or 'false': compare it by = or !=."));
            }
            _ => return Ok(Folded::Never), // dates: a membership is none
        };
        self.expr(&turned)
    }
}

/// The one form of a comparison whose parts are in theirs.
fn normal(left: Scalar, comparator: Comparator) -> Folded {
    let compare = |comparator| Folded::Expr(Expr::Compare(Comparison { left: left.clone(), comparator }));
    let always_there = match &left {
        Scalar::Context(_) => left == timestamp(),
        Scalar::Reduce(_, reducer) => matches!(reducer, Reducer::Count | Reducer::UniqueCount(_) | Reducer::Sum(_)),
        _ => false,
    };
    let counts = matches!(&left, Scalar::Reduce(_, Reducer::Count | Reducer::UniqueCount(_)));
    let always_number = always_there && matches!(left, Scalar::Reduce(..));
    match comparator {
        Comparator::Exists | Comparator::Absent if always_there => (comparator == Comparator::Exists).into(),
        Comparator::Absent => compare(Comparator::Exists).not(),
        Comparator::Equals(Operand::Literal(Literal::Number(n))) if counts => match whole(&n) {
            true if n.is_negative() => Folded::Never,
            true if n.is_zero() => at_least(&compare, 1.into()).not(),
            true => compare(Comparator::Equals(number(n))),
            false => Folded::Never,
        },
        Comparator::AtLeast(Operand::Literal(Literal::Number(n))) if counts => at_least(&compare, ceiling(&n)),
        Comparator::LessThan(Operand::Literal(Literal::Number(n))) if counts => at_least(&compare, ceiling(&n)).not(),
        Comparator::GreaterThan(Operand::Literal(Literal::Number(n))) if counts => at_least(&compare, above(&n)),
        Comparator::AtMost(Operand::Literal(Literal::Number(n))) if counts => at_least(&compare, above(&n)).not(),
        Comparator::LessThan(Operand::Literal(Literal::Number(n))) if always_number => {
            compare(Comparator::AtLeast(number(n))).not()
        }
        Comparator::AtMost(Operand::Literal(Literal::Number(n))) if always_number => {
            compare(Comparator::GreaterThan(number(n))).not()
        }
        Comparator::Differs(Operand::Literal(literal)) if always_number => {
            normal(left, Comparator::Equals(Operand::Literal(literal))).not()
        }
        Comparator::Omits(operand @ Operand::Literal(_)) => compare(Comparator::Contains(vec![text(operand)])).not(),
        Comparator::Omits(operand) => compare(Comparator::Omits(operand)),
        Comparator::StartsWith(operand) => compare(Comparator::StartsWith(text(operand))),
        Comparator::EndsWith(operand) => compare(Comparator::EndsWith(text(operand))),
        Comparator::Contains(operands) => compare(Comparator::Contains(set(operands.into_iter().map(text).collect()))),
        Comparator::NoneOf(operands) if operands.iter().all(|operand| matches!(operand, Operand::Literal(_))) => {
            normal(left, Comparator::OneOf(operands)).not()
        }
        Comparator::NoneOf(operands) => compare(Comparator::NoneOf(set(operands))),
        Comparator::OneOf(operands) => {
            let mut operands = set(operands);
            match operands.len() {
                1 => normal(left, Comparator::Equals(operands.remove(0))),
                _ => compare(Comparator::OneOf(operands)),
            }
        }
        Comparator::WithinLast(span) => compare(Comparator::WithinLast(largest_unit(span))),
        Comparator::WithinNext(span) => compare(Comparator::WithinNext(largest_unit(span))),
        Comparator::BeforeLast(span) => compare(Comparator::BeforeLast(largest_unit(span))),
        Comparator::AfterNext(span) => compare(Comparator::AfterNext(largest_unit(span))),
        comparator => compare(comparator),
    }
}

/// `count() >= n`; everyone has zero.
fn at_least(compare: &dyn Fn(Comparator) -> Folded, n: BigDecimal) -> Folded {
    if !n.is_positive() { Folded::Always } else { compare(Comparator::AtLeast(number(n))) }
}

fn number(n: BigDecimal) -> Operand {
    Operand::Literal(Literal::Number(n.normalized()))
}

fn whole(n: &BigDecimal) -> bool {
    ceiling(n) == *n
}

fn ceiling(n: &BigDecimal) -> BigDecimal {
    n.with_scale_round(0, RoundingMode::Ceiling)
}

/// The smallest whole number above.
fn above(n: &BigDecimal) -> BigDecimal {
    n.with_scale_round(0, RoundingMode::Floor) + BigDecimal::from(1)
}

/// A searched number is its text.
fn text(operand: Operand) -> Operand {
    match operand {
        Operand::Literal(Literal::Number(number)) => Operand::Literal(Literal::Text(plain(&number))),
        operand => operand,
    }
}

fn set(mut operands: Vec<Operand>) -> Vec<Operand> {
    operands.sort();
    operands.dedup();
    operands
}

/// The same duration in the largest unit that divides it.
fn largest_unit(span: Span) -> Span {
    [Unit::Week, Unit::Day, Unit::Hour, Unit::Minute]
        .into_iter()
        .find_map(|unit| {
            let one = Span { amount: 1, unit }.micros();
            let amount = u32::try_from(span.micros() / one).ok()?;
            (span.micros() % one == 0).then_some(Span { amount, unit })
        })
        .unwrap_or(span)
}

fn timestamp() -> Scalar {
    Scalar::Context(Path(vec![Segment::Key("timestamp".into())]))
}

/// The filter that no event passes: every event has a timestamp.
fn never() -> Filter {
    Filter::Where(Expr::Not(Expr::Compare(Comparison { left: timestamp(), comparator: Comparator::Exists }).into()))
}

fn is_empty(scalar: &Scalar) -> bool {
    matches!(scalar, Scalar::Reduce(stream, _) if stream.filters == [never()])
}

fn has_each(scalar: &Scalar) -> bool {
    match scalar {
        Scalar::Trait(path)
        | Scalar::Computed(path)
        | Scalar::Property(path)
        | Scalar::ParentProperty(path)
        | Scalar::Context(path) => path.0.contains(&Segment::Each),
        Scalar::Reduce(..) => false,
    }
}

fn scalar_at_least_nothing(scalar: Scalar) -> Comparison {
    Comparison { left: scalar, comparator: Comparator::AtLeast(Operand::Literal(Literal::Text(String::new()))) }
}
