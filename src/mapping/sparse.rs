//! How is an event parsed no further than a mapping reads? Members that nobody asks for are passed over.
//!
//! Only for text that we wrote: compact JSON whose keys are unique. It is not checked while it is passed over, which is
//! what makes this fast; what does not look as promised is left to the real parser.

use std::borrow::Cow;

use super::reads::Reads;
use crate::js::{Json, Members, Number};

/// serde_json nests no deeper either.
const DEPTH: usize = 128;

/// The value of `text`, where it is an object with the members that are read, and perhaps others; `None` if this is not
/// the JSON that was promised.
pub fn parse<'a>(text: &'a str, reads: &Reads) -> Option<Json<'a>> {
    let mut scan = Scan { text, at: 0, depth: 0 };
    let value = scan.value(reads, true)?;
    (matches!(reads, Reads::Members(_)) || scan.at == text.len()).then_some(value)
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// With `hurry` nothing behind it is read.
    fn value(&mut self, reads: &Reads, hurry: bool) -> Option<Json<'a>> {
        let start = self.at;
        match (self.peek()?, reads) {
            (b'"', _) => self.text().map(Json::Text),
            (b'{', Reads::Members(members)) => self.object(Some(members), hurry),
            (b'{', Reads::All) => self.object(None, false),
            (b'[', _) => self.array(),
            _ => {
                self.pass()?;
                match &self.text[start..self.at] {
                    "true" => Some(Json::Bool(true)),
                    "false" => Some(Json::Bool(false)),
                    "null" => Some(Json::Null),
                    other => Number::written(other).map(Json::Number),
                }
            }
        }
    }

    /// An object of the members that are wanted, or of all. In a hurry it ends as soon as it has them.
    fn object(&mut self, wanted: Option<&[(Box<str>, Reads)]>, hurry: bool) -> Option<Json<'a>> {
        let mut members: Members<'a> = Vec::with_capacity(wanted.map_or(8, <[_]>::len));
        self.inside(b'}', |scan| {
            let key = scan.text()?;
            if scan.next()? != b':' {
                return None;
            }
            match wanted {
                None => members.push((key, scan.value(&Reads::All, false)?)),
                Some(wanted) => match wanted.iter().find(|(name, _)| **name == *key) {
                    Some((_, reads)) => {
                        let last = members.len() + 1 == wanted.len();
                        members.push((key, scan.value(reads, hurry && last)?));
                    }
                    None => scan.pass()?,
                },
            }
            Some(hurry && wanted.is_some_and(|wanted| wanted.len() == members.len()))
        })?;
        Some(Json::Object(members))
    }

    fn array(&mut self) -> Option<Json<'a>> {
        let mut items = Vec::new();
        self.inside(b']', |scan| {
            items.push(scan.value(&Reads::All, false)?);
            Some(false)
        })?;
        Some(Json::Array(items))
    }

    /// Goes through what a bracket holds, one by one, until `close` or until one says that it was the last.
    fn inside(&mut self, close: u8, mut one: impl FnMut(&mut Self) -> Option<bool>) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        if self.peek()? == close {
            self.at += 1;
        } else {
            loop {
                if one(self)? {
                    break;
                }
                match self.next()? {
                    b',' => {}
                    end if end == close => break,
                    _ => return None,
                }
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// A text, borrowed if nothing in it is escaped.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        if self.pass_text()? {
            return serde_json::from_str(&self.text[start..self.at]).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(&self.text[start + 1..self.at - 1]))
    }

    /// Past a text; whether something in it is escaped.
    fn pass_text(&mut self) -> Option<bool> {
        let mut rest = self.text.as_bytes().get(self.at..)?.strip_prefix(b"\"")?;
        let mut escaped = false;
        loop {
            rest = rest.get(plain(rest)..)?;
            match rest {
                [b'"', after @ ..] => {
                    self.at = self.text.len() - after.len();
                    return Some(escaped);
                }
                [_, _, after @ ..] => rest = after,
                _ => return None,
            }
            escaped = true;
        }
    }

    /// Past a value of any kind.
    fn pass(&mut self) -> Option<()> {
        let mut depth = 0;
        loop {
            match self.peek()? {
                b'"' => {
                    self.pass_text()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                b',' | b':' | b'}' | b']' => return None,
                _ => {
                    let rest = &self.text.as_bytes()[self.at..];
                    self.at += rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']')).unwrap_or(rest.len());
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// How many bytes there are before the first quote or backslash. Eight at a time: texts are short, and searches that are made
/// for long ones take longer to start.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // The high bit of each byte that is zero; above the lowest such byte, others may have it, too.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5c));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count()
}
