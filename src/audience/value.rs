//! What is a JSON value as a number, as text, as an instant? The value rules of `docs/audience-language.md`, which the SQL of
//! `membership` must match to the letter.

use std::{cmp::Ordering, str::FromStr, sync::LazyLock};

use bigdecimal::{BigDecimal, One, Signed, Zero, num_bigint::BigInt};
use chrono::{DateTime, FixedOffset, NaiveDate, TimeZone, Utc};
use regex::Regex;
use serde_json::Value as Json;

use super::ast::{Path, Segment};
use crate::limits;

/// An exact number: a quotient, since an average need not be a finite decimal. The denominator is positive.
#[derive(Debug, Clone)]
pub struct Number {
    numerator: BigDecimal,
    denominator: BigDecimal,
}

impl Number {
    pub fn new(value: BigDecimal) -> Self {
        Number { numerator: value, denominator: 1.into() }
    }
    /// `sum / count`, exactly.
    pub fn average(sum: BigDecimal, count: u64) -> Self {
        Number { numerator: sum, denominator: count.into() }
    }
    /// As a decimal; an average is not one, and gives its sum.
    pub(super) fn decimal(&self) -> &BigDecimal {
        &self.numerator
    }
    /// Plain decimal without exponent or trailing zeros; an average is rounded, half away from zero, to 12 decimals.
    pub fn text(&self) -> String {
        if self.denominator.is_one() {
            return plain(&self.numerator);
        }
        // In whole numbers: a decimal division would keep a hundred digits only, and round twice.
        let (digits, scale) = self.numerator.as_bigint_and_exponent();
        let power = |exponent: i64| BigInt::from(10).pow(exponent.max(0).try_into().unwrap_or(u32::MAX));
        let (count, _) = self.denominator.with_scale(0).as_bigint_and_exponent();
        let over = power(scale) * count;
        let rounded: BigInt = (digits.abs() * power(12 - scale.min(0)) * 2 + &over) / (over * 2);
        let rounded = if digits.is_negative() { -rounded } else { rounded };
        plain(&BigDecimal::new(rounded, 12))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Number {}
impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.numerator * &other.denominator).cmp(&(&other.numerator * &self.denominator))
    }
}

/// A decimal as text: no exponent, no trailing zeros, `0` for zero.
pub fn plain(number: &BigDecimal) -> String {
    if number.is_zero() { "0".into() } else { number.normalized().to_plain_string() }
}

/// What an expression yields for a profile or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(Number),
    Text(String),
    Bool(bool),
    /// `context('timestamp')`; its text is `YYYY-MM-DDThh:mm:ss.ffffffZ`.
    Instant(DateTime<Utc>),
    /// The scalar entries alone: no comparison looks at others.
    Array(Vec<Value>),
    Object,
}

impl Value {
    /// `None` for null: null and missing are the same.
    pub fn from_json(json: &Json) -> Option<Value> {
        Some(match json {
            Json::Null => return None,
            Json::Bool(bool) => Value::Bool(*bool),
            // Shortest decimal that reads back as the same number: what the store holds for it.
            Json::Number(number) => Value::Number(Number::new(BigDecimal::from_str(&number.to_string()).ok()?)),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(entries) => {
                Value::Array(entries.iter().filter_map(Value::from_json).filter(Value::is_scalar).collect())
            }
            Json::Object(_) => Value::Object,
        })
    }
    pub fn is_scalar(&self) -> bool {
        !matches!(self, Value::Array(_) | Value::Object)
    }
    /// The number it is, or its text wholly is.
    pub fn number(&self) -> Option<Number> {
        match self {
            Value::Number(number) => Some(number.clone()),
            Value::Text(text) => number_of(text).map(Number::new),
            _ => None,
        }
    }
    pub fn text(&self) -> Option<String> {
        match self {
            Value::Number(number) => Some(number.text()),
            Value::Text(text) => Some(text.clone()),
            Value::Bool(bool) => Some(bool.to_string()),
            Value::Instant(instant) => Some(instant.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()),
            Value::Array(_) | Value::Object => None,
        }
    }
    pub fn instant(&self) -> Option<DateTime<Utc>> {
        match self {
            Value::Instant(instant) => Some(*instant),
            Value::Text(text) => instant_of(text),
            _ => None,
        }
    }
}

/// The number that a text wholly is, if it is one.
pub fn number_of(text: &str) -> Option<BigDecimal> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$").expect("a constant pattern is valid")
    });
    if text.len() > limits::NUMBER_CHARS || !NUMBER.is_match(text) {
        return None;
    }
    // The parser of decimals wants digits on both sides of the point, and no plus sign.
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, digits) = match mantissa.as_bytes()[0] {
        b'-' => ("-", &mantissa[1..]),
        b'+' => ("", &mantissa[1..]),
        _ => ("", mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent: i32 = exponent.parse().ok()?;
    BigDecimal::from_str(&format!("{sign}0{whole}.{fraction}0e{exponent}")).ok()
}

/// The instant that a text in ISO 8601 is, in microseconds; further digits are cut off. Without a zone it is UTC.
pub fn instant_of(text: &str) -> Option<DateTime<Utc>> {
    static INSTANT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?$",
        )
        .expect("a constant pattern is valid")
    });
    let parts = INSTANT.captures(text)?;
    let part = |n: usize| parts.get(n).map_or(0, |part| part.as_str().parse::<u32>().unwrap_or(0));
    let micros = parts.get(7).map_or(0, |fraction| {
        let six: String = fraction.as_str().chars().chain("000000".chars()).take(6).collect();
        six.parse::<u32>().unwrap_or(0)
    });
    if part(1) == 0 || part(9) > 15 || part(10) > 59 {
        return None;
    }
    let local = NaiveDate::from_ymd_opt(part(1) as i32, part(2), part(3))?.and_hms_micro_opt(
        part(4),
        part(5),
        part(6),
        micros,
    )?;
    let east = (part(9) * 3_600 + part(10) * 60) as i32;
    let east = if parts.get(8).is_some_and(|sign| sign.as_str() == "-") { -east } else { east };
    Some(FixedOffset::east_opt(east)?.from_local_datetime(&local).single()?.with_timezone(&Utc))
}

/// Every value that a path reaches: none or one, or one for each entry where it has a `$`. Null is no value.
pub fn walk<'j>(json: &'j Json, path: &Path) -> Vec<&'j Json> {
    let mut reached = vec![json];
    for segment in &path.0 {
        reached = reached
            .into_iter()
            .flat_map(|json| match (segment, json) {
                (Segment::Key(key), Json::Object(fields)) => fields.get(key).into_iter().collect::<Vec<_>>(),
                (Segment::Each, Json::Array(entries)) => entries.iter().collect(),
                _ => Vec::new(),
            })
            .collect();
    }
    reached.retain(|json| !json.is_null());
    reached
}
