//! What text does a Liquid template become? `@liquid`, with the peer's restrictions and bounds of ours.
//!
//! Not on a library: the peer runs LiquidJS, which passes unknown filters by, divides as JavaScript does and takes the
//! first of several values, while the Rust implementations refuse all three and cannot be told to stop. What this keeps from
//! running away: 1,000 characters of template, no loops, a budget of steps and of bytes. It never reads a clock.

mod date;
mod encode;
mod filters;
mod parse;
mod reader;
mod render;
mod value;

use super::Fault;
use crate::{js::Json, limits};

/// A template, parsed.
#[derive(Debug)]
pub struct Liquid {
    nodes: Vec<Node>,
}

/// A piece of a template.
#[derive(Debug)]
enum Node {
    Text(String),
    Output(Filtered),
    Assign(String, Filtered),
    Capture(String, Vec<Node>),
    /// The first branch whose condition holds; a branch without one always does.
    If(Vec<(Option<Condition>, Vec<Node>)>),
    Increment(String),
    Decrement(String),
    /// The group, and the values that take turns.
    Cycle(Option<Expr>, Vec<Expr>),
    /// `break` and `continue`: outside a loop, as everything here is, they end the rendering.
    Stop,
}

/// A condition, and whether it is negated (`unless`).
#[derive(Debug)]
struct Condition {
    test: Filtered,
    negated: bool,
}

/// A value that goes through filters.
#[derive(Debug)]
struct Filtered {
    value: Expr,
    filters: Vec<Filter>,
}

#[derive(Debug)]
struct Filter {
    name: String,
    arguments: Vec<Expr>,
    named: Vec<(String, Expr)>,
}

#[derive(Debug)]
enum Expr {
    Literal(Json<'static>),
    /// `empty` and `blank`.
    Empty,
    Blank,
    /// A variable, and the steps below it.
    Variable(String, Vec<Expr>),
    Range(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    Contains,
    And,
    Or,
}

impl Liquid {
    /// Parses a template; the error says what is wrong with it.
    pub fn parse(template: &str) -> Result<Liquid, String> {
        if template.encode_utf16().count() > limits::LIQUID_TEMPLATE_CHARS {
            return Err(format!("liquid template values are limited to {} characters", limits::LIQUID_TEMPLATE_CHARS));
        }
        parse::parse(template).map(|nodes| Liquid { nodes })
    }

    /// The text for an event.
    pub fn render(&self, event: &Json<'_>) -> Result<String, Fault> {
        render::render(&self.nodes, event).map_err(|fault| format!("@liquid: {fault}"))
    }
}
