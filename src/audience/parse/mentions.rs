//! Where does a text speak of what is computed itself, though it cannot be answered there?

use std::{collections::BTreeSet, ops::Range};

use super::Parser;
use crate::{
    audience::ast::{Comparator, Operand, Path, Segment},
    error::{Error, Problem, Problems, Result},
};

/// One `trait(…)`.
#[derive(Debug)]
pub(super) struct Mention {
    key: String,
    span: Range<usize>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the left, against literals.
    Alone,
    /// On the left, against another value.
    Against,
    Right,
    /// Within `where(…)`.
    Within,
}

impl Parser<'_> {
    /// Notes a `trait(…)` that began at the token `start` and has just been read.
    pub(super) fn mention(&mut self, start: usize, path: &Path) {
        if let Some(Segment::Key(key)) = path.0.first() {
            let place = if self.enclosing > 0 { Place::Within } else { Place::Alone };
            self.mentions.push(Mention { key: key.clone(), span: self.since(start), place });
        }
    }

    /// Of the comparison that began at the token `start`: what stands on its right are the mentions from `right` on.
    pub(super) fn note_right(&mut self, start: usize, right: usize, comparator: &Comparator) {
        if self.enclosing > 0 {
            return;
        }
        self.mentions[right..].iter_mut().filter(|of| of.place == Place::Alone).for_each(|of| of.place = Place::Right);
        let scalars = comparator.operands().iter().any(|operand| matches!(operand, Operand::Scalar(_)));
        let begins = self.tokens[start].1.start;
        if let Some(left) = self.mentions[..right].last_mut().filter(|left| scalars && left.span.start == begins) {
            left.place = Place::Against;
        }
    }
}

/// Refuses a sound definition that speaks of a computed value where none can be read, with each such place. `keys` are those of
/// computed traits; of a computed trait (`computed_trait`), of audiences too: it cannot refer to any of them.
pub fn misplaced(name: &str, text: &str, computed_trait: bool, keys: &BTreeSet<String>) -> Result<()> {
    let mut parser = Parser::new(text, computed_trait);
    match computed_trait {
        true => drop(parser.tree(Parser::computed_trait)),
        false => drop(parser.tree(Parser::definition)),
    }
    let problem = |of: &Mention| {
        let key = &of.key;
        let alone = format!(
            "A computed trait stands on the left of a comparison with literals, outside of where(…), as trait('{key}') >= 10."
        );
        let (message, help) = match of.place {
            _ if computed_trait => (
                format!("a computed trait cannot refer to '{key}', which is computed itself"),
                "Refer to it in an audience, or write its conditions out here.".to_owned(),
            ),
            Place::Within => (format!("the computed trait '{key}' within where(…)"), alone),
            Place::Right => (format!("the computed trait '{key}' on the right of a comparison"), alone),
            Place::Against => (format!("the computed trait '{key}' against something else than a literal"), alone),
            Place::Alone => return None,
        };
        Some(Problem { message, span: of.span.clone(), help: Some(help) })
    };
    let problems: Vec<Problem> =
        parser.mentions.iter().filter(|of| keys.contains(&of.key)).filter_map(problem).collect();
    match problems.first() {
        None => Ok(()),
        Some(first) => Err(Error::definition(format!("{name} cannot be computed: {}", first.message)).at(Problems {
            name: name.to_owned(),
            text: text.to_owned(),
            problems,
        })),
    }
}
