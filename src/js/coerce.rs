//! What does a value become when a field wants another type? The rules of ajv with `coerceTypes: "array"`, by which the
//! peer reads its settings and the fields of the Send action.
//!
//! Every function answers `None` when the value cannot be meant; none of them can panic.

use std::borrow::Cow;

use super::Json;
use crate::js;

/// An array of one entry stands for that entry.
fn only_entry<'v, 'a>(value: &'v Json<'a>) -> &'v Json<'a> {
    match value.view() {
        Json::Array(items) if items.len() == 1 => items[0].view(),
        other => other,
    }
}

/// A text: numbers and booleans become their text, null the empty one.
pub fn text<'a>(value: &Json<'a>) -> Option<Cow<'a, str>> {
    match only_entry(value) {
        Json::Text(text) => Some(text.clone()),
        Json::Null => Some(Cow::Borrowed("")),
        scalar @ (Json::Bool(_) | Json::Number(_)) => Some(Cow::Owned(js::string(scalar))),
        _ => None,
    }
}

/// The same, taking the value, so that a text that was made is moved.
pub fn into_text(value: Json<'_>) -> Option<String> {
    match value {
        Json::Text(text) => Some(text.into_owned()),
        other => text(&other).map(Cow::into_owned),
    }
}

/// A number: numeric texts, booleans and null as `Number(value)` reads them, but not the empty text.
pub fn number(value: &Json<'_>) -> Option<f64> {
    match only_entry(value) {
        Json::Number(number) => number.as_f64(),
        Json::Null => Some(0.0),
        Json::Bool(bool) => Some(f64::from(u8::from(*bool))),
        Json::Text(text) if !text.is_empty() => js::number(text),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// An integer: a number without a fraction.
pub fn integer(value: &Json<'_>) -> Option<f64> {
    number(value).filter(|number| number.fract() == 0.0)
}

/// A boolean: its text, 1 and 0, and null for false.
pub fn boolean(value: &Json<'_>) -> Option<bool> {
    match only_entry(value) {
        Json::Bool(bool) => Some(*bool),
        Json::Null => Some(false),
        Json::Text(text) if text == "true" => Some(true),
        Json::Text(text) if text == "false" => Some(false),
        Json::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Json::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        _ => None,
    }
}
