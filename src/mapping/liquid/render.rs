//! What does a parsed template give for an event? JavaScript's comparisons and texts, Liquid's truth.

use std::{borrow::Cow, collections::HashMap};

use super::{Condition, Expr, Filtered, Node, Operator, filters, value::Value};
use crate::{
    js::{self, Json},
    limits,
    mapping::Fault,
};

struct Renderer<'a> {
    event: &'a Json<'a>,
    variables: HashMap<&'a str, Value<'a>>,
    counters: HashMap<&'a str, f64>,
    cycles: HashMap<String, usize>,
    steps: usize,
}

pub fn render(nodes: &[Node], event: &Json<'_>) -> Result<String, Fault> {
    let mut renderer = Renderer {
        event,
        variables: HashMap::new(),
        counters: HashMap::new(),
        cycles: HashMap::new(),
        steps: limits::LIQUID_STEPS,
    };
    let mut out = String::new();
    renderer.nodes(nodes, &mut out)?;
    Ok(out)
}

/// Whether rendering goes on after a node.
enum Flow {
    On,
    Stop,
}

impl<'a> Renderer<'a> {
    /// Takes steps from the budget.
    fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        self.steps = self.steps.checked_sub(steps).ok_or("the template takes too long to render")?;
        Ok(())
    }

    fn nodes(&mut self, nodes: &'a [Node], out: &mut String) -> Result<Flow, Fault> {
        for node in nodes {
            self.spend(1)?;
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Output(value) => out.push_str(&self.filtered(value)?.to_text()),
                Node::Assign(name, value) => {
                    let value = self.filtered(value)?;
                    self.variables.insert(name, value);
                }
                Node::Capture(name, nodes) => {
                    let mut captured = String::new();
                    let flow = self.nodes(nodes, &mut captured)?;
                    self.variables.insert(name, Value::text(captured));
                    if let Flow::Stop = flow {
                        return Ok(Flow::Stop);
                    }
                }
                Node::If(branches) => {
                    for (condition, nodes) in branches {
                        if self.holds(condition.as_ref())? {
                            if let Flow::Stop = self.nodes(nodes, out)? {
                                return Ok(Flow::Stop);
                            }
                            break;
                        }
                    }
                }
                Node::Increment(name) => {
                    let counter = self.counter(name);
                    out.push_str(&Value::Number(*counter).to_text());
                    *counter += 1.0;
                }
                Node::Decrement(name) => {
                    let counter = self.counter(name);
                    *counter -= 1.0;
                    out.push_str(&Value::Number(*counter).to_text());
                }
                Node::Cycle(group, values) => {
                    let name = group.as_ref().map(|group| self.value(group)).transpose()?;
                    let name = name.map(|name| name.to_text()).unwrap_or_default();
                    let turn = self.cycles.entry(format!("{name}:{values:?}")).or_default();
                    let value = &values[*turn % values.len()];
                    *turn += 1;
                    out.push_str(&self.value(value)?.to_text());
                }
                Node::Stop => return Ok(Flow::Stop),
            }
            if out.len() > limits::LIQUID_OUTPUT_BYTES {
                return Err(format!("the text is longer than {} bytes", limits::LIQUID_OUTPUT_BYTES));
            }
        }
        Ok(Flow::On)
    }

    /// A counter starts at the event's number of that name, else at zero.
    fn counter(&mut self, name: &'a str) -> &mut f64 {
        let start = match self.event.member(name).map(Json::view) {
            Some(Json::Number(number)) => number.as_f64().unwrap_or(0.0),
            _ => 0.0,
        };
        self.counters.entry(name).or_insert(start)
    }

    fn holds(&mut self, condition: Option<&'a Condition>) -> Result<bool, Fault> {
        match condition {
            Some(condition) => Ok(self.filtered(&condition.test)?.is_true() != condition.negated),
            None => Ok(true),
        }
    }

    fn filtered(&mut self, filtered: &'a Filtered) -> Result<Value<'a>, Fault> {
        let mut value = self.value(&filtered.value)?;
        for filter in &filtered.filters {
            self.spend(1)?;
            let arguments =
                filter.arguments.iter().map(|argument| self.value(argument)).collect::<Result<Vec<_>, _>>()?;
            let mut named = HashMap::new();
            for (name, argument) in &filter.named {
                named.insert(name.as_str(), self.value(argument)?);
            }
            value = filters::apply(&filter.name, value, &arguments, &named)?;
            self.spend(size(&value))?;
        }
        Ok(value)
    }

    fn value(&mut self, expr: &'a Expr) -> Result<Value<'a>, Fault> {
        self.spend(1)?;
        Ok(match expr {
            Expr::Literal(value) => Value::Json(Json::Ref(value)),
            Expr::Empty | Expr::Blank => Value::text(""),
            Expr::Variable(name, steps) => {
                let mut value = match (self.variables.get(name.as_str()), self.counters.get(name.as_str())) {
                    _ if name.is_empty() => Value::Json(Json::Ref(self.event)),
                    (Some(value), _) => value.clone(),
                    (None, Some(counter)) => Value::Number(*counter),
                    (None, None) => {
                        self.event.member(name).map_or(Value::nothing(), |value| Value::Json(Json::Ref(value)))
                    }
                };
                for step in steps {
                    let key = self.value(step)?;
                    value = property(value, &key);
                }
                value
            }
            Expr::Range(from, to) => {
                let (from, to) = (self.value(from)?.to_number(), self.value(to)?.to_number());
                let count = (to - from).max(-1.0) + 1.0;
                if count > limits::LIQUID_STEPS as f64 {
                    return Err("a range is too long".into());
                }
                self.spend(count as usize)?;
                let numbers = (0..count as usize).map(|at| Value::Number(from + at as f64).into_json());
                Value::Json(Json::Array(numbers.collect()))
            }
            Expr::Not(inner) => Value::Json(Json::Bool(!self.value(inner)?.is_true())),
            Expr::Binary(operator, left, right) => Value::Json(Json::Bool(self.binary(*operator, left, right)?)),
        })
    }

    fn binary(&mut self, operator: Operator, left: &'a Expr, right: &'a Expr) -> Result<bool, Fault> {
        let special = |expr: &Expr| matches!(expr, Expr::Empty | Expr::Blank);
        let (l, r) = (self.value(left)?, self.value(right)?);
        let is = |expr: &Expr, value: &Value<'_>| match expr {
            Expr::Empty => is_empty(value),
            _ => is_blank(value),
        };
        let equal = || match (special(left), special(right)) {
            (true, true) => false,
            (true, false) => is(left, &r),
            (false, true) => is(right, &l),
            (false, false) => same(&l, &r),
        };
        Ok(match operator {
            Operator::And => l.is_true() && r.is_true(),
            Operator::Or => l.is_true() || r.is_true(),
            Operator::Equal => equal(),
            Operator::NotEqual => !equal(),
            Operator::Contains => match l.as_json() {
                Some(Json::Text(text)) => text.contains(&js_text(&r)),
                Some(Json::Array(items)) => items.iter().any(|item| same(&Value::Json(Json::Ref(item)), &r)),
                _ => false,
            },
            // Nothing is less or greater than `empty`, `blank` and `nil`.
            _ if [left, right].iter().any(|expr| special(expr) || matches!(expr, Expr::Literal(Json::Null))) => false,
            order => match compare(&l, &r) {
                Some(ordering) => match order {
                    Operator::Greater => ordering.is_gt(),
                    Operator::Less => ordering.is_lt(),
                    Operator::AtLeast => ordering.is_ge(),
                    _ => ordering.is_le(),
                },
                None => false,
            },
        })
    }
}

/// What a filter's result costs: its entries, or a step for each 64 bytes.
fn size(value: &Value<'_>) -> usize {
    match value.as_json() {
        Some(Json::Array(items)) => items.len(),
        Some(Json::Text(text)) => text.len() / 64,
        _ => 0,
    }
}

fn js_text(value: &Value<'_>) -> String {
    match value {
        Value::Json(value) => js::string(value),
        number => number.to_text(),
    }
}

/// A member, an entry (negative from the end), or `size`, `first`, `last`.
fn property<'a>(value: Value<'a>, key: &Value<'_>) -> Value<'a> {
    let Value::Json(json) = &value else { return Value::nothing() };
    if json.is_absent() {
        return value;
    }
    let key_text = js_text(key);
    let found = match (json.view(), key_text.as_str()) {
        (Json::Object(members), name) => match json.member(name) {
            Some(member) => Some(member.clone()),
            None if name == "size" => return Value::Number(members.len() as f64),
            None => None,
        },
        (Json::Array(items), "size") => return Value::Number(items.len() as f64),
        (Json::Array(items), "first") => items.first().cloned(),
        (Json::Array(items), "last") => items.last().cloned(),
        (Json::Array(items), index) => index.parse::<i64>().ok().and_then(|index| {
            let index = if index < 0 { index + items.len() as i64 } else { index };
            usize::try_from(index).ok().and_then(|index| items.get(index)).cloned()
        }),
        (Json::Text(text), "size") => return Value::Number(text.encode_utf16().count() as f64),
        (Json::Text(text), index) => {
            let char = index.parse::<usize>().ok().and_then(|index| text.chars().nth(index));
            char.map(|char| Json::Text(Cow::Owned(char.to_string())))
        }
        _ => None,
    };
    found.map_or(Value::nothing(), Value::Json)
}

/// Strict equality; arrays by their entries.
fn same(l: &Value<'_>, r: &Value<'_>) -> bool {
    if let (Some(l), Some(r)) = (plain_number(l), plain_number(r)) {
        return l == r;
    }
    match (l.as_json(), r.as_json()) {
        (Some(l), Some(r)) => match (l, r) {
            // LiquidJS takes a variable that is not there for null.
            (Json::Null | Json::Undefined, Json::Null | Json::Undefined) => true,
            (Json::Text(l), Json::Text(r)) => l == r,
            (Json::Bool(l), Json::Bool(r)) => l == r,
            (Json::Array(l), Json::Array(r)) => {
                let entry = |item| Value::Json(Json::Ref(item));
                l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(&entry(l), &entry(r)))
            }
            // JavaScript's objects equal only themselves.
            (Json::Object(_), Json::Object(_)) => std::ptr::eq(l, r),
            _ => false,
        },
        _ => false,
    }
}

fn plain_number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Json(value) => match value.view() {
            Json::Number(number) => number.as_f64(),
            _ => None,
        },
    }
}

/// JavaScript's order: texts by UTF-16 units, everything else as numbers.
fn compare(l: &Value<'_>, r: &Value<'_>) -> Option<std::cmp::Ordering> {
    let primitive = |value: &Value<'_>| match value.as_json() {
        Some(Json::Undefined) => None,
        Some(container @ (Json::Array(_) | Json::Object(_))) => Some(Value::text(js::string(container))),
        Some(other) => Some(Value::Json(other.clone().into_owned())),
        None => Some(Value::Number(value.to_number())),
    };
    let (l, r) = (primitive(l)?, primitive(r)?);
    if let (Some(Json::Text(l)), Some(Json::Text(r))) = (l.as_json(), r.as_json()) {
        return Some(l.encode_utf16().cmp(r.encode_utf16()));
    }
    l.as_number()?.partial_cmp(&r.as_number()?)
}

fn is_empty(value: &Value<'_>) -> bool {
    match value.as_json() {
        Some(Json::Text(text)) => text.is_empty(),
        Some(Json::Array(items)) => items.is_empty(),
        Some(Json::Object(members)) => members.is_empty(),
        _ => false,
    }
}

fn is_blank(value: &Value<'_>) -> bool {
    match value.as_json() {
        Some(Json::Undefined | Json::Null | Json::Bool(false)) => true,
        Some(Json::Text(text)) => text.trim().is_empty(),
        _ => is_empty(value),
    }
}
