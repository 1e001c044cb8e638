//! What does a Liquid template say? LiquidJS's grammar, without the tags that the peer disables.

use super::{
    Condition, Filtered, Node,
    reader::{DEPTH, Reader, is_identifier},
};

/// Tags that the peer disables.
const DISABLED: [&str; 6] = ["case", "for", "include", "layout", "render", "tablerow"];

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
