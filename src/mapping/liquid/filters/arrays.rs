//! What do the filters of arrays answer? A value that is no array counts as an array of one.

use super::{super::value::Value, Call, bounded};
use crate::{js::Json, mapping::Fault};

impl<'a> Call<'_, 'a> {
    pub(super) fn of_arrays(&self) -> Result<Option<Value<'a>>, Fault> {
        Ok(Some(match self.name {
            "join" => {
                let by = if self.arguments.is_empty() { " ".into() } else { self.text(0) };
                let items: Vec<String> =
                    items(&self.value).into_iter().map(|item| Value::Json(item).to_text()).collect();
                bounded(items.join(&by))?
            }
            "first" => ends(&self.value, true),
            "last" => ends(&self.value, false),
            "size" => Value::Number(match self.value.as_json() {
                Some(Json::Text(text)) => text.encode_utf16().count() as f64,
                Some(Json::Array(items)) => items.len() as f64,
                _ => 0.0,
            }),
            "slice" => slice(&self.value, self.number(0, 0.0), self.number(1, 1.0)),
            "compact" => array(items(&self.value).into_iter().filter(|item| !item.is_absent()).collect()),
            "sum" => Value::Number(self.sum()),
            "push" | "unshift" => {
                let mut items = items(&self.value);
                let item = self.first_argument().into_json();
                if self.name == "push" {
                    items.push(item)
                } else {
                    items.insert(0, item)
                }
                array(items)
            }
            "pop" | "shift" => {
                let mut items = items(&self.value);
                if self.name == "pop" {
                    items.pop();
                } else if !items.is_empty() {
                    items.remove(0);
                }
                array(items)
            }
            "where" => self.entries_where(),
            _ => return Ok(None),
        }))
    }

    fn sum(&self) -> f64 {
        let of = |item: Json<'a>| match self.arguments.first() {
            Some(key) => item.member(&key.to_text()).map_or(0.0, |member| Value::Json(member.clone()).to_number()),
            None => Value::Json(item).to_number(),
        };
        items(&self.value).into_iter().map(of).sum()
    }

    /// The entries that have the member, with the wanted value if one is named.
    fn entries_where(&self) -> Value<'a> {
        let (key, wanted) = (self.text(0), self.arguments.get(1).map(Value::to_text));
        let keeps = |item: &Json<'_>| match (item.member(&key), &wanted) {
            (Some(member), Some(wanted)) => Value::Json(member.clone()).to_text() == *wanted,
            (Some(member), None) => Value::Json(member.clone()).is_true(),
            (None, _) => false,
        };
        array(items(&self.value).into_iter().filter(keeps).collect())
    }
}

pub(super) fn array(items: Vec<Json<'_>>) -> Value<'_> {
    Value::Json(Json::Array(items))
}

/// The entries of an array; any other value is an array of one, nothing is empty.
fn items<'a>(value: &Value<'a>) -> Vec<Json<'a>> {
    match value {
        Value::Json(json) => match json.view() {
            Json::Undefined | Json::Null => Vec::new(),
            Json::Array(items) => items.clone(),
            _ => vec![json.clone()],
        },
        number => vec![number.clone().into_json()],
    }
}

fn ends<'a>(value: &Value<'a>, first: bool) -> Value<'a> {
    match value.as_json() {
        Some(Json::Array(items)) => {
            let item = if first { items.first() } else { items.last() };
            item.map_or(Value::nothing(), |item| Value::Json(item.clone()))
        }
        Some(Json::Text(text)) => {
            let char = if first { text.chars().next() } else { text.chars().next_back() };
            Value::text(char.map(String::from).unwrap_or_default())
        }
        _ => Value::text(""),
    }
}

fn slice<'a>(value: &Value<'a>, begin: f64, length: f64) -> Value<'a> {
    let bounds = |size: usize| {
        let begin = if begin < 0.0 { size as f64 + begin } else { begin };
        let valid = begin >= 0.0 && length >= 0.0;
        let from = begin.clamp(0.0, size as f64);
        let to = (begin + length).clamp(from, size as f64);
        if valid { from as usize..to as usize } else { 0..0 }
    };
    match value.as_json() {
        Some(Json::Array(items)) => array(items[bounds(items.len())].to_vec()),
        Some(Json::Undefined | Json::Null) => array(Vec::new()),
        _ => {
            let units: Vec<u16> = value.to_text().encode_utf16().collect();
            Value::text(String::from_utf16_lossy(&units[bounds(units.len())]))
        }
    }
}
