//! How much is it together, on average, at least, at most? Exact numbers by profile.

use std::collections::HashMap;

use bigdecimal::{BigDecimal, ToPrimitive};

use crate::{
    audience::value::{Number, plain},
    membership::tally::{Amount, Numbers, SUM_DECIMALS},
};

/// What a number that does not fit takes, about.
const OTHER_BYTES: usize = 96;

/// A sum for each profile: in millionths, and beside them what does not fit there.
#[derive(Default)]
pub(super) struct Sums {
    fit: Numbers<i64>,
    other: HashMap<u32, BigDecimal>,
}

impl Sums {
    #[inline]
    pub(super) fn add(&mut self, id: u32, amount: &Amount) {
        match amount {
            Amount::Millionths(amount) => {
                let sum = self.fit.at(id);
                match sum.checked_add(*amount) {
                    Some(total) => *sum = total,
                    None => *self.other.entry(id).or_default() += decimal(*amount),
                }
            }
            Amount::Other(amount) => *self.other.entry(id).or_default() += amount,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.fit.bytes() + self.other.capacity() * OTHER_BYTES
    }

    pub(super) fn cut(&mut self, end: u32) {
        self.fit.cut(end);
        self.other.retain(|id, _| *id < end);
        self.other.shrink_to_fit();
    }

    fn whole(&self, id: u32) -> Option<BigDecimal> {
        self.other.get(&id).map(|other| other + decimal(self.fit.get(id)))
    }

    pub(super) fn push_sum(&self, out: &mut String, id: u32) {
        match self.whole(id) {
            Some(sum) => push_decimal(out, &sum),
            None => push_units(out, self.fit.get(id).into(), SUM_DECIMALS),
        }
    }

    /// Rounded, half away from zero, to 12 decimals, as [`Number::text`] does.
    pub(super) fn push_average(&self, out: &mut String, id: u32, count: u32) {
        if let Some(sum) = self.whole(id) {
            return out.push_str(&Number::average(sum, count.into()).text());
        }
        let (sum, count) = (i128::from(self.fit.get(id)), i128::from(count));
        let rounded = (sum.abs() * 1_000_000 * 2 + count) / (count * 2);
        push_units(out, if sum < 0 { -rounded } else { rounded }, 12);
    }
}

/// The least or greatest number of each profile.
pub(super) struct Bests {
    max: bool,
    fit: Numbers<Option<i64>>,
    other: HashMap<u32, BigDecimal>,
}

impl Bests {
    pub(super) fn new(max: bool) -> Bests {
        Bests { max, fit: Numbers::new(), other: HashMap::new() }
    }

    #[inline]
    pub(super) fn add(&mut self, id: u32, amount: &Amount) {
        match amount {
            Amount::Millionths(amount) => {
                let best = self.fit.at(id);
                if best.is_none_or(|best| (*amount > best) == self.max) {
                    *best = Some(*amount);
                }
            }
            Amount::Other(amount) => match self.other.get_mut(&id) {
                Some(best) if (*amount > *best) == self.max => best.clone_from(amount),
                Some(_) => {}
                None => drop(self.other.insert(id, amount.clone())),
            },
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.fit.bytes() + self.other.capacity() * OTHER_BYTES
    }

    pub(super) fn cut(&mut self, end: u32) {
        self.fit.cut(end);
        self.other.retain(|id, _| *id < end);
        self.other.shrink_to_fit();
    }

    /// Hands on each profile's number, in the order of ids.
    pub(super) fn finish(mut self, each: &mut dyn FnMut(u32, Best<'_>)) {
        // What does not fit is rare: its profiles are given a place among the others, and looked up there.
        for (id, other) in &mut self.other {
            if let Some(fit) = self.fit.at(*id).replace(0).map(decimal)
                && (fit > *other) == self.max
            {
                *other = fit;
            }
        }
        for (id, fit) in self.fit.iter() {
            match (self.other.get(&id), fit) {
                (Some(other), _) => each(id, Best::Other(other)),
                (None, Some(fit)) => each(id, Best::Millionths(fit)),
                (None, None) => {}
            }
        }
    }
}

/// The least or greatest number of a profile.
#[derive(Debug, Clone, Copy)]
pub(super) enum Best<'b> {
    Millionths(i64),
    Other(&'b BigDecimal),
}

impl Best<'_> {
    pub(super) fn push(self, out: &mut String) {
        match self {
            Best::Millionths(number) => push_units(out, number.into(), SUM_DECIMALS),
            Best::Other(number) => push_decimal(out, number),
        }
    }
}

fn decimal(millionths: i64) -> BigDecimal {
    BigDecimal::new(millionths.into(), SUM_DECIMALS.into())
}

/// The number in millionths, if it is a whole number of them that fits.
pub(super) fn millionths(number: &BigDecimal) -> Option<i64> {
    let scaled = number.with_scale(SUM_DECIMALS.into());
    if scaled != *number {
        return None;
    }
    scaled.as_bigint_and_exponent().0.to_i64()
}

/// A decimal as text: no exponent, no trailing zeros.
pub(super) fn push_decimal(out: &mut String, decimal: &BigDecimal) {
    out.push_str(&plain(decimal));
}

/// A whole number of units of 10⁻ᵈ, in the same form.
pub(super) fn push_units(out: &mut String, units: i128, decimals: u32) {
    if units < 0 {
        out.push('-');
    }
    let (unit, mut decimals) = (10u128.pow(decimals), decimals as usize);
    let (whole, mut fraction) = (units.unsigned_abs() / unit, units.unsigned_abs() % unit);
    out.push_str(itoa::Buffer::new().format(whole));
    if fraction == 0 {
        return;
    }
    while fraction % 10 == 0 {
        fraction /= 10;
        decimals -= 1;
    }
    out.push('.');
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(fraction);
    (digits.len()..decimals).for_each(|_| out.push('0'));
    out.push_str(digits);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn units_are_written_as_the_decimal_that_they_are(units: i64, decimals in 0u32..13) {
            let mut written = String::new();
            push_units(&mut written, units.into(), decimals);
            prop_assert_eq!(written, plain(&BigDecimal::new(units.into(), decimals.into())));
        }

        #[test]
        fn sums_averages_and_extremes_are_exact(numbers in prop::collection::vec((any::<i64>(), -9i64..9), 1..9)) {
            let numbers: Vec<_> = numbers.iter().map(|(digits, scale)| BigDecimal::new((*digits).into(), *scale)).collect();
            let (mut sums, mut least, mut most) = (Sums::default(), Bests::new(false), Bests::new(true));
            for number in &numbers {
                let amount = millionths(number).map_or(Amount::Other(number.clone()), Amount::Millionths);
                sums.add(3, &amount);
                least.add(3, &amount);
                most.add(3, &amount);
            }
            let sum: BigDecimal = numbers.iter().sum();
            let (mut written, mut average) = (String::new(), String::new());
            sums.push_sum(&mut written, 3);
            sums.push_average(&mut average, 3, numbers.len() as u32);
            prop_assert_eq!(written, plain(&sum));
            prop_assert_eq!(average, Number::average(sum, numbers.len() as u64).text());
            for (bests, expected) in [(least, numbers.iter().min()), (most, numbers.iter().max())] {
                bests.finish(&mut |id, best| {
                    let mut written = String::new();
                    best.push(&mut written);
                    assert_eq!((id, Some(written)), (3, expected.map(plain)));
                });
            }
        }
    }
}
