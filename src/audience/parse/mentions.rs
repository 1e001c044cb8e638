//! Where does a computed trait speak of what is computed itself? It cannot: there is no order in which traits would be.

use std::{collections::BTreeSet, ops::Range};

use super::Parser;
use crate::{
    audience::ast::{Path, Segment},
    error::{Error, Problem, Problems, Result},
};

/// One `trait(…)`.
#[derive(Debug)]
pub(super) struct Mention {
    key: String,
    span: Range<usize>,
}

impl Parser<'_> {
    /// Notes a `trait(…)` that began at the token `start` and has just been read.
    pub(super) fn mention(&mut self, start: usize, path: &Path) {
        if let Some(Segment::Key(key)) = path.0.first() {
            self.mentions.push(Mention { key: key.clone(), span: self.since(start) });
        }
    }
}

/// Refuses a computed trait's sound definition that refers to an audience or to a computed trait, with each such place. `keys`
/// are those of all of them.
pub fn without_references(name: &str, text: &str, keys: &BTreeSet<String>) -> Result<()> {
    let mut parser = Parser::new(text, true);
    parser.tree(Parser::computed_trait);
    let problem = |of: &Mention| Problem {
        message: format!("a computed trait cannot refer to '{}', which is computed itself", of.key),
        span: of.span.clone(),
        help: Some("Refer to it in an audience, or write its conditions out here.".to_owned()),
    };
    let problems: Vec<Problem> = parser.mentions.iter().filter(|of| keys.contains(&of.key)).map(problem).collect();
    match problems.first() {
        None => Ok(()),
        Some(first) => Err(Error::definition(format!("{name} cannot be computed: {}", first.message)).at(Problems {
            name: name.to_owned(),
            text: text.to_owned(),
            problems,
        })),
    }
}
