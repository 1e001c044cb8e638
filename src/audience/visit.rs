//! What does a definition speak of? Walks over the tree, for whoever asks about names and durations.

use super::ast::{Comparator, Comparison, Expr, Filter, Operand, Scalar, Stream};

/// Every comparison, those within `where(…)` included.
pub fn comparisons<'e>(expr: &'e Expr, see: &mut dyn FnMut(&'e Comparison)) {
    match expr {
        Expr::Or(terms) | Expr::And(terms) => terms.iter().for_each(|term| comparisons(term, see)),
        Expr::Not(inner) | Expr::Any(inner) | Expr::All(inner) => comparisons(inner, see),
        Expr::Compare(comparison) => within(comparison, see),
    }
}

/// A comparison and those within its streams.
pub fn within<'e>(comparison: &'e Comparison, see: &mut dyn FnMut(&'e Comparison)) {
    see(comparison);
    for scalar in comparison.scalars() {
        if let Scalar::Reduce(stream, _) = scalar {
            for condition in stream.conditions() {
                comparisons(condition, see);
            }
        }
    }
}

impl Comparison {
    /// The left side, and the right sides that are no literals.
    pub fn scalars(&self) -> impl Iterator<Item = &Scalar> {
        std::iter::once(&self.left).chain(self.comparator.operands().iter().filter_map(|operand| match operand {
            Operand::Scalar(scalar) => Some(scalar),
            Operand::Literal(_) => None,
        }))
    }
}

impl Stream {
    /// What stands in its `where(…)`s.
    pub fn conditions(&self) -> impl Iterator<Item = &Expr> {
        self.filters.iter().filter_map(|filter| match filter {
            Filter::Where(condition) => Some(condition),
            _ => None,
        })
    }
}

impl Comparator {
    /// The right sides.
    pub fn operands(&self) -> &[Operand] {
        match self {
            Comparator::Equals(operand)
            | Comparator::Differs(operand)
            | Comparator::GreaterThan(operand)
            | Comparator::AtLeast(operand)
            | Comparator::LessThan(operand)
            | Comparator::AtMost(operand)
            | Comparator::Omits(operand)
            | Comparator::StartsWith(operand)
            | Comparator::EndsWith(operand)
            | Comparator::BeforeDate(operand)
            | Comparator::AfterDate(operand) => std::slice::from_ref(operand),
            Comparator::Contains(operands) | Comparator::OneOf(operands) | Comparator::NoneOf(operands) => operands,
            Comparator::Exists
            | Comparator::Absent
            | Comparator::WithinLast(_)
            | Comparator::WithinNext(_)
            | Comparator::BeforeLast(_)
            | Comparator::AfterNext(_) => &[],
        }
    }

    /// The right sides, to be changed.
    pub fn operands_mut(&mut self) -> &mut [Operand] {
        match self {
            Comparator::Equals(operand)
            | Comparator::Differs(operand)
            | Comparator::GreaterThan(operand)
            | Comparator::AtLeast(operand)
            | Comparator::LessThan(operand)
            | Comparator::AtMost(operand)
            | Comparator::Omits(operand)
            | Comparator::StartsWith(operand)
            | Comparator::EndsWith(operand)
            | Comparator::BeforeDate(operand)
            | Comparator::AfterDate(operand) => std::slice::from_mut(operand),
            Comparator::Contains(operands) | Comparator::OneOf(operands) | Comparator::NoneOf(operands) => operands,
            Comparator::Exists
            | Comparator::Absent
            | Comparator::WithinLast(_)
            | Comparator::WithinNext(_)
            | Comparator::BeforeLast(_)
            | Comparator::AfterNext(_) => &mut [],
        }
    }
}
