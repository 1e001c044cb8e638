//! How does JavaScript write, read and convert a value? Segment's text, byte for byte.
//!
//! Here is `JSON.stringify` after `JSON.parse`: numbers are doubles in their shortest form, integer-like keys come first in
//! ascending order. Pure.

pub mod coerce;
mod convert;
mod json;
mod number;

use serde_json::{Map, Value};

pub use convert::{in_javascript_order, is_space, json_text, number, string, write_json, write_number, write_string};
pub use json::{Json, Members, settle_repeats};
pub use number::Number;

/// Appends a string literal.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    // Most texts need no escape; this look at all bytes is vectorised, which a search that stops is not.
    if !text.bytes().fold(false, |found, byte| found | (byte < 0x20 || byte == b'"' || byte == b'\\')) {
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[plain..index]);
        out.push_str(escape);
        if escape.is_empty() {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.push_str("\\u00");
            out.push(HEX[usize::from(byte >> 4)].into());
            out.push(HEX[usize::from(byte & 15)].into());
        }
        plain = index + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Appends a number as the double that it is in JavaScript; what is none (1e999) becomes `null`.
pub fn push_number(out: &mut String, number: &serde_json::Number) {
    const EXACT: i64 = 1 << 53;
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) if (-EXACT..=EXACT).contains(&integer) => {
            out.push_str(itoa::Buffer::new().format(integer));
        }
        (_, Some(double)) if double.is_finite() => out.push_str(ryu_js::Buffer::new().format_finite(double)),
        _ => out.push_str("null"),
    }
}

/// Appends a value as compact JSON.
pub fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => push_number(out, number),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => push_object(out, members),
    }
}

fn push_object(out: &mut String, members: &Map<String, Value>) {
    out.push('{');
    let mut separate = false;
    let mut push = |out: &mut String, key: &str, value: &Value| {
        if std::mem::replace(&mut separate, true) {
            out.push(',');
        }
        push_string(out, key);
        out.push(':');
        push_value(out, value);
    };
    let mut indexes: Vec<(u32, &String, &Value)> =
        members.iter().filter_map(|(key, value)| Some((array_index(key)?, key, value))).collect();
    indexes.sort_unstable_by_key(|(index, ..)| *index);
    for (_, key, value) in &indexes {
        push(out, key, value);
    }
    for (key, value) in members {
        if indexes.is_empty() || array_index(key).is_none() {
            push(out, key, value);
        }
    }
    out.push('}');
}

/// The number that a key is in JavaScript's property order: `0` to `4294967294`, without leading zeros.
pub fn array_index(key: &str) -> Option<u32> {
    let digits = key.as_bytes();
    let canonical = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.iter().all(u8::is_ascii_digit);
    if !canonical || digits.len() > 10 {
        return None;
    }
    key.parse().ok().filter(|index| *index != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_javascript_writes_them() {
        let text = r#"{"b":1.0,"10":-0,"9":1e21,"a":[0.1,123456789012345680000,"\u001f\"é\u2028"],"01":null}"#;
        let mut out = String::new();
        push_value(&mut out, &serde_json::from_str(text).unwrap());
        let expected =
            "{\"9\":1e+21,\"10\":0,\"b\":1,\"a\":[0.1,123456789012345680000,\"\\u001f\\\"é\u{2028}\"],\"01\":null}";
        assert_eq!(out, expected);
    }
}
