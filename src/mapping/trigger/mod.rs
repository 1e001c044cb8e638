//! Does an event go to a mapping? Triggers: FQL, the peer's filter language, with a real grammar.
//!
//! Agrees with the peer where it does what its text says. Where it drops a condition, reads `or` as `and`, or cannot nest
//! parentheses, this does what the text says; `docs/segment-compatibility.md` lists the differences.

mod evaluate;
mod functions;
mod lex;
mod parse;
mod print;

use super::{event::Event, path::Path};
use crate::error::{Error, Problem, Problems};

/// The trigger of a mapping that has none: every call that carries data.
pub const DEFAULT: &str =
    r#"type = "track" or type = "identify" or type = "page" or type = "screen" or type = "group""#;

/// A trigger, parsed. Prints as canonical FQL.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    expr: Expr,
}

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    /// Two or more.
    Or(Vec<Expr>),
    /// Two or more.
    And(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Operand, Op, Operand),
    In(Operand, Vec<Operand>),
    /// A function that answers yes or no.
    Holds(Call),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Field(Field),
    Call(Box<Call>),
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
    Null,
}

#[derive(Debug, Clone, PartialEq)]
struct Call {
    function: functions::Function,
    arguments: Vec<Operand>,
}

/// What stands at the top of an event that a trigger can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Type,
    Event,
    Name,
    UserId,
    Traits,
    Properties,
    Context,
    /// `$.…`: any field, by its full path. Ours.
    Any,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    root: Root,
    /// The keys below the root.
    keys: Vec<String>,
    path: Path,
    /// A step is a number. FQL does not index arrays: such a condition is never met, as in the peer.
    indexed: bool,
}

impl Trigger {
    /// Parses FQL; on failure every problem, with its place.
    pub fn parse(text: &str) -> Result<Trigger, Vec<Problem>> {
        parse::parse(text).map(|expr| Trigger { expr })
    }

    /// Parses FQL; the error shows the problems in the text. `name` says whose trigger it is.
    pub fn read(name: &str, text: &str) -> crate::Result<Trigger> {
        Self::parse(text).map_err(|problems| refusal(name, text, problems))
    }

    /// Every path that it reads of an event.
    pub fn paths(&self, mut each: impl FnMut(&Path)) {
        self.expr.fields(&mut |field| each(&field.path));
    }

    /// Whether the event passes. Never fails: what cannot be compared does not match.
    pub fn matches(&self, event: &Event<'_>) -> bool {
        !event.is_null() && evaluate::holds(&self.expr, event)
    }
}

fn refusal(name: &str, text: &str, problems: Vec<Problem>) -> Error {
    let first = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
    let help = problems.iter().find_map(|problem| problem.help.clone());
    Error::definition(format!("the trigger of {name} cannot be read: {first}"))
        .help(help.unwrap_or_else(|| "See docs/mapping.md for what a trigger may say.".into()))
        .at(Problems { name: format!("trigger of {name}"), text: text.to_owned(), problems })
}

impl Expr {
    fn fields(&self, each: &mut impl FnMut(&Field)) {
        match self {
            Expr::Or(terms) | Expr::And(terms) => terms.iter().for_each(|term| term.fields(each)),
            Expr::Not(inner) => inner.fields(each),
            Expr::Compare(left, _, right) => [left, right].into_iter().for_each(|operand| operand.fields(each)),
            Expr::In(left, list) => std::iter::once(left).chain(list).for_each(|operand| operand.fields(each)),
            Expr::Holds(call) => call.arguments.iter().for_each(|operand| operand.fields(each)),
        }
    }
}

impl Operand {
    fn fields(&self, each: &mut impl FnMut(&Field)) {
        match self {
            Operand::Field(field) => each(field),
            Operand::Call(call) => call.arguments.iter().for_each(|operand| operand.fields(each)),
            Operand::Text(_) | Operand::Number(_) | Operand::Bool(_) | Operand::Null => {}
        }
    }
}

impl Root {
    /// Its name in the event and in FQL.
    fn name(self) -> &'static str {
        match self {
            Root::Type => "type",
            Root::Event => "event",
            Root::Name => "name",
            Root::UserId => "userId",
            Root::Traits => "traits",
            Root::Properties => "properties",
            Root::Context => "context",
            Root::Any => "$",
        }
    }
}

impl Field {
    fn new(root: Root, keys: Vec<String>, indexed: bool) -> Field {
        let top = Some(root.name()).filter(|_| root != Root::Any);
        let path = Path::of_keys(top.into_iter().chain(keys.iter().map(String::as_str)));
        Field { root, path, indexed, keys }
    }
}
