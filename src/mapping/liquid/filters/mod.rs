//! What do Liquid's filters answer? Those of LiquidJS that the peer leaves enabled.

mod arrays;
mod texts;

use std::collections::HashMap;

use super::{date, value::Value};
use crate::{
    js::{self, Json},
    limits,
    mapping::Fault,
};

/// Filters that the peer disables.
const DISABLED: [&str; 20] = [
    "array_to_sentence_string",
    "concat",
    "find",
    "find_exp",
    "find_index",
    "find_index_exp",
    "group_by",
    "group_by_exp",
    "has",
    "has_exp",
    "map",
    "newline_to_br",
    "reject",
    "reject_exp",
    "reverse",
    "sort",
    "sort_natural",
    "uniq",
    "where_exp",
    "type",
];

/// One filter. A name that does not exist leaves the value as it is, as LiquidJS does.
///
/// # Errors
/// If the filter is disabled, or cannot be applied to this value.
pub fn apply<'a>(
    name: &str,
    value: Value<'a>,
    arguments: &[Value<'a>],
    named: &HashMap<&str, Value<'a>>,
) -> Result<Value<'a>, Fault> {
    if DISABLED.contains(&name) {
        return Err(format!("filter \"{name}\" is disabled"));
    }
    let call = Call { name, value, arguments, named };
    if let Some(number) = call.of_numbers() {
        return Ok(Value::Number(number));
    }
    if let Some(text) = call.of_texts()? {
        return Ok(text);
    }
    if let Some(markup) = call.of_markup()? {
        return Ok(markup);
    }
    match call.of_arrays()? {
        Some(made) => Ok(made),
        None => call.of_any_value(),
    }
}

/// A filter as a template calls it. Each family answers `None` for a filter that is not one of its own.
struct Call<'c, 'a> {
    name: &'c str,
    value: Value<'a>,
    arguments: &'c [Value<'a>],
    named: &'c HashMap<&'c str, Value<'a>>,
}

impl<'a> Call<'_, 'a> {
    fn input(&self) -> String {
        self.value.to_text()
    }

    fn text(&self, at: usize) -> String {
        self.arguments.get(at).map(Value::to_text).unwrap_or_default()
    }

    fn number(&self, at: usize, default: f64) -> f64 {
        self.arguments.get(at).map_or(default, Value::to_number)
    }

    fn first_argument(&self) -> Value<'a> {
        self.arguments.first().cloned().unwrap_or(Value::nothing())
    }

    /// Numbers, by JavaScript's rules.
    fn of_numbers(&self) -> Option<f64> {
        let own = || self.value.to_number();
        let other = || self.number(0, 0.0);
        Some(match self.name {
            "abs" => own().abs(),
            "ceil" => own().ceil(),
            "floor" => own().floor(),
            "plus" => own() + other(),
            "minus" => own() - other(),
            "times" => own() * other(),
            "divided_by" => {
                let quotient = own() / other();
                if self.arguments.get(1).is_some_and(Value::is_true) { quotient.floor() } else { quotient }
            }
            // With the sign of the divisor.
            "modulo" => (own() % other() + other()) % other(),
            "at_least" => own().max(other()),
            "at_most" => own().min(other()),
            "round" => {
                let scale = 10f64.powf(other());
                let scaled = own() * scale * (1.0 + f64::EPSILON);
                (scaled + 0.5).floor() / scale
            }
            "to_integer" => self.value.as_number().unwrap_or(f64::NAN),
            _ => return None,
        })
    }

    /// Dates, and what any value may be given to.
    fn of_any_value(self) -> Result<Value<'a>, Fault> {
        Ok(match self.name {
            "default" => self.or_default(),
            "json" | "jsonify" | "inspect" => match self.value.into_json() {
                Json::Undefined => Value::nothing(),
                value => bounded(js::json_text(&value))?,
            },
            "date" => {
                let form = self.arguments.first().map(Value::to_text);
                date::format(self.value, form.as_deref())?
            }
            "date_to_xmlschema" => date::format(self.value, Some("%Y-%m-%dT%H:%M:%S%:z"))?,
            "date_to_rfc822" => date::format(self.value, Some("%a, %d %b %Y %H:%M:%S %z"))?,
            "date_to_string" => self.day("%b")?,
            "date_to_long_string" => self.day("%B")?,
            "sample" => {
                return Err(
                    "filter \"sample\" gives another value each time, so that a record could not be repeated".into()
                );
            }
            _ => self.value,
        })
    }

    fn or_default(self) -> Value<'a> {
        let keeps = match self.value.as_json() {
            Some(Json::Text(text)) => !text.is_empty(),
            Some(Json::Array(items)) => !items.is_empty(),
            Some(Json::Bool(false)) => self.named.get("allow_false").is_some_and(Value::is_true),
            _ => self.value.is_true(),
        };
        if keeps { self.value } else { self.first_argument() }
    }

    /// The day, with the month in this form.
    fn day(self, month: &str) -> Result<Value<'a>, Fault> {
        let form = match (self.text(0).as_str(), self.text(1).as_str()) {
            ("ordinal", "US") => format!("{month} %-d%q, %Y"),
            ("ordinal", _) => format!("%-d%q {month} %Y"),
            _ => format!("%d {month} %Y"),
        };
        date::format(self.value, Some(&form))
    }
}

fn bounded<'a>(text: String) -> Result<Value<'a>, Fault> {
    if text.len() > limits::LIQUID_OUTPUT_BYTES {
        return Err(format!("a text is longer than {} bytes", limits::LIQUID_OUTPUT_BYTES));
    }
    Ok(Value::text(text))
}
