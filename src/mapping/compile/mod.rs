//! Is this a mapping? Everything wrong with it at once, each with its place; otherwise its plan.
//!
//! The checks and their words are the peer's (`validate` of its mapping kit), made stricter in two ways: what it finds only
//! when an event comes, and what it never looks at (inside arrays, branches not taken), is found here.

mod text;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    liquid::Liquid,
    path::Path,
    plan::{Condition, Plan, Test, Winner},
    template::Template,
};
use crate::{js::Json, limits};

/// One thing wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where: the keys and indices from the root.
    pub place: Vec<String>,
    pub message: String,
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/{} {}", self.place.join("/"), self.message)
    }
}

/// The key under which the peer keeps a directive that applies to the mapping as a whole.
const ROOT_DIRECTIVE: &str = "__segment_internal_directive";

/// Checks and compiles a whole mapping.
pub fn compile(mapping: &Value) -> Result<Plan, Vec<Flaw>> {
    let mut compiler = Compiler { flaws: Vec::new(), place: Vec::new(), nodes: 0 };
    let plan = match with_root_directive(mapping) {
        Ok(mapping) => compiler.node(&mapping),
        Err(message) => compiler.flaw(message),
    };
    if compiler.flaws.is_empty() { Ok(plan) } else { Err(compiler.flaws) }
}

/// Puts the mapping under its root directive, if it has one. A list of fields is keyed by number, as in the peer.
fn with_root_directive(mapping: &Value) -> Result<Value, String> {
    let mut fields = match mapping {
        Value::Object(fields) => fields.clone(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item.clone())).collect(),
        other => return Err(format!("should be an object of fields but it is {}", article(kind(other)))),
    };
    let Some(root) = fields.shift_remove(ROOT_DIRECTIVE) else { return Ok(Value::Object(fields)) };
    let Value::Object(mut root) = root else { return Err("The root directive must be an object".into()) };
    if root.len() > 1 {
        return Err("The root mapping must only have a single directive object".into());
    }
    match root.values_mut().next() {
        Some(Value::Object(options)) => {
            options.insert("mapping".into(), Value::Object(fields));
            Ok(Value::Object(root))
        }
        _ => Err("The root directive must be an object".into()),
    }
}

struct Compiler {
    flaws: Vec<Flaw>,
    place: Vec<String>,
    nodes: usize,
}

impl Compiler {
    /// Notes a flaw at the current place. The plan that goes on from it is never used.
    fn flaw(&mut self, message: impl Into<String>) -> Plan {
        self.flaws.push(Flaw { place: self.place.clone(), message: message.into() });
        Plan::Nothing
    }

    fn at<T>(&mut self, key: impl Into<String>, go: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(key.into());
        let result = go(self);
        self.place.pop();
        result
    }

    fn node(&mut self, value: &Value) -> Plan {
        self.nodes += 1;
        if self.place.len() > limits::MAPPING_DEPTH {
            return self.flaw(format!("nests deeper than {} levels", limits::MAPPING_DEPTH));
        }
        if self.nodes == limits::MAPPING_NODES {
            return self.flaw(format!("the mapping has more than {} values", limits::MAPPING_NODES));
        }
        match value {
            _ if self.nodes > limits::MAPPING_NODES => Plan::Nothing,
            Value::Object(members) if members.keys().any(|key| key.starts_with('@')) => self.directive(members),
            Value::Object(members) => {
                let members: Vec<_> =
                    members.iter().map(|(key, member)| (key.clone(), self.at(key, |c| c.node(member)))).collect();
                if members.iter().all(|(_, plan)| matches!(plan, Plan::Literal(_))) {
                    let literal = members.into_iter().map(|(key, plan)| (Cow::Owned(key), literal(plan)));
                    return Plan::Literal(Json::Object(literal.collect()));
                }
                Plan::Object(members)
            }
            Value::Array(items) => {
                let items: Vec<_> =
                    items.iter().enumerate().map(|(at, item)| self.at(at.to_string(), |c| c.node(item))).collect();
                if items.iter().all(|plan| matches!(plan, Plan::Literal(_))) {
                    return Plan::Literal(Json::Array(items.into_iter().map(literal).collect()));
                }
                Plan::Array(items)
            }
            scalar => Plan::Literal(Json::from(scalar).into_owned()),
        }
    }

    fn directive(&mut self, members: &Map<String, Value>) -> Plan {
        let mut named = members.iter().filter(|(key, _)| key.starts_with('@'));
        let (Some((name, value)), rest) = (named.next(), named.count()) else { return Plan::Nothing };
        let others = members.keys().filter(|key| !key.starts_with('@') && *key != "_metadata").count();
        if rest > 0 || others > 0 {
            return self.flaw(format!("should only have one @-prefixed key but it has {} keys", 1 + rest + others));
        }
        if !DIRECTIVES.contains(&name.as_str()) {
            let nearest = DIRECTIVES.iter().find(|known| strsim::damerau_levenshtein(known, name) <= 2);
            let hint = nearest.map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            return self.flaw(format!("has an invalid directive: {name}{hint}"));
        }
        self.at(name, |c| match name.as_str() {
            "@path" => c.path(value),
            "@template" => c.template(value),
            "@liquid" => match value {
                Value::String(text) => Liquid::parse(text).map(Plan::Liquid).unwrap_or_else(|wrong| c.flaw(wrong)),
                other => c.wrong_kind("a string", other),
            },
            "@literal" => c.node(value),
            "@excludeWhenNull" => Plan::ExcludeWhenNull(Box::new(c.node(value))),
            "@arrayPath" => c.array_path(value),
            "@if" => c.with_options(value, &["exists", "blank", "then", "else"], Self::condition),
            "@case" => c.with_options(value, &["operator", "value"], Self::case),
            "@replace" => {
                c.with_options(value, &["pattern", "replacement", "value", "ignorecase", "global"], Self::replace)
            }
            "@flatten" => c.with_options(value, &["separator", "value"], Self::flatten),
            "@json" => c.with_options(value, &["mode", "value"], Self::json),
            "@merge" => c.with_options(value, &["direction", "objects"], Self::merge),
            _ => c.with_options(value, &["apply", "mapping"], Self::transform),
        })
    }

    fn path(&mut self, value: &Value) -> Plan {
        match value {
            Value::String(text) => Plan::Path(Path::parse(text)),
            value => self.text_or_directive(value, |plan| Plan::PathFrom(Box::new(plan))),
        }
    }

    fn template(&mut self, value: &Value) -> Plan {
        match value {
            Value::String(text) => Plan::Template(Template::parse(text)),
            value => self.text_or_directive(value, |plan| Plan::TemplateFrom(Box::new(plan))),
        }
    }

    /// A text as it is, or what a directive makes.
    fn text_or_directive(&mut self, value: &Value, from: impl FnOnce(Plan) -> Plan) -> Plan {
        match value {
            Value::String(_) => from(self.node(value)),
            value if is_directive(value) => from(self.node(value)),
            other => self.wrong_kind("a string or a mapping directive", other),
        }
    }

    fn array_path(&mut self, value: &Value) -> Plan {
        let Value::Array(parts) = value else { return self.wrong_kind("an array", value) };
        let items = self.at("0", |c| match parts.first() {
            Some(path @ Value::String(_)) => c.path(path),
            Some(other) => c.text_or_directive(other, |plan| plan),
            None => c.flaw("should be a string or a mapping directive but it is an undefined"),
        });
        let shape = match parts.get(1) {
            Some(shape @ Value::Object(members)) if !members.is_empty() => {
                Some(Box::new(self.at("1", |c| c.node(shape))))
            }
            _ => None,
        };
        Plan::ArrayPath(Box::new(items), shape)
    }

    fn condition(&mut self, options: &Map<String, Value>) -> Plan {
        if options.get("exists").is_none_or(is_falsy) && options.get("blank").is_none_or(is_falsy) {
            return self.flaw("requires an \"exists\" key or a \"blank\" key");
        }
        let then = self.option(options, "then");
        let otherwise = match options.get("else") {
            Some(value) if !is_falsy(value) => self.option(options, "else"),
            _ => Plan::Nothing,
        };
        let exists = self.option(options, "exists");
        let blank = self.option(options, "blank");
        let test = if options.contains_key("exists") { Test::Exists(exists) } else { Test::Filled(blank) };
        Plan::If(Box::new(Condition { test, then, otherwise }))
    }

    fn flatten(&mut self, options: &Map<String, Value>) -> Plan {
        let separator = match options.get("separator") {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            Some(Value::String(_)) | None => {
                self.flaw("requires a \"separator\" key");
                String::new()
            }
            Some(other) => {
                self.at("separator", |c| c.wrong_kind("a string", other));
                String::new()
            }
        };
        let value = match options.get("value") {
            None => self.flaw("should have field \"value\" but it doesn't"),
            Some(value) => self.at("value", |c| c.node(value)),
        };
        let omit_arrays = options.get("omitArrays").is_some_and(|value| !is_falsy(value));
        Plan::Flatten { separator, value: Box::new(value), omit_arrays }
    }

    fn json(&mut self, options: &Map<String, Value>) -> Plan {
        let value = Box::new(match options.get("value") {
            None => self.flaw("should have field \"value\" but it doesn't"),
            Some(value) if is_falsy(value) => self.flaw("requires a \"value\" key that is not empty"),
            Some(value) => self.at("value", |c| c.node(value)),
        });
        match options.get("mode") {
            None => self.flaw("should have field \"mode\" but it doesn't"),
            Some(Value::String(mode)) if mode.eq_ignore_ascii_case("encode") => Plan::Encode(value),
            Some(Value::String(mode)) if mode.eq_ignore_ascii_case("decode") => Plan::Decode(value),
            Some(Value::String(mode)) => {
                self.at("mode", |c| c.flaw(format!("should be one of encode, decode but it is {mode:?}")))
            }
            Some(other) => self.at("mode", |c| c.wrong_kind("a string", other)),
        }
    }

    fn merge(&mut self, options: &Map<String, Value>) -> Plan {
        let winner = match options.get("direction") {
            Some(Value::String(text)) if text.eq_ignore_ascii_case("left") => Winner::First,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("right") => Winner::Last,
            Some(Value::String(text)) => {
                return self.at("direction", |c| c.flaw(format!("should be one of left, right but it is {text:?}")));
            }
            Some(other) => return self.at("direction", |c| c.wrong_kind("a string", other)),
            None => return self.flaw("should have field \"direction\" but it doesn't"),
        };
        match options.get("objects") {
            Some(Value::Array(objects)) => {
                let object = |c: &mut Self, value: &Value| match value {
                    Value::Object(_) => c.node(value),
                    other => c.wrong_kind("an object or a mapping directive", other),
                };
                let objects = self.at("objects", |c| {
                    objects.iter().enumerate().map(|(at, value)| c.at(at.to_string(), |c| object(c, value))).collect()
                });
                Plan::Merge(winner, objects)
            }
            Some(other) => self.at("objects", |c| c.wrong_kind("an array", other)),
            None => self.flaw("should have field \"objects\" but it doesn't"),
        }
    }

    fn transform(&mut self, options: &Map<String, Value>) -> Plan {
        let apply = match options.get("apply") {
            Some(value @ Value::Object(_)) => self.at("apply", |c| match with_root_directive(value) {
                Ok(value) => c.node(&value),
                Err(message) => c.flaw(message),
            }),
            Some(other) => self.at("apply", |c| c.wrong_kind("an object or a mapping directive", other)),
            None => self.flaw("should have field \"apply\" but it doesn't"),
        };
        let mapping = match options.get("mapping") {
            Some(value @ Value::Object(_)) => self.at("mapping", |c| c.node(value)),
            Some(other) => self.at("mapping", |c| c.wrong_kind("an object or a mapping directive", other)),
            None => self.flaw("should have field \"mapping\" but it doesn't"),
        };
        Plan::Transform(Box::new(apply), Box::new(mapping))
    }

    /// A directive whose argument is an object of options; those it does not read itself are still checked.
    fn with_options(&mut self, value: &Value, read: &[&str], go: fn(&mut Self, &Map<String, Value>) -> Plan) -> Plan {
        let Value::Object(options) = value else { return self.wrong_kind("an object", value) };
        if is_directive(value) {
            return self.wrong_kind("an object", value);
        }
        for (key, value) in options.iter().filter(|(key, _)| !read.contains(&key.as_str())) {
            self.at(key, |c| c.node(value));
        }
        go(self, options)
    }

    fn option(&mut self, options: &Map<String, Value>, name: &str) -> Plan {
        options.get(name).map_or(Plan::Nothing, |value| self.at(name, |c| c.node(value)))
    }

    fn wrong_kind(&mut self, wanted: &str, value: &Value) -> Plan {
        let kind = if is_directive(value) { "directive" } else { kind(value) };
        self.flaw(format!("should be {wanted} but it is {}", article(kind)))
    }
}

const DIRECTIVES: [&str; 13] = [
    "@path",
    "@template",
    "@if",
    "@case",
    "@replace",
    "@arrayPath",
    "@flatten",
    "@json",
    "@merge",
    "@transform",
    "@literal",
    "@liquid",
    "@excludeWhenNull",
];

fn literal(plan: Plan) -> Json<'static> {
    match plan {
        Plan::Literal(value) => value,
        _ => Json::Undefined,
    }
}

fn is_directive(value: &Value) -> bool {
    matches!(value, Value::Object(members) if members.keys().any(|key| key.starts_with('@')))
}

fn is_falsy(value: &Value) -> bool {
    Json::from(value).is_falsy()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        scalar => Json::from(scalar).kind(),
    }
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}
