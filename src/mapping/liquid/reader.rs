//! What does an expression of a Liquid template say? Values, comparisons, filters with their arguments.

use std::borrow::Cow;

use super::{Expr, Filter, Operator};
use crate::js::{Json, Number};

/// How deep tags, and expressions, may nest.
pub const DEPTH: usize = 50;

/// Reads an expression, from left to right.
pub struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        Reader { text, at: 0, depth: 0 }
    }

    pub fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    pub fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    pub fn eat(&mut self, char: char) -> bool {
        self.skip_space();
        let eaten = self.rest().starts_with(char);
        if eaten {
            self.at += char.len_utf8();
        }
        eaten
    }

    pub fn word(&mut self) -> Option<String> {
        self.skip_space();
        let rest = self.rest();
        let mut end = rest.find(|c: char| !is_identifier(c)).unwrap_or(rest.len());
        if end > 0 && rest[end..].starts_with('?') {
            end += 1;
        }
        self.at += end;
        (end > 0).then(|| rest[..end].to_owned())
    }

    pub fn filter(&mut self, name: String) -> Result<Filter, String> {
        let mut filter = Filter { name, arguments: Vec::new(), named: Vec::new() };
        if !self.eat(':') {
            return Ok(filter);
        }
        loop {
            let before = self.at;
            let word = self.word();
            if let Some(word) = word.filter(|_| self.eat(':')) {
                let value = self.operand()?.ok_or_else(|| format!("{word} wants a value"))?;
                filter.named.push((word, value));
                if !self.eat(',') {
                    return Ok(filter);
                }
                continue;
            }
            self.at = before;
            match self.operand()? {
                Some(value) => filter.arguments.push(value),
                None => return Ok(filter),
            }
            if !self.eat(',') {
                return Ok(filter);
            }
        }
    }

    /// Operands and operators. Of several operands in a row the first counts, as in the peer.
    pub fn expression(&mut self) -> Result<Option<Expr>, String> {
        let Some(first) = self.comparison()? else { return Ok(None) };
        // and, or: equal rank, from the right.
        let expr = match self.operator(&[("and", Operator::And), ("or", Operator::Or)]) {
            Some(operator) => {
                self.descend()?;
                let right = self.expression()?.unwrap_or(Expr::Literal(Json::Undefined));
                self.depth -= 1;
                Expr::Binary(operator, Box::new(first), Box::new(right))
            }
            None => first,
        };
        Ok(Some(expr))
    }

    fn descend(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH { Err(format!("nests deeper than {DEPTH} levels")) } else { Ok(()) }
    }

    pub fn comparison(&mut self) -> Result<Option<Expr>, String> {
        if self.operator(&[("not", Operator::And)]).is_some() {
            self.descend()?;
            let inner = self.comparison()?.ok_or("a value is missing after not")?;
            self.depth -= 1;
            return Ok(Some(Expr::Not(Box::new(inner))));
        }
        let Some(left) = self.operand()? else { return Ok(None) };
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            (">=", Operator::AtLeast),
            ("<=", Operator::AtMost),
            (">", Operator::Greater),
            ("<", Operator::Less),
            ("contains", Operator::Contains),
        ];
        let compared = match self.operator(&operators) {
            Some(operator) => {
                let right = self.operand()?.unwrap_or(Expr::Literal(Json::Undefined));
                Expr::Binary(operator, Box::new(left), Box::new(right))
            }
            None => left,
        };
        // What follows without an operator is read and passed over.
        loop {
            let before = self.at;
            if self.operator(&[("and", Operator::And), ("or", Operator::Or)]).is_some() {
                self.at = before;
                return Ok(Some(compared));
            }
            if self.operand()?.is_none() {
                self.at = before;
                return Ok(Some(compared));
            }
        }
    }

    /// Words count as operators only as whole words.
    fn operator(&mut self, known: &[(&str, Operator)]) -> Option<Operator> {
        self.skip_space();
        let found = known.iter().find(|(text, _)| {
            self.rest().strip_prefix(text).is_some_and(|after| {
                !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !after.starts_with(is_identifier)
            })
        });
        found.map(|(text, operator)| {
            self.at += text.len();
            *operator
        })
    }

    /// One value, without operators.
    pub fn operand(&mut self) -> Result<Option<Expr>, String> {
        self.skip_space();
        let rest = self.rest();
        match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote).map(Some),
            Some('(') => self.range().map(Some),
            Some(first)
                if first.is_ascii_digit()
                    || (matches!(first, '-' | '+') && rest[1..].starts_with(|c: char| c.is_ascii_digit())) =>
            {
                Ok(Some(self.number_or_variable()))
            }
            Some('[') => Ok(Some(self.steps(String::new())?)),
            Some(first) if is_identifier(first) => {
                let word = self.word().unwrap_or_default();
                let keyword = match word.as_str() {
                    "true" => Some(Expr::Literal(Json::Bool(true))),
                    "false" => Some(Expr::Literal(Json::Bool(false))),
                    "nil" | "null" => Some(Expr::Literal(Json::Null)),
                    "empty" => Some(Expr::Empty),
                    "blank" => Some(Expr::Blank),
                    _ => None,
                };
                match keyword {
                    Some(keyword) if !self.rest().starts_with(['.', '[']) => Ok(Some(keyword)),
                    _ => self.steps(word).map(Some),
                }
            }
            _ => Ok(None),
        }
    }

    fn number_or_variable(&mut self) -> Expr {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['-', '+']));
        let mut end = sign + rest[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - sign);
        let fraction =
            rest[end..].strip_prefix('.').map(|after| after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
        // Two dots make a range, not a number.
        if let Some(digits) = fraction.filter(|digits| *digits > 0 || !rest[end + 1..].starts_with('.')) {
            end += 1 + digits;
        }
        if rest[end..].starts_with(is_identifier)
            || (fraction.is_some() && rest[end..].starts_with('.') && !rest[end..].starts_with(".."))
        {
            // More than a number: a name, as in the peer.
            let name = &rest[sign..];
            self.at += sign + name.find(|c: char| !is_identifier(c) && c != '.').unwrap_or(name.len());
            return Expr::Variable(rest.to_owned(), Vec::new());
        }
        self.at += end;
        let number = rest[..end].trim_start_matches('+').parse::<f64>().ok();
        Expr::Literal(number.and_then(Number::from_f64).map_or(Json::Null, Json::Number))
    }

    fn steps(&mut self, variable: String) -> Result<Expr, String> {
        let mut steps = Vec::new();
        loop {
            if self.rest().starts_with('.') && !self.rest().starts_with("..") {
                self.at += 1;
                let before = self.at;
                self.skip_space();
                match self.word() {
                    Some(name) if self.at > before => steps.push(Expr::Literal(Json::Text(Cow::Owned(name)))),
                    _ => return Ok(Expr::Variable(variable, steps)),
                }
            } else if self.rest().starts_with('[') {
                self.at += 1;
                self.descend()?;
                let key = self.operand()?.ok_or("a key is missing between brackets")?;
                self.depth -= 1;
                if !self.eat(']') {
                    return Err("a bracket is not closed".into());
                }
                steps.push(key);
            } else {
                return Ok(Expr::Variable(variable, steps));
            }
        }
    }

    fn range(&mut self) -> Result<Expr, String> {
        self.at += 1;
        self.descend()?;
        let from = self.operand()?.ok_or("a range wants two values: (1..3)")?;
        self.skip_space();
        let dots = self.rest().starts_with("..");
        if !dots {
            return Err("a range wants two values: (1..3)".into());
        }
        self.at += 2;
        let to = self.operand()?.ok_or("a range wants two values: (1..3)")?;
        self.depth -= 1;
        if !self.eat(')') {
            return Err("a parenthesis is not closed".into());
        }
        Ok(Expr::Range(Box::new(from), Box::new(to)))
    }

    pub fn quoted(&mut self, quote: char) -> Result<Expr, String> {
        self.at += 1;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, char)) = chars.next() {
            if char == quote {
                self.at += at + 1;
                return Ok(Expr::Literal(Json::Text(Cow::Owned(text))));
            }
            if char != '\\' {
                text.push(char);
                continue;
            }
            match chars.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('b') => text.push('\u{8}'),
                Some('f') => text.push('\u{c}'),
                Some('v') => text.push('\u{b}'),
                Some('u') => {
                    let hex: String =
                        chars.clone().take(4).map(|(_, c)| c).take_while(char::is_ascii_hexdigit).collect();
                    chars.by_ref().take(hex.len()).for_each(drop);
                    text.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
                }
                Some(other) => text.push(other),
                None => break,
            }
        }
        Err("a quote is not closed".into())
    }
}

pub fn is_identifier(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-') || !char.is_ascii()
}
