//! What does a Liquid template say? LiquidJS's grammar, without the tags that the peer disables.

use std::borrow::Cow;

use super::{Condition, Expr, Filter, Filtered, Node, Operator};
use crate::mapping::json::Json;

/// Tags that the peer disables.
const DISABLED: [&str; 6] = ["case", "for", "include", "layout", "render", "tablerow"];
/// How deep tags and expressions may nest.
const DEPTH: usize = 50;

/// A template cut into text, outputs and tags.
#[derive(Debug)]
enum Token {
    Text(String),
    Output(String),
    Tag(String),
}

pub fn parse(template: &str) -> Result<Vec<Node>, String> {
    let mut parser = Parser { tokens: cut(template)?.into_iter().peekable(), depth: 0 };
    let (nodes, end) = parser.block(&[])?;
    match end {
        None => Ok(nodes),
        Some(tag) => Err(format!("tag \"{}\" not found", name_of(&tag))),
    }
}

fn cut(template: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    loop {
        let open = match (rest.find("{{"), rest.find("{%")) {
            (None, None) => break,
            (a, b) => a.into_iter().chain(b).min().unwrap_or(rest.len()),
        };
        let is_tag = rest[open..].starts_with("{%");
        let (what, close) = if is_tag { ("tag", "%}") } else { ("output", "}}") };
        let trim_before = rest[open + 2..].starts_with('-');
        push_text(&mut tokens, &rest[..open], trim_next, trim_before);
        let inside_start = open + 2 + usize::from(trim_before);
        let end = closing(&rest[inside_start..], close).ok_or_else(|| format!("{what} is not closed"))?;
        let mut inside = &rest[inside_start..inside_start + end];
        trim_next = inside.ends_with('-');
        inside = inside.strip_suffix('-').unwrap_or(inside).trim();
        rest = &rest[inside_start + end + 2..];
        if is_tag && inside == "raw" {
            let (body, after, trim) = raw(rest)?;
            push_text(&mut tokens, body, trim_next, false);
            (rest, trim_next) = (after, trim);
        } else {
            tokens.push(if is_tag { Token::Tag(inside.into()) } else { Token::Output(inside.into()) });
        }
    }
    push_text(&mut tokens, rest, trim_next, false);
    Ok(tokens)
}

/// Where a delimiter closes, outside quotes.
fn closing(text: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    for (at, char) in text.char_indices() {
        match quote {
            Some(open) if char == open => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return Some(at),
            None if matches!(char, '"' | '\'') => quote = Some(char),
            None => {}
        }
    }
    // A quote that never closes is no quote.
    text.find(close)
}

/// The body of a raw block, what follows it, and whether to trim that.
fn raw(text: &str) -> Result<(&str, &str, bool), String> {
    let mut from = 0;
    while let Some(open) = text[from..].find("{%").map(|at| from + at) {
        if let Some(close) = text[open..].find("%}").map(|at| open + at) {
            let inside = &text[open + 2..close];
            if inside.trim_matches('-').trim() == "endraw" {
                return Ok((&text[..open], &text[close + 2..], inside.ends_with('-')));
            }
        }
        from = open + 2;
    }
    Err("raw is not closed".into())
}

fn push_text(tokens: &mut Vec<Token>, mut text: &str, trim_start: bool, trim_end: bool) {
    if trim_start {
        text = text.trim_start();
    }
    if trim_end {
        text = text.trim_end();
    }
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

fn name_of(tag: &str) -> &str {
    let tag = tag.trim_start();
    if tag.starts_with('#') { "#" } else { &tag[..tag.find(|c: char| !is_identifier(c)).unwrap_or(tag.len())] }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    /// Nodes up to one of the tags `ends`, or the end of the template.
    fn block(&mut self, ends: &[&str]) -> Result<(Vec<Node>, Option<String>), String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("nests deeper than {DEPTH} levels"));
        }
        let mut nodes = Vec::new();
        let mut end = None;
        while let Some(token) = self.tokens.next() {
            match token {
                Token::Text(text) => nodes.push(Node::Text(text)),
                Token::Output(inside) => nodes.push(Node::Output(filtered(&inside)?)),
                Token::Tag(tag) if ends.contains(&name_of(&tag)) => {
                    end = Some(tag);
                    break;
                }
                Token::Tag(tag) => self.tag(&tag, &mut nodes)?,
            }
        }
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn tag(&mut self, tag: &str, nodes: &mut Vec<Node>) -> Result<(), String> {
        let name = name_of(tag);
        let rest = tag.trim_start()[name.len()..].trim();
        let node = match name {
            "#" => return Ok(()),
            "comment" => {
                for token in self.tokens.by_ref() {
                    if matches!(&token, Token::Tag(tag) if name_of(tag) == "endcomment") {
                        return Ok(());
                    }
                }
                return Err("tag comment not closed".into());
            }
            "echo" if rest.is_empty() => return Ok(()),
            "echo" => Node::Output(filtered(rest)?),
            "assign" => {
                let (variable, value) = rest.split_once('=').ok_or("assign wants a name, = and a value")?;
                Node::Assign(identifier(variable)?, filtered(value)?)
            }
            "capture" => {
                let variable = identifier(rest.trim_matches(['"', '\'']))?;
                Node::Capture(variable, self.closed_by("endcapture", "capture")?)
            }
            "block" => {
                nodes.extend(self.closed_by("endblock", "block")?);
                return Ok(());
            }
            "increment" => Node::Increment(identifier(rest)?),
            "decrement" => Node::Decrement(identifier(rest)?),
            "cycle" => cycle(rest)?,
            "break" | "continue" => Node::Stop,
            "if" | "unless" => self.branches(name, rest)?,
            "liquid" => {
                // Each line is a tag; they are read in its place.
                let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
                let mut tokens: Vec<Token> = lines.map(|line| Token::Tag(line.to_owned())).collect();
                tokens.extend(std::mem::take(&mut self.tokens_left()));
                self.tokens = tokens.into_iter().peekable();
                return Ok(());
            }
            name if DISABLED.contains(&name) => return Err(format!("tag \"{name}\" is disabled")),
            name => return Err(format!("tag \"{name}\" not found")),
        };
        nodes.push(node);
        Ok(())
    }

    fn tokens_left(&mut self) -> Vec<Token> {
        self.tokens.by_ref().collect()
    }

    fn closed_by(&mut self, end: &str, tag: &str) -> Result<Vec<Node>, String> {
        match self.block(&[end])? {
            (nodes, Some(_)) => Ok(nodes),
            (_, None) => Err(format!("tag {tag} not closed")),
        }
    }

    fn branches(&mut self, name: &str, test: &str) -> Result<Node, String> {
        let end = if name == "if" { "endif" } else { "endunless" };
        let mut condition = Some(Condition { test: filtered(test)?, negated: name == "unless" });
        let mut branches = Vec::new();
        loop {
            let (nodes, stop) = self.block(&["elsif", "else", end])?;
            let stop = stop.ok_or_else(|| format!("tag {name} not closed"))?;
            branches.push((condition, nodes));
            match name_of(&stop) {
                "elsif" | "else" if branches.last().is_some_and(|(condition, _)| condition.is_none()) => {
                    return Err("nothing may follow else but the end".into());
                }
                "elsif" => {
                    condition = Some(Condition { test: filtered(&stop.trim_start()["elsif".len()..])?, negated: false })
                }
                "else" => condition = None,
                _ => return Ok(Node::If(branches)),
            }
        }
    }
}

fn identifier(text: &str) -> Result<String, String> {
    let text = text.trim();
    let valid = !text.is_empty() && text.chars().all(is_identifier);
    if valid { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a name")) }
}

fn cycle(text: &str) -> Result<Node, String> {
    let mut reader = Reader::new(text);
    let first = reader.operand()?.ok_or("cycle wants values")?;
    let mut values = Vec::new();
    let group = if reader.eat(':') {
        Some(first)
    } else {
        values.push(first);
        reader.eat(',');
        None
    };
    while let Some(value) = reader.operand()? {
        values.push(value);
        reader.eat(',');
    }
    if values.is_empty() {
        return Err("cycle wants values".into());
    }
    Ok(Node::Cycle(group, values))
}

/// A value and its filters.
fn filtered(text: &str) -> Result<Filtered, String> {
    let mut reader = Reader::new(text);
    let value = reader.expression()?.ok_or_else(|| format!("invalid value expression: {:?}", text.trim()))?;
    let mut filters = Vec::new();
    while reader.eat('|') {
        match reader.word() {
            Some(name) => filters.push(reader.filter(name)?),
            // A pipe before the end is passed over, as by the peer.
            None if reader.at_end() => {}
            None => return Err("a filter's name is missing after |".into()),
        }
    }
    if !reader.at_end() {
        return Err(format!("unexpected {:?}", reader.rest()));
    }
    Ok(Filtered { value, filters })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Reader { text, at: 0, depth: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    fn eat(&mut self, char: char) -> bool {
        self.skip_space();
        let eaten = self.rest().starts_with(char);
        if eaten {
            self.at += char.len_utf8();
        }
        eaten
    }

    fn word(&mut self) -> Option<String> {
        self.skip_space();
        let rest = self.rest();
        let mut end = rest.find(|c: char| !is_identifier(c)).unwrap_or(rest.len());
        if end > 0 && rest[end..].starts_with('?') {
            end += 1;
        }
        self.at += end;
        (end > 0).then(|| rest[..end].to_owned())
    }

    fn filter(&mut self, name: String) -> Result<Filter, String> {
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
    fn expression(&mut self) -> Result<Option<Expr>, String> {
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

    fn comparison(&mut self) -> Result<Option<Expr>, String> {
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
    fn operand(&mut self) -> Result<Option<Expr>, String> {
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
            self.at += rest.find(|c: char| !is_identifier(c) && c != '.').unwrap_or(rest.len());
            return Expr::Variable(rest.to_owned(), Vec::new());
        }
        self.at += end;
        let number = rest[..end].trim_start_matches('+').parse::<f64>().ok();
        Expr::Literal(number.and_then(serde_json::Number::from_f64).map_or(Json::Null, Json::Number))
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

    fn quoted(&mut self, quote: char) -> Result<Expr, String> {
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

fn is_identifier(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-') || !char.is_ascii()
}
