//! Where does one message end and the next begin in JSON? One a line, pretty-printed over several, in a list, or in the batches
//! that Segment's libraries send. Told apart by brackets; whether a message is right is not asked here.
//!
//! A broken message is refused alone: reading goes on at the next line.

use std::io;

use super::{Found, window::Window};
use crate::{
    limits::RECORD_BYTES,
    profile::brackets::{Brackets, Step},
};

/// The messages of a file of JSON.
pub(super) struct Values {
    window: Window,
    /// The lists that are open, from the outermost.
    lists: Vec<List>,
}

struct List {
    /// Where it began.
    line: u64,
    /// Whether it is the `batch` of an object, which goes on behind it.
    in_batch: bool,
}

/// How an attempt to read an object ended.
enum End {
    /// With its closing bracket.
    Whole,
    /// It is a batch, whose list has just begun.
    Batch,
    /// It cannot be one value: its first line is broken, or it is longer than any message.
    Broken,
    /// It stands in a list, and is so many bytes long.
    TooLong(usize),
}

impl Values {
    pub fn new(window: Window) -> Values {
        Values { window, lists: Vec::new() }
    }

    /// Writes the next message into `out`.
    pub fn next(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Found>> {
        loop {
            let in_list = !self.lists.is_empty();
            while self.window.peek()?.is_some_and(|byte| byte.is_ascii_whitespace() || byte == b',') {
                self.window.take(1);
            }
            self.window.release()?;
            let line = self.window.line();
            let found = match self.window.peek()? {
                None => {
                    return Ok(self.lists.pop().map(|list| {
                        let reason = "begins a list that is never closed: the file may have been cut short";
                        Found::refused(list.line, reason.into())
                    }));
                }
                Some(b']') if in_list => {
                    self.close()?;
                    continue;
                }
                Some(b'[') if !in_list => {
                    self.window.take(1);
                    self.lists.push(List { line, in_batch: false });
                    continue;
                }
                Some(b'{') => match self.object()? {
                    End::Batch => {
                        self.lists.push(List { line, in_batch: true });
                        continue;
                    }
                    End::Whole => self.rest_of_line(in_list, out)?,
                    End::Broken => self.first_line(out)?,
                    End::TooLong(bytes) => Some(Found::too_long(line, bytes)),
                },
                Some(_) if in_list => self.element(out)?,
                Some(_) => self.first_line(out)?,
            };
            return Ok(Some(found.unwrap_or(Found::Record { line })));
        }
    }

    /// Goes over an object's brackets, with what is between them.
    fn object(&mut self) -> io::Result<End> {
        let mut brackets = Brackets::default();
        let mut dropped = 0;
        loop {
            if self.window.record().len() > RECORD_BYTES {
                if self.lists.is_empty() {
                    return Ok(End::Broken);
                }
                // Others may stand on the same line: they begin behind its closing bracket.
                dropped += self.window.record().len();
                self.window.release()?;
            }
            let byte = self.window.next()?;
            match byte.map_or(Step::Impossible, |byte| brackets.step(byte)) {
                Step::Impossible if dropped == 0 => return Ok(End::Broken),
                Step::Closed if dropped == 0 => return Ok(End::Whole),
                Step::Impossible | Step::Closed => return Ok(End::TooLong(dropped + self.window.record().len())),
                Step::ListBegins if brackets.depth == 2 && self.is_batch() => return Ok(End::Batch),
                Step::ListBegins | Step::Inside => {}
            }
        }
    }

    /// Whether what was read ends with `"batch": [`. Messages of a batch have no batch.
    fn is_batch(&self) -> bool {
        if self.lists.last().is_some_and(|list| list.in_batch) {
            return false;
        }
        let before = |text: &'_ [u8]| text.trim_ascii_end().to_vec();
        let record = self.window.record();
        let key = record.strip_suffix(b"[").map(before);
        key.and_then(|key| key.strip_suffix(b":").map(before)).is_some_and(|key| key.ends_with(b"\"batch\""))
    }

    /// An object alone on its lines is a message; with something behind it, the whole is refused as one.
    fn rest_of_line(&mut self, in_list: bool, out: &mut Vec<u8>) -> io::Result<Option<Found>> {
        let length = self.window.record().len();
        while !in_list && self.window.peek()?.is_some_and(|byte| byte == b' ' || byte == b'\t') {
            self.window.take(1);
        }
        let alone = in_list || matches!(self.window.peek()?, None | Some(b'\n' | b'\r' | b',' | b'{'));
        if alone {
            self.window.rewind(length);
        } else {
            self.window.seek_line_end(RECORD_BYTES)?;
        }
        out.extend_from_slice(self.window.record());
        Ok(None)
    }

    /// Hands out the first line of what was read, and goes on behind it.
    fn first_line(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Found>> {
        let line = self.window.line();
        self.window.rewind(0);
        self.window.seek_line_end(RECORD_BYTES)?;
        if matches!(self.window.peek()?, None | Some(b'\n' | b'\r')) {
            out.extend_from_slice(self.window.record());
            return Ok(None);
        }
        let length = self.window.skip_line()?;
        Ok(Some(Found::too_long(line, length)))
    }

    /// An element of a list that is no object.
    fn element(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Found>> {
        let mut brackets = Brackets::default();
        while let Some(byte) = self.window.peek()? {
            let ends = match byte {
                b',' | b']' => brackets.depth == 0 && !brackets.in_text,
                b'\n' | b'\r' => brackets.depth == 0 || brackets.in_text,
                _ => false,
            };
            if ends || self.window.record().len() > RECORD_BYTES {
                break;
            }
            brackets.step(byte);
            self.window.take(1);
        }
        out.extend_from_slice(self.window.record());
        Ok(None)
    }

    /// Goes over the end of a list, and of the batch around it.
    fn close(&mut self) -> io::Result<()> {
        self.window.take(1);
        if self.lists.pop().is_some_and(|list| list.in_batch) {
            let mut brackets = Brackets::within();
            while let Some(byte) = self.window.next()? {
                if matches!(brackets.step(byte), Step::Closed) {
                    break;
                }
                self.window.release()?;
            }
        }
        self.window.release()
    }
}
