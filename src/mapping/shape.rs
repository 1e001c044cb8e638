//! How are objects and arrays reshaped? `@arrayPath`, `@flatten`, `@merge`, `@json` decoding, `@excludeWhenNull`.

use std::borrow::Cow;

use crate::js::{Json, Members, settle_repeats};

/// One level, keys joined by the separator. Empty objects and arrays vanish; a value that is neither gets the empty key.
pub fn flatten<'a>(value: Json<'a>, separator: &str, omit_arrays: bool) -> Json<'a> {
    fn into<'a>(value: Json<'a>, prefix: &str, separator: &str, omit_arrays: bool, flat: &mut Members<'a>) {
        let joined = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}{separator}{key}") };
        match value.view() {
            Json::Undefined => {}
            Json::Object(_) => {
                for (key, member) in members_of(value) {
                    into(member, &joined(&key), separator, omit_arrays, flat);
                }
            }
            Json::Array(_) if !omit_arrays => {
                for (at, item) in items_of(value).into_iter().enumerate() {
                    into(item, &joined(&at.to_string()), separator, omit_arrays, flat);
                }
            }
            _ => flat.push((Cow::Owned(prefix.to_owned()), value)),
        }
    }
    let mut flat = Vec::new();
    into(value, "", separator, omit_arrays, &mut flat);
    Json::Object(settle_repeats(flat))
}

/// `Object.assign`: adds the members of an object to those of others; repeated keys are settled by the caller. Texts and
/// arrays give their entries by number; null, nothing, numbers and booleans give nothing.
pub fn assign<'a>(members: &mut Members<'a>, object: Json<'a>) {
    match object {
        Json::Object(more) => members.extend(more),
        Json::Ref(object) if matches!(object.view(), Json::Object(_)) => members.extend(borrowed(object)),
        object => match object.view() {
            Json::Array(_) => {
                let items = items_of(object).into_iter().enumerate();
                members.extend(items.map(|(at, item)| (Cow::Owned(at.to_string()), item)));
            }
            Json::Text(text) => {
                let mut at = 0;
                for char in text.chars() {
                    members.push((Cow::Owned(at.to_string()), Json::Text(Cow::Owned(char.to_string()))));
                    at += char.len_utf16();
                }
            }
            _ => {}
        },
    }
}

/// A text that is JSON becomes its value; any other text, and any other value, stays.
pub fn decode(value: Json<'_>) -> Json<'_> {
    match value.as_str().and_then(|text| serde_json::from_str::<Json<'_>>(text).ok()) {
        Some(decoded) => decoded.into_owned(),
        None => value,
    }
}

/// Null becomes nothing, also in the members of objects, but not inside arrays.
pub fn without_nulls(value: Json<'_>) -> Json<'_> {
    match value.view() {
        Json::Null => Json::Undefined,
        Json::Object(members) if members.iter().any(|(_, member)| holds_null(member)) => Json::Object(
            members_of(value)
                .into_iter()
                .map(|(key, member)| (key, without_nulls(member)))
                .filter(|(_, member)| !matches!(member, Json::Undefined))
                .collect(),
        ),
        _ => value,
    }
}

fn holds_null(value: &Json<'_>) -> bool {
    match value.view() {
        Json::Null => true,
        Json::Object(members) => members.iter().any(|(_, member)| holds_null(member)),
        _ => false,
    }
}

/// Members without a value are dropped at every level.
pub fn without_undefined(value: Json<'_>) -> Json<'_> {
    match value {
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .map(|(key, member)| (key, without_undefined(member)))
                .filter(|(_, member)| !matches!(member.view(), Json::Undefined))
                .collect(),
        ),
        Json::Array(items) => Json::Array(items.into_iter().map(without_undefined).collect()),
        // What is referred to came from JSON, where nothing is undefined.
        other => other,
    }
}

fn members_of(value: Json<'_>) -> Members<'_> {
    match value {
        Json::Object(members) => members,
        Json::Ref(object) => borrowed(object).collect(),
        _ => Vec::new(),
    }
}

/// The members of an object that lives elsewhere.
fn borrowed<'a>(object: &'a Json<'a>) -> impl Iterator<Item = (Cow<'a, str>, Json<'a>)> {
    let members = match object.view() {
        Json::Object(members) => members.as_slice(),
        _ => &[],
    };
    members.iter().map(|(key, member)| (Cow::Borrowed(&**key), Json::Ref(member)))
}

fn items_of(value: Json<'_>) -> Vec<Json<'_>> {
    match value {
        Json::Array(items) => items,
        Json::Ref(array) => match array.view() {
            Json::Array(items) => items.iter().map(Json::Ref).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
