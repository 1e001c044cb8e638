//! What does a trigger say? A recursive descent over its tokens; every problem is reported, up to one for each condition.
//!
//! As lenient as the peer where a meaning is plain: a missing `and` is an `and`, one too many is skipped, a bare word on the
//! right of a comparison is a text.

use std::ops::Range;

use super::{
    Call, Expr, Field, Operand, Root,
    functions::Function,
    lex::{Lexed, Token, lex, said},
};
use crate::{error::Problem, limits};

pub fn parse(text: &str) -> Result<Expr, Vec<Problem>> {
    if text.len() > limits::TRIGGER_BYTES {
        let message = format!("the trigger has {} bytes, and may have {}", text.len(), limits::TRIGGER_BYTES);
        return Err(vec![Problem { message, span: 0..0, help: Some("Split the mapping into several.".into()) }]);
    }
    let Lexed { tokens, problems } = lex(text);
    let mut parser = Parser { tokens, at: 0, depth: 0, closed: None, problems };
    let expr = parser.conditions();
    if *parser.peek() != Token::End {
        let span = parser.span();
        parser.problem::<()>("this closes nothing", span, "Remove it, or open it first.");
    }
    match expr {
        Some(expr) if parser.problems.is_empty() => Ok(expr),
        _ => {
            if parser.problems.is_empty() {
                parser.problem::<()>(
                    "there is no condition",
                    0..text.len(),
                    "Write, for example, type = \"identify\".",
                );
            }
            parser.problems.sort_by_key(|problem| problem.span.start);
            Err(parser.problems)
        }
    }
}

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    depth: usize,
    /// Where the parentheses stand that were closed last.
    closed: Option<(usize, usize)>,
    problems: Vec<Problem>,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn span(&self) -> Range<usize> {
        self.tokens[self.at].1.clone()
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        // The last token is the end, which is never passed.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn eat(&mut self, token: &Token) -> bool {
        let eaten = self.peek() == token;
        if eaten {
            self.next();
        }
        eaten
    }

    fn keyword(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word { text, plain: true } if text == word)
    }

    fn problem<T>(&mut self, message: impl Into<String>, span: Range<usize>, help: &str) -> Option<T> {
        self.problems.push(Problem { message: message.into(), span, help: Some(help.into()) });
        None
    }

    /// Conditions up to a closing parenthesis or the end. `and` binds tighter than `or`.
    fn conditions(&mut self) -> Option<Expr> {
        let mut alternatives: Vec<Vec<Expr>> = vec![Vec::new()];
        loop {
            let mut or = false;
            loop {
                if self.keyword("and") {
                    or = false;
                } else if self.keyword("or") {
                    or = true;
                } else if *self.peek() != Token::Comma {
                    break;
                }
                self.next();
            }
            if matches!(self.peek(), Token::End | Token::Close) {
                break;
            }
            let before = self.at;
            let term = self.term();
            if term.is_none() {
                self.recover(before);
            }
            if or && alternatives.last().is_some_and(|terms| !terms.is_empty()) {
                alternatives.push(Vec::new());
            }
            if let (Some(term), Some(terms)) = (term, alternatives.last_mut()) {
                terms.push(term);
            }
        }
        let alternatives = alternatives.into_iter().filter_map(|terms| group(terms, Expr::And)).collect();
        group(alternatives, Expr::Or)
    }

    /// After a problem: on to the next `and`, `or`, closing parenthesis or end.
    fn recover(&mut self, before: usize) {
        if self.at == before {
            self.next();
        }
        while !(self.keyword("and") || self.keyword("or") || matches!(self.peek(), Token::Close | Token::End)) {
            self.next();
        }
    }

    fn term(&mut self) -> Option<Expr> {
        if self.depth >= limits::TRIGGER_DEPTH {
            let span = self.span();
            return self.problem("the trigger nests too deeply", span, "Use fewer parentheses.");
        }
        self.depth += 1;
        let term = self.nested_term();
        self.depth -= 1;
        term
    }

    fn nested_term(&mut self) -> Option<Expr> {
        if self.eat(&Token::Not) {
            return self.term().map(|term| Expr::Not(Box::new(term)));
        }
        let (open, span) = (self.at, self.span());
        if self.eat(&Token::Open) {
            let known = self.problems.len();
            let inner = self.conditions();
            let (close, end) = (self.at, self.span());
            if !self.eat(&Token::Close) {
                return self.problem("the parenthesis is not closed", span, "Add ) where the group ends.");
            }
            if inner.is_none() && self.problems.len() == known {
                return self.problem("there is nothing between the parentheses", span.start..end.end, "Remove them.");
            }
            // Parentheses whose whole content is other parentheses: the peer refuses them, and they add nothing.
            let doubled = self.closed.replace((open, close)) == Some((open + 1, close - 1));
            if doubled {
                return self.problem("these parentheses stand twice", span.start..end.end, "Remove one pair.");
            }
            return inner;
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Option<Expr> {
        let start = self.span();
        let left = self.left()?;
        let here = self.span();
        if let Token::Op(op) = *self.peek() {
            self.next();
            if matches!(left, Operand::Text(_)) {
                let help = "Write the field first: type = \"identify\".";
                return self.problem("a comparison starts with a field", start, help);
            }
            return Some(Expr::Compare(left, op, self.right()?));
        }
        if self.keyword("in") {
            self.next();
            return Some(Expr::In(left, self.list()?));
        }
        match left {
            Operand::Call(call) if call.function.is_condition() => Some(Expr::Holds(*call)),
            _ => {
                let help = "Compare it: = != < <= > >= in, as in type = \"identify\".";
                self.problem("a comparison is expected here", start.start..here.end.max(start.end), help)
            }
        }
    }

    /// What may stand on the left: a field, a function, or a text before `in`.
    fn left(&mut self) -> Option<Operand> {
        let span = self.span();
        match self.next() {
            Token::Word { text, plain } => match self.function(&text, plain) {
                Some(function) => self.call(function),
                None => self.field(text, span),
            },
            Token::Text(text) => Some(Operand::Text(text)),
            token => {
                let message = format!("a condition cannot start with {}", said(&token));
                self.problem(
                    message,
                    span,
                    "Start with a field: type, event, name, userId, traits.…, properties.…, context.…",
                )
            }
        }
    }

    fn right(&mut self) -> Option<Operand> {
        let span = self.span();
        match self.peek().clone() {
            Token::Text(text) => {
                self.next();
                Some(Operand::Text(text))
            }
            Token::Number(number) => {
                self.next();
                Some(Operand::Number(number))
            }
            Token::Word { text, plain } => {
                if plain && matches!(text.as_str(), "and" | "or" | "in") {
                    return self.problem(
                        "a value is missing",
                        span,
                        "Give a text in quotes, a number, true, false or null.",
                    );
                }
                self.next();
                if let Some(function) = self.function(&text, plain) {
                    return self.call(function);
                }
                match (plain, text.as_str()) {
                    (true, "true") => Some(Operand::Bool(true)),
                    (true, "false") => Some(Operand::Bool(false)),
                    (true, "null") => Some(Operand::Null),
                    _ if *self.peek() == Token::Dot => self.field(text, span),
                    _ => Some(Operand::Text(text)),
                }
            }
            token => {
                let message = format!("a value is missing; here is {}", said(&token));
                self.problem(message, span, "Give a text in quotes, a number, true, false or null.")
            }
        }
    }

    /// `[a, b]`, or a field that holds an array.
    fn list(&mut self) -> Option<Vec<Operand>> {
        let span = self.span();
        if !self.eat(&Token::OpenList) {
            return match self.right()? {
                field @ Operand::Field(_) => Some(vec![field]),
                _ => self.problem("in wants a list", span, "Write, for example, type in [\"track\", \"identify\"]."),
            };
        }
        let mut items = Vec::new();
        loop {
            if self.eat(&Token::CloseList) {
                return Some(items);
            }
            match self.right()? {
                Operand::Field(_) | Operand::Call(_) => {
                    return self.problem(
                        "a list holds texts, numbers, true, false or null",
                        span,
                        "Put texts in quotes.",
                    );
                }
                item => items.push(item),
            }
            if !self.eat(&Token::Comma) && *self.peek() != Token::CloseList {
                let here = self.span();
                return self.problem("the list is not closed", here, "Separate the values with commas and end with ].");
            }
        }
    }

    /// The function that a word names, if parentheses follow.
    fn function(&self, word: &str, plain: bool) -> Option<Function> {
        let called = plain && *self.peek() == Token::Open;
        Function::ALL.iter().find(|(name, _)| called && *name == word).map(|(_, function)| *function)
    }

    fn call(&mut self, function: Function) -> Option<Operand> {
        let open = self.span();
        self.next();
        let mut arguments = Vec::new();
        while *self.peek() != Token::Close {
            arguments.push(self.argument(arguments.is_empty())?);
            if !self.eat(&Token::Comma) {
                break;
            }
        }
        let end = self.span();
        if !self.eat(&Token::Close) {
            return self.problem("the parenthesis is not closed", open, "Add ) after the last argument.");
        }
        if arguments.len() != function.arguments() {
            let (name, wanted) = (function.name(), function.arguments());
            let message = format!(
                "{name} takes {wanted} argument{}, here {}",
                if wanted > 1 { "s" } else { "" },
                arguments.len()
            );
            return self.problem(
                message,
                open.start..end.end,
                "As in contains(traits.email, \"@example.org\") and length(event).",
            );
        }
        Some(Operand::Call(Box::new(Call { function, arguments })))
    }

    /// The first argument is a field or a function; a further one may be a value.
    fn argument(&mut self, first: bool) -> Option<Operand> {
        if self.depth >= limits::TRIGGER_DEPTH {
            let span = self.span();
            return self.problem("the trigger nests too deeply", span, "Use fewer parentheses.");
        }
        self.depth += 1;
        let argument = if first { self.left() } else { self.right() };
        self.depth -= 1;
        argument
    }

    /// A field whose first word was read.
    fn field(&mut self, first: String, start: Range<usize>) -> Option<Operand> {
        let mut keys = Vec::new();
        let mut indexed = false;
        let mut end = start.end;
        while self.eat(&Token::Dot) {
            let span = self.span();
            end = span.end;
            match self.next() {
                // Escaped dots and brackets separate all the same, as in the peer.
                Token::Word { text, plain } => {
                    indexed |= plain && text.bytes().all(|byte| byte.is_ascii_digit());
                    keys.extend(text.split(['.', '[', ']']).filter(|key| !key.is_empty()).map(str::to_owned));
                }
                _ => {
                    return self.problem(
                        "a name is missing after the dot",
                        span,
                        "Name the member, as in traits.plan.",
                    );
                }
            }
        }
        if *self.peek() == Token::OpenList {
            let span = self.span();
            return self.problem(
                "a trigger cannot look into arrays by number",
                span,
                "Compare a member that is not in an array.",
            );
        }
        let known = [
            Root::Type,
            Root::Event,
            Root::Name,
            Root::UserId,
            Root::Traits,
            Root::Properties,
            Root::Context,
            Root::Any,
        ];
        let root = match known.iter().find(|root| root.name() == first && (**root != Root::Any || !keys.is_empty())) {
            Some(root) => *root,
            None => {
                let near = known.iter().find(|root| strsim::damerau_levenshtein(root.name(), &first) <= 2);
                let help = match near.filter(|near| **near != Root::Any) {
                    Some(near) => format!("Did you mean {}?", near.name()),
                    None => format!(
                        "A trigger reads type, event, name, userId, traits.…, properties.… and context.…; \
                         any other field by its full path: $.{}",
                        [std::slice::from_ref(&first), keys.as_slice()].concat().join(".")
                    ),
                };
                return self.problem(format!("there is no field {first}"), start.start..end, &help);
            }
        };
        Some(Operand::Field(Field::new(root, keys, indexed)))
    }
}

/// One term as itself, several as a group, none as nothing.
fn group(mut terms: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Option<Expr> {
    if terms.len() > 1 { Some(many(terms)) } else { terms.pop() }
}
