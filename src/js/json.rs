//! What does a mapping read and build? JSON values that borrow from the event's text, and their text as JavaScript writes it.
//!
//! One type serves the event, the literals of a mapping and what comes out of it, so that a subtree that passes through is
//! referred to, never copied. Objects keep the order of the event. Integers of up to 64 bits stay exact; the peer, whose
//! numbers are all doubles, corrupts those above 2^53.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Number;

/// The members of an object, in the order of the event. Keys are unique.
pub type Members<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// A JSON value, or nothing at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// What JavaScript calls `undefined`: a member with it is left out, an array entry becomes null.
    Undefined,
    Null,
    Bool(bool),
    Number(Number<'a>),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Members<'a>),
    /// A value that lives in the event or in the mapping.
    Ref(&'a Json<'a>),
}

impl<'a> Json<'a> {
    /// The value of a text, borrowing nothing; `None` if it is not JSON.
    pub fn read(text: &str) -> Option<Json<'static>> {
        serde_json::from_str::<Json<'_>>(text).ok().map(Json::into_owned)
    }

    /// The value itself, behind any references.
    pub fn view(&self) -> &Json<'a> {
        let mut value = self;
        while let Json::Ref(inner) = value {
            value = inner;
        }
        value
    }

    /// A text that borrows.
    pub fn text(text: &'a str) -> Self {
        Json::Text(Cow::Borrowed(text))
    }

    /// `Undefined` and `Null`.
    pub fn is_absent(&self) -> bool {
        matches!(self.view(), Json::Undefined | Json::Null)
    }

    /// What JavaScript takes for false: nothing, null, false, zero and the empty text.
    pub fn is_falsy(&self) -> bool {
        match self.view() {
            Json::Undefined | Json::Null | Json::Bool(false) => true,
            Json::Number(number) => number.as_f64() == Some(0.0),
            Json::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self.view() {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The kind of value, in the words of the peer's messages.
    pub fn kind(&self) -> &'static str {
        match self.view() {
            Json::Undefined => "undefined",
            Json::Null => "null",
            Json::Bool(_) => "boolean",
            Json::Number(_) => "number",
            Json::Text(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) | Json::Ref(_) => "object",
        }
    }

    /// A member of an object.
    pub fn member(&self, key: &str) -> Option<&Json<'a>> {
        match self.view() {
            Json::Object(members) => members.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A copy that borrows nothing, for values that outlive what they were built from.
    pub fn into_owned(self) -> Json<'static> {
        match self {
            Json::Undefined => Json::Undefined,
            Json::Null => Json::Null,
            Json::Bool(bool) => Json::Bool(bool),
            Json::Number(number) => Json::Number(number.into_owned()),
            Json::Text(text) => Json::Text(Cow::Owned(text.into_owned())),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(members) => Json::Object(
                members.into_iter().map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned())).collect(),
            ),
            Json::Ref(value) => value.clone().into_owned(),
        }
    }

    /// As the rest of the program knows JSON; nothing becomes null.
    pub fn to_value(&self) -> Value {
        match self.view() {
            Json::Undefined | Json::Null | Json::Ref(_) => Value::Null,
            Json::Bool(bool) => Value::Bool(*bool),
            Json::Number(number) => Value::Number(number.read().into_owned()),
            Json::Text(text) => Value::String(text.to_string()),
            Json::Array(items) => Value::Array(items.iter().map(Json::to_value).collect()),
            Json::Object(members) => Value::Object(
                members
                    .iter()
                    .filter(|(_, value)| !matches!(value.view(), Json::Undefined))
                    .map(|(key, value)| (key.to_string(), value.to_value()))
                    .collect(),
            ),
        }
    }
}

impl<'a> From<&'a Value> for Json<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Json::Null,
            Value::Bool(bool) => Json::Bool(*bool),
            Value::Number(number) => Json::Number(number.clone().into()),
            Value::String(text) => Json::text(text),
            Value::Array(items) => Json::Array(items.iter().map(Json::from).collect()),
            Value::Object(map) => {
                Json::Object(map.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), value.into())).collect())
            }
        }
    }
}

/// Up to this many members a repeated key is looked for by going through them; above, by sorting.
const SMALL: usize = 24;

/// Drops the earlier values of repeated keys: the last one wins, at the first one's place, as `JSON.parse` does.
pub fn settle_repeats(mut members: Members<'_>) -> Members<'_> {
    if members.len() <= SMALL {
        let mut at = 1;
        while at < members.len() {
            match members[..at].iter().position(|(key, _)| *key == members[at].0) {
                Some(first) => members[first].1 = members.remove(at).1,
                None => at += 1,
            }
        }
        return members;
    }
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    if !keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return members;
    }
    let mut places = std::collections::HashMap::new();
    let mut kept: Members<'_> = Vec::with_capacity(members.len());
    for (key, value) in members {
        match places.get(&key) {
            Some(&place) => {
                let slot: &mut (Cow<'_, str>, Json<'_>) = &mut kept[place];
                slot.1 = value;
            }
            None => {
                places.insert(key.clone(), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

/// Borrows texts and keys without escapes from the source.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.into())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, bool: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(bool))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(Number::Read(number.into())))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(Number::Read(number.into())))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::text(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.into())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some(Key(key)) = access.next_key()? {
            members.push((key, access.next_value()?));
        }
        Ok(Json::Object(settle_repeats(members)))
    }
}
