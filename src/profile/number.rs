//! Which values count as numbers, and how does Postgres' `numeric` write them on the wire? Pure.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::value::RawValue;

use super::json::{Members, text_of};
use crate::limits::NUMBER_CHARS;

/// A string that is wholly a number: `rollcall_number` in SQL.
const NUMBER_PATTERN: &str = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$";
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(NUMBER_PATTERN).expect("the pattern is valid"));

/// The number at `path` of a JSON object as `numeric` on the wire: a JSON number, or a string that is wholly one.
pub fn number_at(json: &str, path: &[String]) -> Option<Vec<u8>> {
    let (last, above) = path.split_last()?;
    let mut members: Members = serde_json::from_str(json).ok()?;
    for name in above {
        members = members.get(name).and_then(Members::of)?;
    }
    number(members.get(last)?)
}

fn number(raw: &RawValue) -> Option<Vec<u8>> {
    match text_of(raw) {
        Some(text) => (text.len() <= NUMBER_CHARS && NUMBER.is_match(&text)).then(|| to_numeric(&text))?,
        None if matches!(raw.get().as_bytes().first(), Some(b'-' | b'0'..=b'9')) => to_numeric(raw.get()),
        None => None,
    }
}

/// Postgres' binary `numeric`: digit count, weight of the first, sign, decimal places shown, digits to the base 10,000.
fn to_numeric(text: &str) -> Option<Vec<u8>> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.trim_start_matches('+').parse().ok()?;
    let negative = mantissa.starts_with('-');
    let (whole, fraction) = mantissa
        .trim_start_matches(['+', '-'])
        .split_once('.')
        .unwrap_or((mantissa.trim_start_matches(['+', '-']), ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    // Decimal digits before the point, and shown after it.
    let mut before = i32::try_from(whole.len()).ok()? + exponent;
    let shown = u16::try_from((i32::try_from(fraction.len()).ok()? - exponent).max(0)).ok()?;
    // Pad in front so that groups of four align with the point.
    let pad = (4 - before.rem_euclid(4)) % 4;
    digits.splice(0..0, std::iter::repeat_n(0, usize::try_from(pad).ok()?));
    before += pad;
    digits.resize(digits.len().next_multiple_of(4), 0);
    let mut groups: Vec<i16> =
        digits.chunks(4).map(|four| four.iter().fold(0, |sum, digit| sum * 10 + i16::from(*digit))).collect();
    let mut weight = before / 4 - 1;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= i32::try_from(leading).ok()?;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    let sign: u16 = if negative && !groups.is_empty() { 0x4000 } else { 0 };
    let mut wire = Vec::with_capacity(8 + groups.len() * 2);
    wire.extend(i16::try_from(groups.len()).ok()?.to_be_bytes());
    wire.extend(i16::try_from(weight).ok()?.to_be_bytes());
    wire.extend(sign.to_be_bytes());
    wire.extend(shown.to_be_bytes());
    groups.iter().for_each(|group| wire.extend(group.to_be_bytes()));
    Some(wire)
}
