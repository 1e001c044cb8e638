//! What is a number in an event? In text of our own it stays text until somebody calculates with it.
//!
//! Most numbers pass through: reading one and writing it again costs as much as the rest of its object.

use std::{borrow::Cow, cmp::Ordering};

use crate::js;

/// A number, finite.
#[derive(Debug, Clone)]
pub enum Number<'a> {
    Read(serde_json::Number),
    /// As JavaScript writes it.
    Written(&'a str),
}

impl<'a> Number<'a> {
    /// Text that is already as JavaScript writes a number; `None` if it looks like none.
    pub fn written(text: &'a str) -> Option<Self> {
        let digit_first = text.strip_prefix('-').unwrap_or(text).starts_with(|first: char| first.is_ascii_digit());
        let of_numbers = |byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-');
        (digit_first && text.bytes().all(of_numbers)).then_some(Number::Written(text))
    }

    /// `None` if it is infinite or not a number.
    pub fn from_f64(number: f64) -> Option<Self> {
        serde_json::Number::from_f64(number).map(Number::Read)
    }

    /// As precise as it is written where it is a whole number of 64 bits, else the nearest double; none if that is infinite.
    pub fn of_text(text: &str) -> Option<serde_json::Number> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        if let Ok(whole) = digits.parse::<i64>() {
            return Some(whole.into());
        }
        if let Ok(whole) = digits.parse::<u64>() {
            return Some(whole.into());
        }
        let double: f64 = text.parse().ok()?;
        // However it was written, a whole number is one.
        match double {
            whole if whole.fract() == 0.0 && whole.abs() < 9.2e18 => Some((whole as i64).into()),
            whole if whole.fract() == 0.0 && (0.0..1.8e19).contains(&whole) => Some((whole as u64).into()),
            other => serde_json::Number::from_f64(other),
        }
    }

    /// Which is greater: exactly between whole numbers, where doubles would take neighbours for equal.
    pub fn compare(&self, other: &Number) -> Option<Ordering> {
        match (whole(&self.read()), whole(&other.read())) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => self.as_f64()?.partial_cmp(&other.as_f64()?),
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Number::Read(number) => number.as_f64(),
            Number::Written(text) => text.parse().ok(),
        }
    }

    /// As the rest of the program knows numbers.
    pub fn read(&self) -> Cow<'_, serde_json::Number> {
        match self {
            Number::Read(number) => Cow::Borrowed(number),
            // What is no number after all is 0, as nothing else is safe to calculate with.
            Number::Written(text) => Cow::Owned(serde_json::from_str(text).unwrap_or_else(|_| 0.into())),
        }
    }

    pub fn into_owned(self) -> Number<'static> {
        Number::Read(self.read().into_owned())
    }

    /// Appends `JSON.stringify(number)`.
    pub fn write(&self, out: &mut String) {
        match self {
            Number::Read(number) => js::write_number(number, out),
            Number::Written(text) => out.push_str(text),
        }
    }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    // A double below 2^100 that is whole is exactly that integer.
    integer.or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e30).map(|n| n as i128))
}

impl PartialEq for Number<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

impl From<serde_json::Number> for Number<'_> {
    fn from(number: serde_json::Number) -> Self {
        Number::Read(number)
    }
}

/// A length or a position.
impl From<usize> for Number<'_> {
    fn from(count: usize) -> Self {
        Number::Read(count.into())
    }
}
