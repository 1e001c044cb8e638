//! Where in the file does each value stand? YAML as a tree that keeps the place of every key and value.
//!
//! Duplicate keys are kept, so that they can be told with everything else; aliases and merge keys are expanded, within
//! limits that stop a small file from becoming a huge one.

use std::{fmt, ops::Range};

use serde::{Deserialize, Deserializer, de};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use crate::{error::Problem, limits};

/// A value and its place, as byte ranges in the file.
#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    /// Where it is used.
    pub span: Range<usize>,
    /// Where it is written; differs from `span` for an alias.
    pub written: Range<usize>,
    /// Whether a `${…}` in it was replaced: it may then be meant as a number or a boolean.
    pub replaced: bool,
}

#[derive(Debug, Clone)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, repeated keys included.
    Map(Vec<(Key, Node)>),
    /// A `${…}` that could not be replaced, which has been told.
    Unresolved,
}

#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    pub span: Range<usize>,
}

/// Reads YAML, or says where it is not YAML.
pub fn read(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: limits::CONFIG_DEPTH,
            max_nodes: limits::CONFIG_NODES,
            max_events: 3 * limits::CONFIG_NODES,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: limits::CONFIG_NODES },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().unwrap_or(Location::UNKNOWN);
        Problem {
            message: reason(&error),
            span: line_from(text, place),
            help: Some(
                "Values with special characters go in quotes, as \"${NAME}\" within { }; indent with spaces.".into(),
            ),
        }
    })
}

/// From a place, which the scanner gives as line and column alone, to the end of its line.
fn line_from(text: &str, place: Location) -> Range<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n').take(place.line().saturating_sub(1) as usize) {
        start += line.len();
    }
    let line = text[start..].lines().next().unwrap_or_default();
    let column = place.column().saturating_sub(1) as usize;
    let offset = line.char_indices().nth(column).map_or(line.len(), |(offset, _)| offset);
    start + offset..start + line.len()
}

/// What is wrong, without a word of the text, which may hold a secret.
fn reason(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    match error.without_snippet() {
        E::Budget { .. } | E::AliasReplayLimitExceeded { .. } | E::AliasReplayStackDepthExceeded { .. } => {
            format!(
                "too much: at most {} values, {} deep, aliases expanded",
                limits::CONFIG_NODES,
                limits::CONFIG_DEPTH
            )
        }
        E::UnknownAnchor { .. } => "an alias to an anchor that is not there".into(),
        E::MultipleDocuments { .. } => "a second YAML document: the configuration is one".into(),
        E::Eof { .. } => "the file is empty".into(),
        E::ExternalMessage { msg, .. } => format!("this is not YAML: {msg}"),
        E::NonFiniteFloat { .. } => "a number that is not finite".into(),
        _ => "this is not YAML that a configuration can hold".into(),
    }
}

impl Node {
    /// The value of a key; the first, where it is repeated.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// What a path of keys leads to.
    pub fn path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The entries of a map; none, if it is no map.
    pub fn entries(&self) -> &[(Key, Node)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; none, if it is no list.
    pub fn items(&self) -> &[Node] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The text of a key, and its place.
    pub fn text(&self, name: &str) -> Option<(&Node, &str)> {
        let node = self.get(name)?;
        node.as_text().map(|text| (node, text))
    }

    /// A short place to point at: the first key of a map, else all of it.
    pub fn start(&self) -> Range<usize> {
        self.entries().first().map_or(self.span.clone(), |(key, _)| key.span.clone())
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null | Value::Unresolved => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The same as JSON; of repeated keys the first.
    pub fn into_json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self.value {
            Value::Null | Value::Unresolved => Json::Null,
            Value::Bool(value) => Json::Bool(value),
            Value::Number(value) => Json::Number(value),
            Value::Text(value) => Json::String(value),
            Value::List(items) => items.into_iter().map(Node::into_json).collect(),
            Value::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, node) in entries {
                    map.entry(key.name).or_insert_with(|| node.into_json());
                }
                Json::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, defined } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { value, span: range(referenced), written: range(defined), replaced: false })
    }
}

fn range(location: Location) -> Range<usize> {
    let start = location.span().byte_offset().unwrap_or(0) as usize;
    start..start + location.span().byte_len().unwrap_or(0) as usize
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            map.push((Key { name: key.value, span: range(key.referenced) }, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}
