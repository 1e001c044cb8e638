//! What text does a template become? `@template`: placeholders in two or three braces, nothing else.
//!
//! Data is never expanded again: a value that holds `{{…}}` stays as it is. The peer expands what three braces bring in,
//! so that whoever writes a trait can read the rest of the event.

use super::path::Path;
use crate::js::{self, Json};

/// A template, split once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Value(Path),
}

impl Template {
    /// Splits a template. Braces that do not pair are text.
    pub fn parse(text: &str) -> Template {
        // Three braces are found first, then two in what lies between, as the peer's two passes do.
        let mut parts = Vec::new();
        for piece in pieces(text, "{{{", "}}}") {
            match piece {
                Piece::Placeholder(name) => parts.push(Part::Value(Path::split(name.trim_matches(js::is_space)))),
                Piece::Text(between) => {
                    for piece in pieces(between, "{{", "}}") {
                        parts.push(match piece {
                            Piece::Placeholder(name) => Part::Value(Path::split(name.trim_matches(js::is_space))),
                            Piece::Text(text) => Part::Text(text.to_owned()),
                        });
                    }
                }
            }
        }
        Template { parts }
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The paths whose values it holds.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(path) => Some(path),
            Part::Text(_) => None,
        })
    }

    /// The text, with the value of each placeholder; nothing and null are empty.
    pub fn render<'v>(&self, get: impl Fn(&Path) -> Json<'v>) -> String {
        let mut out = String::with_capacity(64);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(path) => {
                    let value = get(path);
                    if !value.is_absent() {
                        js::write_string(&value, &mut out);
                    }
                }
            }
        }
        out
    }
}

enum Piece<'t> {
    Text(&'t str),
    Placeholder(&'t str),
}

/// Cuts at every `open` + at least one character that is no `}` + `close`, leftmost first.
fn pieces<'t>(text: &'t str, open: &str, close: &str) -> Vec<Piece<'t>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(start) = text[at..].find(open).map(|found| at + found) {
        let inside = start + open.len();
        let end = text[inside..].find('}').map_or(text.len(), |found| inside + found);
        if end > inside && text[end..].starts_with(close) {
            if start > from {
                pieces.push(Piece::Text(&text[from..start]));
            }
            pieces.push(Piece::Placeholder(&text[inside..end]));
            from = end + close.len();
            at = from;
        } else {
            at = start + 1;
        }
    }
    if from < text.len() {
        pieces.push(Piece::Text(&text[from..]));
    }
    pieces
}
