//! Which events does a stream hold? JSON values one after the other, or arrays of them, each as its own text.
//!
//! One event at a time is in memory, however long the stream. What is no JSON is told and costs no other event.

use std::io::{self, BufRead};

use crate::limits::MAPPED_EVENT_BYTES;

/// The events of a reader.
pub struct Events<R> {
    reader: R,
    line: u64,
    in_array: bool,
}

/// An event's text, or what is wrong with it.
pub type Found = Result<String, String>;

impl<R: BufRead> Events<R> {
    pub fn new(reader: R) -> Self {
        Events { reader, line: 1, in_array: false }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// If the reader cannot be read.
    pub fn next(&mut self) -> io::Result<Option<Found>> {
        while let Some(byte) = self.peek()? {
            match byte {
                b'[' if !self.in_array => self.in_array = true,
                b']' if self.in_array => self.in_array = false,
                b',' if self.in_array => {}
                byte if byte.is_ascii_whitespace() => {}
                _ => return self.value().map(Some),
            }
            self.pass(byte);
        }
        Ok(None)
    }

    /// One value, as far as its brackets and quotes tell. It ends early where nothing that follows could be part of it, so that an
    /// event that is cut off does not swallow the next.
    fn value(&mut self) -> io::Result<Found> {
        let start = self.line;
        let (mut text, mut length) = (Vec::new(), 0);
        let (mut depth, mut last) = (0_u32, None);
        let (mut in_text, mut escaped) = (false, false);
        while let Some(byte) = self.peek()? {
            let between = byte.is_ascii_whitespace();
            let ends = match byte {
                // No text goes on in the next line.
                b'\n' => in_text || depth == 0,
                _ if in_text => false,
                b'{' => !matches!(last, None | Some(b'[' | b',' | b':')),
                b',' | b']' if depth == 0 && last.is_some() => true,
                _ => between && depth == 0,
            };
            if ends {
                break;
            }
            self.pass(byte);
            length += 1;
            if length <= MAPPED_EVENT_BYTES {
                text.push(byte);
            }
            if escaped {
                escaped = false;
                continue;
            }
            match byte {
                b'"' => in_text = !in_text,
                b'\\' => escaped = in_text,
                _ if in_text => continue,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if !between {
                last = Some(byte);
            }
            if depth == 0 && !in_text && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
        }
        if length > MAPPED_EVENT_BYTES {
            return Ok(Err(format!(
                "line {start}: {length} bytes are more than an event may have, {MAPPED_EVENT_BYTES}"
            )));
        }
        Ok(match String::from_utf8(text) {
            Ok(text) => match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                Ok(_) => Ok(text),
                Err(cause) => Err(format!("line {start}: not JSON: {cause}")),
            },
            Err(_) => Err(format!("line {start}: not UTF-8")),
        })
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    /// Past a byte that was peeked at.
    fn pass(&mut self, byte: u8) {
        self.reader.consume(1);
        self.line += u64::from(byte == b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Found> {
        let mut events = Events::new(text.as_bytes());
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    #[test]
    fn values_may_stand_on_lines_beside_each_other_over_lines_and_in_arrays() {
        let texts =
            ["{\"a\":\"}\\\"{\"}", "{\n \"b\": [1,\n {\"c\": 2}]}", "5", "\"x\"", "{}", "[1]", "null", "{\"d\":[]}"];
        let stream = format!(
            "{}\n{} {}\n{}{}[{},\n{} ]\n\n{}",
            texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7]
        );
        assert_eq!(found(&stream), texts.map(|text| Ok(text.to_owned())));
    }

    #[test]
    fn an_event_that_is_cut_off_does_not_swallow_the_next() {
        for broken in [
            "{\"a\":1",
            "{\"a\":\"x",
            "{\"a\":[1,2",
            "{\"a\":{\"b\":1}",
            "{\"a\"",
            "]",
            "}",
            "nonsense",
            "{\"a\":}",
            "\\",
        ] {
            let all = found(&format!("{{\"n\":0}}\n{broken}\n{{\"n\":1}}\n{{\"n\":2}}\n"));
            let good: Vec<_> = all.iter().flatten().map(String::as_str).collect();
            assert_eq!(good, ["{\"n\":0}", "{\"n\":1}", "{\"n\":2}"], "{broken}");
            let wrong = all.iter().find_map(|found| found.as_ref().err()).expect(broken);
            assert!(wrong.starts_with("line 2: not JSON: "), "{wrong}");
        }
    }

    #[test]
    fn an_event_that_is_too_long_is_told_and_passed_over() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAPPED_EVENT_BYTES));
        let all = found(&format!("{long}\n{{}}"));
        assert!(all[0].as_ref().unwrap_err().contains("more than an event may have"));
        assert_eq!(all[1..], [Ok("{}".to_owned())]);
    }
}
