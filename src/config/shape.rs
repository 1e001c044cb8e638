//! Does the file have the right keys, with values of the right type? It is held against the JSON Schema that
//! `rollcall schema` prints, so what an editor accepts and what the program accepts cannot differ. On the way variables are
//! replaced, where the schema says that settings stand.
//!
//! Knows the words of JSON Schema that schemars writes for [`super::Config`], and no others: a test checks that.

use serde_json::{Map, Value as Json};

use super::{
    tree::{Key, Node, Value},
    variables::{self, SETTINGS, Surroundings},
};
use crate::error::Problem;

/// Holds a tree against a schema; what does not belong is told and taken out, so that the rest can be looked at.
pub struct Shape<'a> {
    pub schema: &'a Json,
    /// The file, and what its variables may refer to.
    pub text: &'a str,
    pub around: &'a Surroundings<'a>,
    pub problems: &'a mut Vec<Problem>,
}

impl<'a> Shape<'a> {
    /// Checks `node`, which `name` names in messages.
    pub fn check(&mut self, node: &mut Node, name: &str) {
        self.against(node, self.schema, name, false);
    }

    /// `settings`: whether this stands within what the schema calls settings.
    fn against(&mut self, node: &mut Node, schema: &'a Json, name: &str, settings: bool) {
        let settings = settings || schema.get(SETTINGS).is_some() || self.resolve(schema).get(SETTINGS).is_some();
        let schema = self.resolve(schema);
        let (words, types) = (words_of(self, schema), types_of(schema));
        // A number or a switch shows nothing else.
        let is_text = types.is_empty() || types.contains(&"string");
        self.replace(node, settings || !is_text);
        if matches!(node.value, Value::Unresolved) {
            return;
        }
        if !words.is_empty() {
            return self.one_of(node, &words, name);
        }
        if types.is_empty() {
            return self.below(node, settings);
        }
        adapt(node, &types);
        if !types.iter().any(|name| is(node, name)) {
            let expected = types.iter().copied().filter(|name| *name != "null").map(described).collect::<Vec<_>>();
            let help = match node.value {
                Value::Number(_) | Value::Bool(_) if types.contains(&"string") => "Put it in quotes.".into(),
                _ => format!("Write {} here.", expected.join(" or ")),
            };
            let message = format!("{name} is {}, but should be {}", node.kind(), expected.join(" or "));
            return self.tell(message, node.span.clone(), help);
        }
        let start = node.start();
        match &mut node.value {
            Value::Number(number) => {
                if let Some(least) =
                    schema.get("minimum").and_then(Json::as_f64).filter(|least| number.as_f64() < Some(*least))
                {
                    self.tell(format!("{name} is too small"), start, format!("Write {least} or more."));
                }
            }
            Value::Map(entries) => {
                self.map(entries, start, schema, name, settings);
            }
            Value::List(items) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.against(item, schema, &format!("{name}[{index}]"), settings);
                    }
                }
            }
            _ => {}
        }
    }

    fn map(
        &mut self,
        entries: &mut Vec<(Key, Node)>,
        span: std::ops::Range<usize>,
        schema: &'a Json,
        name: &str,
        settings: bool,
    ) {
        let none = Map::new();
        let known = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let required: Vec<&str> =
            schema.get("required").into_iter().flat_map(Json::as_array).flatten().filter_map(Json::as_str).collect();
        let mut seen = Vec::<String>::new();
        entries.retain_mut(|(key, node)| {
            let path = if name.is_empty() { key.name.clone() } else { format!("{name}.{}", key.name) };
            if seen.contains(&key.name) {
                let message = format!("`{path}` is given twice");
                self.tell(message, key.span.clone(), "Keep one of them.".into());
                return false;
            }
            seen.push(key.name.clone());
            let schema = match (self.property(schema, &key.name), schema.get("additionalProperties")) {
                (Some(property), _) => property,
                (None, Some(Json::Bool(false))) => {
                    let place = if name.is_empty() { "the configuration".into() } else { format!("`{name}`") };
                    let help = nearest(&key.name, known.keys().map(String::as_str));
                    self.tell(format!("{place} has no `{}`", key.name), key.span.clone(), help);
                    return false;
                }
                (None, Some(values)) if values.is_object() => values,
                (None, _) => {
                    self.below(node, settings);
                    return true;
                }
            };
            // `audiences:` with nothing below it is the same as none.
            if matches!(node.value, Value::Null) && !required.contains(&key.name.as_str()) {
                return false;
            }
            self.against(node, schema, &path, settings);
            true
        });
        for missing in required.iter().filter(|required| !seen.iter().any(|seen| seen == *required)) {
            let place = if name.is_empty() { "the configuration".into() } else { format!("`{name}`") };
            let help = description(self.property(schema, missing).map(|property| self.resolve(property)));
            self.tell(format!("{place} needs `{missing}`"), span.clone(), format!("Add `{missing}:`{help}."));
        }
    }

    fn replace(&mut self, node: &mut Node, settings: bool) {
        variables::replace(node, self.text, settings.then_some(self.around), self.problems);
    }

    /// What the schema leaves open may still hold variables.
    fn below(&mut self, node: &mut Node, settings: bool) {
        self.replace(node, settings);
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.below(item, settings)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, node)| self.below(node, settings)),
            _ => {}
        }
    }

    fn one_of(&mut self, node: &Node, words: &[&str], name: &str) {
        match &node.value {
            Value::Text(text) if words.contains(&text.as_str()) => {}
            Value::Text(text) => {
                let help = nearest(text, words.iter().copied());
                self.tell(format!("{name} has no such value"), node.span.clone(), help);
            }
            _ => self.tell(
                format!("{name} is {}, but should be a word", node.kind()),
                node.span.clone(),
                format!("Write {}.", listed(words.iter().copied())),
            ),
        }
    }

    fn property(&self, schema: &'a Json, name: &str) -> Option<&'a Json> {
        schema.get("properties")?.get(name)
    }

    /// Follows `$ref`, and takes the one branch of `anyOf` that is not null.
    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        loop {
            schema = match (schema.get("$ref").and_then(Json::as_str), schema.get("anyOf").and_then(Json::as_array)) {
                (Some(reference), _) => match self.schema.pointer(reference.trim_start_matches('#')) {
                    Some(next) => next,
                    None => return schema,
                },
                (None, Some(branches)) => match branches.iter().find(|branch| types_of(branch) != ["null"]) {
                    Some(next) => next,
                    None => return schema,
                },
                (None, None) => return schema,
            };
        }
    }

    fn tell(&mut self, message: String, span: std::ops::Range<usize>, help: String) {
        self.problems.push(Problem { message, span, help: Some(help) });
    }
}

/// The words that `enum`, `const` or a `oneOf` of those allow; none, if the schema is of another form.
fn words_of<'a>(shape: &Shape<'a>, schema: &'a Json) -> Vec<&'a str> {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return words.iter().filter_map(Json::as_str).collect();
    }
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return vec![word];
    }
    let branches = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    branches.flat_map(|branch| words_of(shape, shape.resolve(branch))).collect()
}

fn types_of(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(node: &Node, name: &str) -> bool {
    match (&node.value, name) {
        (Value::Null, "null") | (Value::Bool(_), "boolean") | (Value::Text(_), "string") => true,
        (Value::List(_), "array") | (Value::Map(_), "object") | (Value::Number(_), "number") => true,
        (Value::Number(number), "integer") => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

/// What came out of `${…}` is text; where a boolean or a number is due, it is read as one.
fn adapt(node: &mut Node, types: &[&str]) {
    let Value::Text(text) = &node.value else { return };
    if !node.replaced || types.contains(&"string") {
        return;
    }
    match serde_json::from_str(text.trim()) {
        Ok(Json::Bool(value)) => node.value = Value::Bool(value),
        Ok(Json::Number(value)) => node.value = Value::Number(value),
        _ => {}
    }
}

fn described(name: &str) -> &str {
    match name {
        "boolean" => "true or false",
        "string" => "text",
        "array" => "a list",
        "object" => "a map",
        "number" => "a number",
        "integer" => "a whole number",
        other => other,
    }
}

fn description(schema: Option<&Json>) -> String {
    match schema.and_then(|schema| schema.get("description")).and_then(Json::as_str) {
        Some(text) => format!(" ({})", text.lines().next().unwrap_or_default().trim_end_matches('.')),
        None => String::new(),
    }
}

/// A sentence that proposes the nearest of the known names, or lists them.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let alike =
        known.clone().map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known));
    match alike.min() {
        Some((distance, near)) if distance <= 1 + near.len() / 4 => format!("Did you mean `{near}`?"),
        Some(_) => format!("Known are {}.", listed(known)),
        None => "None is known here.".into(),
    }
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
