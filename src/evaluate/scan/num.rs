//! How much is it together, on average, at least, at most? Exact numbers by profile.

use std::collections::HashMap;

use bigdecimal::{BigDecimal, ToPrimitive};

use crate::{
    audience::{
        ast::Reducer,
        value::{Number, plain},
    },
    evaluate::tally::{Amount, Numbers, SUM_DECIMALS},
    values::Values,
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

    /// Something of a profile's place; see `Tally::add_all`.
    #[inline]
    pub(super) fn touch(&self, id: u32) -> u32 {
        self.fit.get(id) as u32
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
            None => push_units::<SUM_DECIMALS>(out, self.fit.get(id).into()),
        }
    }
}

/// What several reducers of the same numbers want to know of a profile: one place in memory for all of them, because to
/// get there costs more than to add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Figure {
    events: u32,
    /// How many numbers are in the rest.
    numbers: u32,
    sum: i64,
    least: i64,
    most: i64,
}

/// What does not fit there.
#[derive(Debug, Default)]
struct Other {
    numbers: u32,
    sum: BigDecimal,
    least: Option<BigDecimal>,
    most: Option<BigDecimal>,
}

/// Events, sum, average, least and greatest number of each profile.
#[derive(Default)]
pub(super) struct Figures {
    fit: Numbers<Figure>,
    other: HashMap<u32, Other>,
}

impl Figures {
    /// Adds an event, with the numbers that `amounts` hands on.
    #[inline]
    pub(super) fn add(&mut self, id: u32, amounts: impl FnOnce(&mut dyn FnMut(&Amount))) {
        let Figures { fit, other } = self;
        let figure = fit.at(id);
        figure.events = figure.events.saturating_add(1);
        amounts(&mut |amount| match amount {
            Amount::Millionths(amount) => {
                (figure.least, figure.most) = match figure.numbers {
                    0 => (*amount, *amount),
                    _ => (figure.least.min(*amount), figure.most.max(*amount)),
                };
                figure.numbers = figure.numbers.saturating_add(1);
                match figure.sum.checked_add(*amount) {
                    Some(total) => figure.sum = total,
                    None => other.entry(id).or_default().sum += decimal(*amount),
                }
            }
            Amount::Other(amount) => {
                let other = other.entry(id).or_default();
                other.numbers = other.numbers.saturating_add(1);
                other.sum += amount;
                if other.least.as_ref().is_none_or(|least| amount < least) {
                    other.least = Some(amount.clone());
                }
                if other.most.as_ref().is_none_or(|most| amount > most) {
                    other.most = Some(amount.clone());
                }
            }
        });
    }

    /// Something of a profile's place; see `Tally::add_all`.
    #[inline]
    pub(super) fn touch(&self, id: u32) -> u32 {
        self.fit.get(id).events
    }

    pub(super) fn bytes(&self) -> usize {
        self.fit.bytes() + self.other.capacity() * 3 * OTHER_BYTES
    }

    pub(super) fn cut(&mut self, end: u32) {
        self.fit.cut(end);
        self.other.retain(|id, _| *id < end);
        self.other.shrink_to_fit();
    }

    /// Hands on what a reducer makes of each profile, in the order of ids.
    pub(super) fn write(&self, reducer: &Reducer, values: &mut Values) {
        for (id, figure) in self.fit.iter() {
            let other = if self.other.is_empty() { None } else { self.other.get(&id) };
            let numbers = figure.numbers.saturating_add(other.map_or(0, |other| other.numbers));
            match reducer {
                Reducer::Count => values.write(id, |out| push_units::<0>(out, figure.events.into())),
                Reducer::Sum(_) => values.write(id, |out| match other {
                    Some(other) => push_decimal(out, &(&other.sum + decimal(figure.sum))),
                    None => push_units::<SUM_DECIMALS>(out, figure.sum.into()),
                }),
                _ if numbers == 0 => {}
                Reducer::Avg(_) => values.write(id, |out| match other {
                    Some(other) => push_average(out, &(&other.sum + decimal(figure.sum)), numbers),
                    None => push_average_units(out, figure.sum, numbers),
                }),
                Reducer::Max(..) => values.write(id, |out| {
                    let fit = (figure.numbers > 0).then_some(figure.most);
                    push_best(out, fit, other.and_then(|other| other.most.as_ref()), true);
                }),
                _ => values.write(id, |out| {
                    let fit = (figure.numbers > 0).then_some(figure.least);
                    push_best(out, fit, other.and_then(|other| other.least.as_ref()), false);
                }),
            }
        }
    }
}

/// The better of what fits and what does not.
fn push_best(out: &mut String, fit: Option<i64>, other: Option<&BigDecimal>, max: bool) {
    match (fit, other) {
        (Some(fit), Some(other)) if (decimal(fit) > *other) != max => push_decimal(out, other),
        (Some(fit), _) => push_units::<SUM_DECIMALS>(out, fit.into()),
        (None, Some(other)) => push_decimal(out, other),
        (None, None) => {}
    }
}

fn push_average(out: &mut String, sum: &BigDecimal, count: u32) {
    out.push_str(&Number::average(sum.clone(), count.into()).text());
}

/// Rounded, half away from zero, to 12 decimals, as [`Number::text`] does.
fn push_average_units(out: &mut String, sum: i64, count: u32) {
    let (sum, count) = (i128::from(sum), i128::from(count));
    let rounded = (sum.abs() * 1_000_000 * 2 + count) / (count * 2);
    push_units::<12>(out, if sum < 0 { -rounded } else { rounded });
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

/// The same of a text of a few digits, at most one point among them, and maybe a minus sign before: most numbers that events
/// hold, many times faster.
pub(super) fn short_millionths(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.is_empty() || whole.len() > 12 || fraction.is_empty() || fraction.len() > SUM_DECIMALS as usize {
        return None;
    }
    let mut number = 0i64;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(digit - b'0');
    }
    let number = number * 10i64.pow(SUM_DECIMALS - fraction.len() as u32);
    Some(if negative { -number } else { number })
}

/// A decimal as text: no exponent, no trailing zeros.
pub(super) fn push_decimal(out: &mut String, decimal: &BigDecimal) {
    out.push_str(&plain(decimal));
}

/// A whole number of units of 10 to the power of minus `DECIMALS`, in the same form.
#[inline]
pub(super) fn push_units<const DECIMALS: u32>(out: &mut String, units: i128) {
    let unit = const { 10u64.pow(DECIMALS) };
    if units < 0 {
        out.push('-');
    }
    let mut fraction = match u64::try_from(units.unsigned_abs()) {
        // Nearly always; several times faster.
        Ok(units) => {
            out.push_str(itoa::Buffer::new().format(units / unit));
            units % unit
        }
        Err(_) => {
            let (units, unit) = (units.unsigned_abs(), u128::from(unit));
            out.push_str(itoa::Buffer::new().format(units / unit));
            (units % unit) as u64
        }
    };
    if fraction == 0 {
        return;
    }
    let mut decimals = DECIMALS as usize;
    for (power, zeros) in [(10_000, 4), (10, 1)] {
        while fraction % power == 0 {
            fraction /= power;
            decimals -= zeros;
        }
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
    use crate::audience::ast::{As, EventValue};

    proptest! {
        #[test]
        fn a_short_number_is_what_a_number_is(text in "-?[0-9]{0,13}(\\.[0-9]{0,7})?|[-+.0-9e]{0,6}") {
            if let Some(short) = short_millionths(&text) {
                let number = crate::audience::value::number_of(&text);
                prop_assert_eq!(number.as_ref().and_then(millionths), Some(short));
            }
        }

        #[test]
        fn units_are_written_as_the_decimal_that_they_are(units: i64, times in prop::sample::select(vec![1, 1_000, 1 << 60])) {
            let units = i128::from(units) * times;
            let check = |decimals: i64, push: fn(&mut String, i128)| {
                let mut written = String::new();
                push(&mut written, units);
                prop_assert_eq!(written, plain(&BigDecimal::new(units.into(), decimals)));
                Ok(())
            };
            check(0, push_units::<0>)?;
            check(6, push_units::<6>)?;
            check(12, push_units::<12>)?;
        }

        #[test]
        fn sums_averages_and_extremes_are_exact(numbers in prop::collection::vec((any::<i64>(), -9i64..9), 1..9)) {
            let numbers: Vec<_> = numbers.iter().map(|(digits, scale)| BigDecimal::new((*digits).into(), *scale)).collect();
            let (mut sums, mut figures) = (Sums::default(), Figures::default());
            for number in &numbers {
                let amount = millionths(number).map_or(Amount::Other(number.clone()), Amount::Millionths);
                sums.add(3, &amount);
                figures.add(3, |each| each(&amount));
            }
            figures.add(3, |_| {});
            let sum: BigDecimal = numbers.iter().sum();
            let value = || EventValue::Property(crate::audience::ast::Path(Vec::new()));
            let mut written = String::new();
            sums.push_sum(&mut written, 3);
            prop_assert_eq!(written, plain(&sum));
            for (reducer, expected) in [
                (Reducer::Count, (numbers.len() + 1).to_string()),
                (Reducer::Sum(value()), plain(&sum)),
                (Reducer::Avg(value()), Number::average(sum, numbers.len() as u64).text()),
                (Reducer::Min(value(), As::Number), numbers.iter().min().map(plain).unwrap()),
                (Reducer::Max(value(), As::Number), numbers.iter().max().map(plain).unwrap()),
            ] {
                let mut values = Values::default();
                figures.write(&reducer, &mut values);
                values.close();
                let found: Vec<_> = values.column(0).unwrap().iter().map(|(id, value)| (id, value.to_owned())).collect();
                prop_assert_eq!(found, [(3, expected)]);
            }
        }
    }
}
