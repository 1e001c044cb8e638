//! Does a number pass? A comparator with a number on its right, made ready for exact integers.

use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};

use crate::audience::ast::{Comparator, Literal, Operand};

/// `n operator literal`, where `n` counts units of 10⁻ᵈ for some number of decimals d.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threshold {
    operator: Operator,
    /// The literal in those units, rounded down; past the ends of the type, those ends.
    floor: i128,
    /// Nothing was rounded away.
    exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    Differs,
    GreaterThan,
    AtLeast,
    LessThan,
    AtMost,
}

impl Threshold {
    /// `None` for comparators that ask for more than a number's place.
    pub(super) fn of(comparator: &Comparator, decimals: u32) -> Option<Threshold> {
        let (operator, operand) = match comparator {
            Comparator::Equals(operand) => (Operator::Equals, operand),
            Comparator::Differs(operand) => (Operator::Differs, operand),
            Comparator::GreaterThan(operand) => (Operator::GreaterThan, operand),
            Comparator::AtLeast(operand) => (Operator::AtLeast, operand),
            Comparator::LessThan(operand) => (Operator::LessThan, operand),
            Comparator::AtMost(operand) => (Operator::AtMost, operand),
            _ => return None,
        };
        let Operand::Literal(Literal::Number(literal)) = operand else { return None };
        let scaled = literal * BigDecimal::new(10_i64.pow(decimals).into(), 0);
        let floor = scaled.with_scale_round(0, RoundingMode::Floor);
        let exact = floor == scaled;
        let end = if floor < 0 { i128::MIN } else { i128::MAX };
        Some(Threshold { operator, floor: floor.to_i128().unwrap_or(end), exact })
    }

    #[inline]
    pub(super) fn passes(self, n: i128) -> bool {
        match self.operator {
            Operator::Equals => self.exact && n == self.floor,
            Operator::Differs => !self.exact || n != self.floor,
            Operator::GreaterThan => n > self.floor,
            Operator::AtLeast => n > self.floor || self.exact && n == self.floor,
            Operator::LessThan => n < self.floor || !self.exact && n == self.floor,
            Operator::AtMost => n <= self.floor,
        }
    }

    /// Whether every number from `n` on has the same answer: beyond the literal nothing changes.
    pub(super) fn is_constant_from(self, n: i128) -> bool {
        let unreachable = !self.exact && matches!(self.operator, Operator::Equals | Operator::Differs);
        unreachable || self.floor < n || self.floor == n && self.passes(n) == self.passes(n + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn passing_is_comparing_exactly(n in -50i64..50, unscaled in -300i64..300, scale in 0i64..3, decimals in 0u32..2) {
            let literal = BigDecimal::new(unscaled.into(), scale);
            let number = BigDecimal::new(n.into(), decimals.into());
            let operand = || Operand::Literal(Literal::Number(literal.clone()));
            let cases = [
                (Comparator::Equals(operand()), number == literal),
                (Comparator::Differs(operand()), number != literal),
                (Comparator::GreaterThan(operand()), number > literal),
                (Comparator::AtLeast(operand()), number >= literal),
                (Comparator::LessThan(operand()), number < literal),
                (Comparator::AtMost(operand()), number <= literal),
            ];
            for (comparator, expected) in cases {
                let threshold = Threshold::of(&comparator, decimals).unwrap();
                prop_assert_eq!(threshold.passes(n.into()), expected, "{} {:?}", number, comparator);
                let answers = (i128::from(n)..i128::from(n) + 6_000).map(|n| threshold.passes(n));
                let constant = answers.clone().all(|answer| answer == threshold.passes(n.into()));
                prop_assert_eq!(threshold.is_constant_from(n.into()), constant, "from {} {:?}", number, comparator);
            }
        }
    }
}
