//! How is a wrong mapping shown? Its trigger and its fields as text, with every problem underlined.

use std::ops::Range;

use serde_json::{Map, Value};

use super::compile::Flaw;
use crate::error::{Error, Problem, Problems};

/// One error for a mapping's trigger and fields.
pub fn refusal(
    name: &str,
    subscribe: &str,
    trigger: Option<Vec<Problem>>,
    mapping: &Map<String, Value>,
    flaws: Vec<Flaw>,
) -> Error {
    let mut text = String::new();
    let mut problems = Vec::new();
    if let Some(trigger) = trigger {
        problems.extend(trigger);
        text.push_str(subscribe);
    }
    if !flaws.is_empty() {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        let mut printer = Printer { text: &mut text, places: Vec::new(), place: Vec::new() };
        printer.print(&Value::Object(mapping.clone()), 0);
        let places = printer.places;
        problems.extend(flaws.into_iter().map(|flaw| Problem {
            span: nearest(&places, &flaw.place),
            message: flaw.to_string(),
            help: None,
        }));
    }
    let message = match problems.as_slice() {
        [only] => format!("mapping '{name}' cannot be used: {}", only.message),
        many => format!("mapping '{name}' cannot be used: {} problems", many.len()),
    };
    let help = problems.iter().find_map(|problem| problem.help.clone());
    Error::definition(message)
        .help(help.unwrap_or_else(|| "docs/mapping.md shows what each directive takes.".into()))
        .at(Problems { name: format!("mapping '{name}'"), text, problems })
}

/// One error for several mappings; each comes with its name.
pub fn all(owner: &str, mut errors: Vec<(&str, Error)>) -> Error {
    if errors.len() == 1 {
        return errors.remove(0).1;
    }
    let mut joined = Problems { name: format!("mappings of {owner}"), text: String::new(), problems: Vec::new() };
    let count = errors.len();
    for (name, error) in errors {
        joined.text.push_str(&format!("# {name}\n"));
        let start = joined.text.len();
        let (text, problems) = match error.problems {
            Some(problems) => (problems.text, problems.problems),
            None => (
                error.message.clone(),
                vec![Problem { span: 0..error.message.len(), message: error.message, help: error.help }],
            ),
        };
        joined.text.push_str(&text);
        joined.text.push_str("\n\n");
        let shifted = problems
            .into_iter()
            .map(|problem| Problem { span: start + problem.span.start..start + problem.span.end, ..problem });
        joined.problems.extend(shifted);
    }
    Error::definition(format!("{count} mappings of {owner} cannot be used"))
        .help("docs/mapping.md shows what each directive takes.")
        .at(joined)
}

/// Prints JSON with indents and notes where each value stands.
struct Printer<'t> {
    text: &'t mut String,
    places: Vec<(Vec<String>, Range<usize>)>,
    place: Vec<String>,
}

impl Printer<'_> {
    fn print(&mut self, value: &Value, depth: usize) {
        let start = self.text.len();
        match value {
            Value::Object(members) if !members.is_empty() => {
                self.text.push('{');
                for (at, (key, member)) in members.iter().enumerate() {
                    self.line(at, depth + 1);
                    self.text.push_str(&Value::from(key.as_str()).to_string());
                    self.text.push_str(": ");
                    self.place.push(key.clone());
                    self.print(member, depth + 1);
                    self.place.pop();
                }
                self.line(0, depth);
                self.text.push('}');
            }
            Value::Array(items) if !items.is_empty() => {
                self.text.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.line(at, depth + 1);
                    self.place.push(at.to_string());
                    self.print(item, depth + 1);
                    self.place.pop();
                }
                self.line(0, depth);
                self.text.push(']');
            }
            scalar => self.text.push_str(&scalar.to_string()),
        }
        // Of what spans lines only the start is underlined.
        let end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        self.places.push((self.place.clone(), start..end));
    }

    fn line(&mut self, at: usize, depth: usize) {
        if at > 0 {
            self.text.push(',');
        }
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n("  ", depth));
    }
}

/// Where a place stands, or the innermost that encloses it (a missing key stands in its object).
fn nearest(places: &[(Vec<String>, Range<usize>)], place: &[String]) -> Range<usize> {
    let enclosing = places.iter().filter(|(at, _)| place.starts_with(at)).max_by_key(|(at, _)| at.len());
    enclosing.map_or(0..0, |(_, span)| span.clone())
}
