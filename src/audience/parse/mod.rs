//! What was written? Text to a well-typed tree, or every problem of the text with its place and what to do about it.
//!
//! Recursive descent over tokens. A function that returns `None` has reported why; its caller goes on behind the wrong
//! part, so that one look at the errors is enough. Depth is bounded: no text overflows the stack.

mod lex;
mod names;
mod mentions;
mod condition;
mod operand;
mod stream;

use std::ops::Range;

use self::lex::{Token, lex};
use self::mentions::Mention;
pub use self::{mentions::without_references, names::nearest};
use super::ast::{Expr, Reducer, Stream};
use crate::{
    error::{Error, Problem, Problems, Result},
    limits,
};

/// A computed trait: one value (a list, for `unique`) over a profile's events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ComputedTrait {
    pub stream: Stream,
    pub reducer: Reducer,
}

/// Reads an audience's definition. `name` is what errors call the text, as `audience 'big_spenders'`.
pub fn parse(name: &str, text: &str) -> Result<Expr> {
    Parser::run(name, text, false, Parser::definition)
}

/// Reads a computed trait's definition.
pub fn parse_trait(name: &str, text: &str) -> Result<ComputedTrait> {
    Parser::run(name, text, true, Parser::computed_trait)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    problems: Vec<Problem>,
    depth: usize,
    comparisons: usize,
    /// How many events' `where(…)` we are within.
    enclosing: usize,
    /// Whether this is a computed trait, where session windows are known.
    computed_trait: bool,
    /// Each `trait(…)`, in the order of the text.
    mentions: Vec<Mention>,
}

impl<'t> Parser<'t> {
    fn run<T>(name: &str, text: &'t str, computed_trait: bool, rule: fn(&mut Self) -> Option<T>) -> Result<T> {
        let mut parser = Parser::new(text, computed_trait);
        let tree = parser.tree(rule);
        match tree {
            Some(tree) if parser.problems.is_empty() => Ok(tree),
            _ => Err(parser.error(name)),
        }
    }

    fn new(text: &'t str, computed_trait: bool) -> Self {
        Parser {
            text,
            tokens: vec![(Token::End, text.len()..text.len())],
            at: 0,
            problems: Vec::new(),
            depth: 0,
            comparisons: 0,
            enclosing: 0,
            computed_trait,
            mentions: Vec::new(),
        }
    }

    fn tree<T>(&mut self, rule: fn(&mut Self) -> Option<T>) -> Option<T> {
        let tree = if self.readable() {
            self.tokens = lex(self.text);
            rule(self)
        } else {
            None
        };
        if self.comparisons > limits::DEFINITION_COMPARISONS {
            self.problem(
                0..self.text.len(),
                format!(
                    "{} comparisons, and a definition has at most {}",
                    self.comparisons,
                    limits::DEFINITION_COMPARISONS
                ),
                "Split it: define parts as audiences of their own and refer to them by trait('<key>') = 'true'.",
            );
        }
        tree
    }

    /// Whether the text is of a size and alphabet that is worth reading.
    fn readable(&mut self) -> bool {
        let chars = self.text.chars().count();
        if chars > limits::DEFINITION_CHARS {
            self.problem(
                0..0,
                format!("{chars} characters, and a definition has at most {}", limits::DEFINITION_CHARS),
                "Split it: define parts as audiences of their own and refer to them by trait('<key>') = 'true'.",
            );
        }
        if let Some(nul) = self.text.find('\0') {
            self.problem(nul..nul + 1, "a NUL character", "Remove it: no stored text can hold one.");
        }
        self.problems.is_empty()
    }

    fn error(mut self, name: &str) -> Error {
        self.problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        self.problems.dedup_by(|later, first| later.span == first.span);
        self.problems.truncate(limits::PROBLEMS);
        let what = match self.problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        Error::definition(format!("{name} is not a valid definition: {what}")).at(Problems {
            name: name.to_owned(),
            text: self.text.to_owned(),
            problems: self.problems,
        })
    }

    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { message: message.into(), span, help: Some(help.into()) });
    }

    fn token(&self) -> Token {
        self.tokens[self.at].0
    }
    fn ahead(&self, n: usize) -> Token {
        self.tokens.get(self.at + n).map_or(Token::End, |(token, _)| *token)
    }
    fn span(&self) -> Range<usize> {
        self.tokens[self.at].1.clone()
    }
    fn source(&self) -> &'t str {
        &self.text[self.span()]
    }
    /// From the start of a token to the end of the last one that was read.
    fn since(&self, start: usize) -> Range<usize> {
        let first = self.tokens[start].1.start;
        first..self.tokens[self.at.saturating_sub(1).max(start)].1.end
    }
    fn advance(&mut self) {
        if self.token() != Token::End {
            self.at += 1;
        }
    }
    fn accept(&mut self, token: Token) -> bool {
        let here = self.token() == token;
        if here {
            self.advance();
        }
        here
    }
    /// Whether the next token is this keyword, in any case.
    fn is_keyword(&self, keyword: &str) -> bool {
        self.token() == Token::Word && self.source().eq_ignore_ascii_case(keyword)
    }

    /// What stands here, for a message.
    fn found(&self) -> String {
        match self.token() {
            Token::End => "the end".into(),
            _ => {
                let text = self.source();
                let short: String = text.chars().take(20).collect();
                if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
            }
        }
    }

    fn expected(&mut self, what: &str, help: impl Into<String>) {
        let message = match self.token() {
            Token::OpenText => "a string without its closing quote".to_owned(),
            _ => format!("expected {what}, found {}", self.found()),
        };
        let help = match self.token() {
            Token::OpenText => "Close it with the quote it began with; inside, write \\' for a quote.".to_owned(),
            Token::Curly | Token::CurlyText => CURLY.to_owned(),
            _ => help.into(),
        };
        self.problem(self.span(), message, help);
    }

    fn open(&mut self, function: &str) -> Option<()> {
        if self.accept(Token::Open) {
            return Some(());
        }
        self.expected(&format!("`(` after `{function}`"), format!("Call it: {function}(…)."));
        None
    }

    /// Closes a call. Where its arguments were wrong that is already said: it only goes on behind them.
    fn close<T>(&mut self, function: &str, arguments: Option<T>) -> Option<T> {
        if arguments.is_none() {
            self.skip();
            self.accept(Token::Close);
            return None;
        }
        if self.accept(Token::Close) {
            return arguments;
        }
        self.expected(&format!("`)` to close `{function}(`"), "Close the call, or separate its arguments with commas.");
        self.skip();
        self.accept(Token::Close);
        None
    }

    /// Skips to AND, OR, an unmatched closing parenthesis, or the end.
    fn skip(&mut self) {
        self.skip_to(|_| false);
    }

    /// As `skip`, or to where `stop` says.
    fn skip_to(&mut self, stop: impl Fn(&Self) -> bool) {
        let mut open = 0usize;
        while self.token() != Token::End {
            if open == 0 && (stop(self) || self.is_junction()) {
                return;
            }
            match self.token() {
                Token::Open | Token::OpenBracket | Token::OpenBrace => open += 1,
                Token::Close if open == 0 => return,
                Token::Close | Token::CloseBracket | Token::CloseBrace => open = open.saturating_sub(1),
                _ => {}
            }
            self.advance();
        }
    }

    fn is_junction(&self) -> bool {
        matches!(self.token(), Token::Ampersands | Token::Bars) || self.is_keyword("AND") || self.is_keyword("OR")
    }

    /// Runs a rule one level deeper, or gives up on the whole text when it is too deep.
    fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= limits::DEFINITION_DEPTH {
            self.problem(
                self.span(),
                format!("nested more than {} levels deep", limits::DEFINITION_DEPTH),
                "Remove parentheses and NOTs that change nothing.",
            );
            self.at = self.tokens.len() - 1;
            return None;
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }
}

const CURLY: &str = "These are typographic quotes, as word processors make them: write straight ones, '…'.";
