//! How does JavaScript write and read a value? The peer's output is JavaScript's, byte for byte, so ours must be.
//!
//! `JSON.stringify`, `String(value)` and `Number(text)`, for JSON values only.

use std::borrow::Cow;

use serde_json::Number;

use super::{Json, array_index, push_number, push_string};

/// Appends a number as JavaScript prints it: the shortest text that reads back, exponents from 1e21 and 1e-7.
/// Integers that JSON gave with up to 64 bits are printed exactly.
pub fn write_number(number: &Number, out: &mut String) {
    match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) => out.push_str(itoa::Buffer::new().format(integer)),
        (None, Some(integer)) => out.push_str(itoa::Buffer::new().format(integer)),
        (None, None) => push_number(out, number),
    }
}

/// Appends `JSON.stringify(value)`. The caller has dealt with a value that is undefined as a whole.
pub fn write_json(value: &Json<'_>, out: &mut String) {
    match value.view() {
        Json::Undefined | Json::Null | Json::Ref(_) => out.push_str("null"),
        Json::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Json::Number(number) => number.write(out),
        Json::Text(text) => push_string(out, text),
        Json::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            let start = out.len();
            let write = |key: &str, value: &Json<'_>| {
                if !matches!(value.view(), Json::Undefined) {
                    if out.len() > start {
                        out.push(',');
                    }
                    push_string(out, key);
                    out.push(':');
                    write_json(value, out);
                }
            };
            in_javascript_order(members, write);
            out.push('}');
        }
    }
}

/// Goes through members in the order that JavaScript keeps them: keys that are array indices first and ascending, the
/// others as they came.
pub fn in_javascript_order<'a>(members: &[(Cow<'a, str>, Json<'a>)], mut go: impl FnMut(&str, &Json<'a>)) {
    if members.iter().any(|(key, _)| array_index(key).is_some()) {
        let mut ordered: Vec<_> = members.iter().collect();
        ordered.sort_by_key(|(key, _)| array_index(key).map_or(u64::MAX, u64::from));
        ordered.into_iter().for_each(|(key, value)| go(key, value));
    } else {
        members.iter().for_each(|(key, value)| go(key, value));
    }
}

/// `JSON.stringify(value)`.
pub fn json_text(value: &Json<'_>) -> String {
    // Most payloads fit; growing would copy.
    let mut out = String::with_capacity(if matches!(value.view(), Json::Object(_)) { 512 } else { 16 });
    write_json(value, &mut out);
    out
}

/// Appends `String(value)`.
pub fn write_string(value: &Json<'_>, out: &mut String) {
    match value.view() {
        Json::Undefined => out.push_str("undefined"),
        Json::Null | Json::Ref(_) => out.push_str("null"),
        Json::Text(text) => out.push_str(text),
        Json::Object(_) => out.push_str("[object Object]"),
        // An array is its entries joined by commas, where null and nothing are empty.
        Json::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                if !item.is_absent() {
                    write_string(item, out);
                }
            }
        }
        scalar => write_json(scalar, out),
    }
}

/// `String(value)`.
pub fn string(value: &Json<'_>) -> String {
    let mut out = String::new();
    write_string(value, &mut out);
    out
}

/// What JavaScript's `trim` removes.
pub fn is_space(char: char) -> bool {
    (char.is_whitespace() && char != '\u{85}') || char == '\u{feff}'
}

/// `Number(text)`; `None` stands for NaN.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    if text.is_empty() {
        return Some(0.0);
    }
    for (prefixes, radix) in [(["0x", "0X"], 16), (["0o", "0O"], 8), (["0b", "0B"], 2)] {
        if let Some(digits) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) {
            let valid = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
            // Beyond 53 bits the additions round at each step; JavaScript rounds once. Nobody writes such partitions.
            return valid.then(|| {
                digits
                    .chars()
                    .filter_map(|digit| digit.to_digit(radix))
                    .fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit))
            });
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "Infinity" {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    // Rust also reads "inf" and "nan", which start with a letter; otherwise the two grammars agree.
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    text.parse().ok()
}
