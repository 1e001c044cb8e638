//! How is JSON text read? The common shapes directly, into values that borrow; whatever else there is, serde_json reads.
//!
//! Reading is most of what mapping a foreign event costs, and this takes half the time. It answers only where it is sure:
//! every surprise (a wrong text, a deep one, a number beyond a double) is left to serde_json, which also words the error.

use std::borrow::Cow;

use serde_json::Number;

use super::json::{Json, Members, settle_repeats};

/// Reads a whole text.
pub fn read(text: &str) -> Result<Json<'_>, serde_json::Error> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
    match reader.value(0) {
        Some(value) if reader.at_end() => Ok(value),
        _ => serde_json::from_str(text),
    }
}

/// serde_json's own limit is 128.
const DEPTH: usize = 100;

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    /// `None` if serde_json must decide.
    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        match self.peek()? {
            b'"' => self.text().map(Json::Text),
            b'{' if depth < DEPTH => self.object(depth + 1),
            b'[' if depth < DEPTH => self.array(depth + 1),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(value)
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        self.at += 1;
        if self.eat(b'}') {
            return Some(Json::Object(Vec::new()));
        }
        let mut members: Members<'a> = Vec::with_capacity(8);
        loop {
            let key = if self.peek() == Some(b'"') { self.text()? } else { return None };
            if !self.eat(b':') {
                return None;
            }
            members.push((key, self.value(depth)?));
            if !self.eat(b',') {
                return self.eat(b'}').then(|| Json::Object(settle_repeats(members)));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        self.at += 1;
        if self.eat(b']') {
            return Some(Json::Array(Vec::new()));
        }
        let mut items = Vec::new();
        loop {
            items.push(self.value(depth)?);
            if !self.eat(b',') {
                return self.eat(b']').then_some(Json::Array(items));
            }
        }
    }

    fn text(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            end += memchr::memchr2(b'"', b'\\', self.bytes.get(end..)?)?;
            if self.bytes[end] == b'"' {
                break;
            }
            escaped = true;
            end += 2;
        }
        if self.bytes[start..end].iter().fold(false, |found, byte| found | (*byte < 0x20)) {
            return None;
        }
        self.at = end + 1;
        if escaped {
            return serde_json::from_str(self.text.get(start - 1..=end)?).ok().map(Cow::Owned);
        }
        self.text.get(start..end).map(Cow::Borrowed)
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        let digits = |mut at: usize| {
            while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let whole = start + usize::from(self.bytes[start] == b'-');
        let mut end = digits(whole);
        if end == whole || (self.bytes[whole] == b'0' && end > whole + 1) {
            return None;
        }
        let integer = end;
        if self.bytes.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            if end == fraction {
                return None;
            }
        }
        if matches!(self.bytes.get(end), Some(b'e' | b'E')) {
            let exponent = end + 1 + usize::from(matches!(self.bytes.get(end + 1), Some(b'+' | b'-')));
            end = digits(exponent);
            if end == exponent {
                return None;
            }
        }
        self.at = end;
        let text = self.text.get(start..end)?;
        // -0 is a double, as in serde_json.
        let exact = if end != integer || text == "-0" {
            None
        } else if whole > start {
            text.parse::<i64>().ok().map(Number::from)
        } else {
            text.parse::<u64>().ok().map(Number::from)
        };
        exact.or_else(|| text.parse().ok().and_then(Number::from_f64)).map(Json::Number)
    }
}
