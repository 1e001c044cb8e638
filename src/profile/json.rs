//! Can Postgres store this JSON? And what stands where in it, without building a tree. Pure.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::limits::{JSON_DEPTH, JSON_EXPONENT, JSON_NUMBER_CHARS};

/// Finds what is valid JSON but cannot be stored as jsonb or read back: the NUL character, half of a surrogate pair,
/// numbers beyond `numeric`, nesting without end. `text` is then checked for syntax by its parser.
pub fn check_storable(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'"' => skip_string(bytes, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > JSON_DEPTH {
                    return Err(format!("is nested deeper than {JSON_DEPTH} levels"));
                }
                at + 1
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at + 1
            }
            b'-' | b'0'..=b'9' => skip_number(bytes, at)?,
            _ => at + 1,
        };
    }
    Ok(())
}

/// The place after the closing quote.
fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => match code_unit(bytes, at) {
                Some(0) => return Err("holds the NUL character, which Postgres cannot store".into()),
                Some(0xD800..0xDC00) if matches!(code_unit(bytes, at + 6), Some(0xDC00..0xE000)) => at += 12,
                Some(0xD800..0xE000) => return Err("holds half of a Unicode surrogate pair".into()),
                _ => at += 2,
            },
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The code unit of the `\uXXXX` at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(str::from_utf8(escape).ok()?, 16).ok()
}

fn skip_number(bytes: &[u8], at: usize) -> Result<usize, String> {
    let length =
        bytes[at..].iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
    let number = &bytes[at..at + length];
    let exponent = number.iter().position(|byte| matches!(byte, b'e' | b'E')).map_or(&b""[..], |e| &number[e + 1..]);
    let exponent = str::from_utf8(exponent).unwrap_or("").trim_start_matches(['+', '-']);
    if length > JSON_NUMBER_CHARS || !exponent.is_empty() && exponent.parse::<u32>().map_or(true, |e| e > JSON_EXPONENT)
    {
        return Err("holds a number too large or too precise to store".into());
    }
    Ok(at + length)
}

/// An object's members in order, each value as it was written.
#[derive(Debug, Default)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The members of `raw`, or None when it is not an object.
    pub fn of(raw: &'a RawValue) -> Option<Members<'a>> {
        serde_json::from_str(raw.get()).ok()
    }

    /// The same of a message's field, where an empty list is an empty object: PHP writes both the same.
    pub fn of_field(raw: &'a RawValue) -> Option<Members<'a>> {
        if is_empty_list(raw) { Some(Members::default()) } else { Members::of(raw) }
    }

    /// The value of the last member called `name`, unless it is null.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    /// As JSON again.
    pub fn write(&self) -> String {
        let mut out = String::from("{");
        for (key, value) in &self.0 {
            write_member(&mut out, key, value.get());
        }
        out.push('}');
        out
    }
}

/// Adds `"key":raw` to an object that is being written.
pub fn write_member(out: &mut String, key: &str, raw: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push_str(&quote(key));
    out.push(':');
    out.push_str(raw);
}

/// Whether this is a list without elements.
pub fn is_empty_list(raw: &RawValue) -> bool {
    let inside = raw.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// The digits of a whole number, without the zeros that some languages write behind its point.
pub fn digits_of(raw: &RawValue) -> Option<&str> {
    let (digits, zeros) = raw.get().split_once('.').unwrap_or((raw.get(), ""));
    let is_whole = zeros.bytes().all(|byte| byte == b'0');
    let bare = digits.strip_prefix('-').unwrap_or(digits);
    let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    (is_whole && is_number).then_some(if bare == "0" { bare } else { digits })
}

/// JSON without the spaces between its parts.
pub fn compact(json: &[u8]) -> Cow<'_, [u8]> {
    let mut in_text = false;
    let mut escaped = false;
    let mut is_kept = |byte: u8| {
        if in_text {
            (in_text, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            return true;
        }
        in_text = byte == b'"';
        !byte.is_ascii_whitespace()
    };
    match json.iter().position(|byte| !is_kept(*byte)) {
        None => Cow::Borrowed(json),
        Some(first) => {
            let rest = json[first + 1..].iter().copied().filter(|byte| is_kept(*byte));
            Cow::Owned(json[..first].iter().copied().chain(rest).collect())
        }
    }
}

/// A JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text of a JSON string; None for any other value.
pub fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &RawValue>()? {
                    members.push((key.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_between_parts_are_left_out_and_those_in_texts_are_kept() {
        assert_eq!(&*compact(br#"{ "a" : [1, 2] , "b c":"x \" y"}"#), br#"{"a":[1,2],"b c":"x \" y"}"#);
        assert_eq!(&*compact(br#"{"a":"\\" , "b":1}"#), br#"{"a":"\\","b":1}"#);
    }

    #[test]
    fn a_whole_number_is_its_digits() {
        let digits = |json: &str| digits_of(serde_json::from_str(json).unwrap()).map(str::to_owned);
        for (json, expected) in [
            ("42", Some("42")),
            ("-42", Some("-42")),
            ("42.0", Some("42")),
            ("42.000", Some("42")),
            ("-0", Some("0")),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            ("42.5", None),
            ("4e2", None),
            ("\"42\"", None),
            ("true", None),
        ] {
            assert_eq!(digits(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn what_jsonb_refuses_is_found_first() {
        assert!(check_storable(r#"{"a":"\ud83d\ude00 \\u0000 é","b":[-1.5e300,0.1],"c":"]]\""}"#).is_ok());
        for text in [
            r#""\u0000""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            "1e401",
            "[1E+99999999999999]",
            &"9".repeat(401),
            &"[".repeat(101),
        ] {
            assert!(check_storable(text).is_err(), "{text}");
        }
    }
}
