//! What does one event hold for a reducer? The scalars at a path, read from what Postgres sends of them.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::num;
use crate::{
    audience::{
        ast::{Path, Segment},
        value::{Value, number_of, walk},
    },
    evaluate::tally::Amount,
    js,
};

/// One scalar, with its text in the canonical form of `docs/audience-language.md`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cell<'a> {
    pub text: Cow<'a, str>,
    /// A text or an instant, which JSON puts in quotes.
    quoted: bool,
    /// Neither a number nor a text that may be one.
    numberless: bool,
}

impl<'a> Cell<'a> {
    /// `context('timestamp')`: microseconds since 2000.
    pub(super) fn instant(instant: DateTime<Utc>) -> Cell<'static> {
        let text = Value::Instant(instant).text().unwrap_or_default();
        Cell { text: text.into(), quoted: true, numberless: true }
    }

    /// Its number, if it is one or a text that reads as one.
    pub(super) fn amount(&self) -> Option<Amount> {
        if self.numberless {
            return None;
        }
        if let Some(short) = num::short_millionths(&self.text) {
            return Some(Amount::Millionths(short));
        }
        // A text must look like a number of the language; what jsonb holds as a number is one.
        let number = if self.quoted { number_of(&self.text) } else { self.text.parse().ok() }?;
        Some(num::millionths(&number).map_or(Amount::Other(number), Amount::Millionths))
    }

    /// As JSON.
    pub(super) fn json(&self, out: &mut String) {
        if self.quoted { js::push_string(out, &self.text) } else { out.push_str(&self.text) }
    }

    fn of(value: &Value) -> Option<Cell<'static>> {
        Some(Cell {
            text: value.text()?.into(),
            quoted: matches!(value, Value::Text(_) | Value::Instant(_)),
            numberless: !matches!(value, Value::Number(_) | Value::Text(_)),
        })
    }
}

/// The scalars of one event at a path; more than one only behind a `$`.
pub(super) fn scalars<'a>(jsonb: &'a [u8], rest: &Path, each: &mut dyn FnMut(Cell<'a>)) {
    let Some(text) = text(jsonb) else { return };
    if rest.0.is_empty()
        && let Some(cell) = plain(text)
    {
        return each(cell);
    }
    let Ok(json) = serde_json::from_str::<Json>(text) else { return };
    walk(&json, rest).into_iter().filter_map(Value::from_json).filter_map(|value| Cell::of(&value)).for_each(each);
}

/// `as array`: all scalars that one event holds, arrays opened, as one text with commas.
pub(super) fn whole(jsonb: &[u8], rest: &Path) -> Option<String> {
    let json: Json = serde_json::from_str(text(jsonb)?).ok()?;
    let texts: Vec<String> = walk(&json, rest)
        .into_iter()
        .filter_map(Value::from_json)
        .flat_map(|value| match value {
            Value::Array(entries) => entries,
            value => vec![value],
        })
        .filter_map(|value| value.text())
        .collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// The part of a path that Postgres walks, and the rest from the first `$` on, which is walked here.
pub(super) fn halves(path: &Path) -> (Path, Path) {
    let at = path.0.iter().position(|segment| *segment == Segment::Each).unwrap_or(path.0.len());
    let (first, rest) = path.0.split_at(at);
    (Path(first.to_vec()), Path(rest.to_vec()))
}

/// A binary `jsonb` is a version and its text.
fn text(jsonb: &[u8]) -> Option<&str> {
    match jsonb.split_first() {
        Some((1, text)) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// Scalars that need no parser: most of what events hold.
fn plain(text: &str) -> Option<Cell<'_>> {
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'"' if !bytes.contains(&b'\\') => {
            Some(Cell { text: text[1..text.len() - 1].into(), quoted: true, numberless: false })
        }
        b'0'..=b'9' | b'-' => Some(Cell { text: canonical(text).into(), quoted: false, numberless: false }),
        b't' | b'f' => Some(Cell { text: text.into(), quoted: false, numberless: true }),
        _ => None,
    }
}

/// A number as Postgres prints it, without exponent, loses the zeros that mean nothing.
fn canonical(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(json: &str, rest: &[Segment]) -> Vec<(String, String, Option<String>)> {
        let jsonb = [&[1], json.as_bytes()].concat();
        let mut found = Vec::new();
        scalars(&jsonb, &Path(rest.to_vec()), &mut |cell| {
            let mut written = String::new();
            cell.json(&mut written);
            found.push((
                cell.text.to_string(),
                written,
                cell.amount().map(|amount| match amount {
                    Amount::Millionths(amount) => {
                        crate::audience::value::plain(&bigdecimal::BigDecimal::new(amount.into(), 6))
                    }
                    Amount::Other(number) => crate::audience::value::plain(&number),
                }),
            ));
        });
        found
    }

    #[test]
    fn scalars_are_read_in_one_form_however_they_are_written() {
        let one =
            |json: &str| cells(json, &[]).pop().map(|(text, written, number)| format!("{text}|{written}|{number:?}"));
        assert_eq!(one("12.50").unwrap(), r#"12.5|12.5|Some("12.5")"#);
        assert_eq!(one("100").unwrap(), r#"100|100|Some("100")"#);
        assert_eq!(one("0.0").unwrap(), r#"0|0|Some("0")"#);
        assert_eq!(one(r#""5""#).unwrap(), r#"5|"5"|Some("5")"#);
        assert_eq!(one(r#""a\"b""#).unwrap(), r#"a"b|"a\"b"|None"#);
        assert_eq!(one("true").unwrap(), "true|true|None");
        assert_eq!(one("null"), None);
        assert_eq!(one("[1]"), None);
        assert_eq!(one("{}"), None);
    }

    #[test]
    fn behind_a_dollar_there_are_several() {
        let entries = cells(r#"[1,"b",null,{"x":1},true]"#, &[Segment::Each]);
        assert_eq!(entries.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>(), ["1", "b", "true"]);
        let jsonb = [&[1], &br#"["a",["b"],5]"#[..]].concat();
        assert_eq!(whole(&jsonb, &Path(Vec::new())).unwrap(), "a,5");
        assert_eq!(whole(&jsonb, &Path(vec![Segment::Each])).unwrap(), "a,b,5");
    }
}
