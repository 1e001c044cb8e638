//! Are the options of `@case` and `@replace` right?

use serde_json::{Map, Value};

use super::Compiler;
use crate::mapping::{
    plan::Plan,
    text::{Case, Replace, Step},
};

impl Compiler {
    pub(super) fn case(&mut self, options: &Map<String, Value>) -> Plan {
        let case = match options.get("operator") {
            Some(Value::String(operator)) if operator == "lower" => Case::Lower,
            Some(Value::String(operator)) if operator == "upper" => Case::Upper,
            None => return self.flaw("requires a \"operator\" key: lower or upper"),
            Some(Value::String(operator)) => {
                return self.at("operator", |c| c.flaw(format!("should be lower or upper but it is {operator:?}")));
            }
            Some(other) => return self.at("operator", |c| c.wrong_kind("a string", other)),
        };
        Plan::Case(case, Box::new(self.changed_text(options)))
    }

    /// The `value` of `@case` and `@replace`; the empty text becomes nothing, as in the peer.
    fn changed_text(&mut self, options: &Map<String, Value>) -> Plan {
        match options.get("value") {
            None => Plan::Nothing,
            Some(Value::String(text)) if text.is_empty() => Plan::Nothing,
            Some(value) => self.at("value", |c| c.text_or_directive(value, |plan| plan)),
        }
    }

    pub(super) fn replace(&mut self, options: &Map<String, Value>) -> Plan {
        let pattern = self.short_text(options, "pattern", 1, true);
        let replacement = self.short_text(options, "replacement", 0, false).unwrap_or_default();
        let mut steps = vec![Step { pattern: pattern.unwrap_or_default(), replacement }];
        // As in the peer, a second pattern that is no text, or empty, is no pattern.
        if matches!(options.get("pattern2"), Some(Value::String(text)) if !text.is_empty()) {
            let second = self.short_text(options, "pattern2", 1, true).unwrap_or_default();
            match options.get("replacement2") {
                None | Some(Value::Null | Value::String(_)) => {
                    let with = match options.get("replacement2") {
                        Some(Value::String(_)) => {
                            self.short_text(options, "replacement2", 0, false).unwrap_or_default()
                        }
                        _ => String::new(),
                    };
                    steps.push(Step { pattern: second, replacement: with });
                }
                Some(_) => {}
            }
        }
        let ignore_case = self.flag(options, "ignorecase").unwrap_or(false);
        let global = self.flag(options, "global").unwrap_or(true);
        let value = match options.get("value") {
            None => self.flaw("should have field \"value\" but it doesn't"),
            Some(Value::String(text)) if text.is_empty() => return Plan::Nothing,
            Some(_) => self.changed_text(options),
        };
        Plan::Replace(Replace { steps, ignore_case, global }, Box::new(value))
    }

    /// A text of `least` to 10 UTF-16 units, the peer's bound on patterns.
    fn short_text(&mut self, options: &Map<String, Value>, name: &str, least: usize, required: bool) -> Option<String> {
        const MOST: usize = 10;
        let value = match options.get(name) {
            Some(value) => value,
            None if !required => return None,
            None => {
                self.flaw(format!("should have field {name:?} but it doesn't"));
                return None;
            }
        };
        self.at(name, |c| match value {
            Value::String(text) => match text.encode_utf16().count() {
                units if units < least => {
                    c.flaw(format!("should be a string of length {least} or greater"));
                    None
                }
                units if units > MOST => {
                    c.flaw(format!("should be a string of length {MOST} or less"));
                    None
                }
                _ => Some(text.clone()),
            },
            other => {
                c.wrong_kind("a string", other);
                None
            }
        })
    }

    fn flag(&mut self, options: &Map<String, Value>, name: &str) -> Option<bool> {
        match options.get(name)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                self.at(name, |c| c.wrong_kind("a boolean", other));
                None
            }
        }
    }
}
