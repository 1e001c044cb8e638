//! Which bytes of a file are looked at now? From the start of a record to as far as it was read, so that what turns out to be
//! no record can be read again from its second line.
//!
//! Never more in memory than the longest record that a reader tries, however long a line is.

use std::io::{self, ErrorKind, Read};

const BUFFER_BYTES: usize = 256 * 1024;

/// A reader that remembers what it read since [`Window::release`].
pub struct Window {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Where the record starts.
    start: usize,
    /// The next byte to read.
    at: usize,
    end: usize,
    /// The line on which the record starts, from 1. A line ends with LF, CRLF or CR, as spreadsheets of all times write them.
    line: u64,
}

impl Window {
    pub fn new(reader: Box<dyn Read + Send>) -> Window {
        Window { reader, buffer: vec![0; BUFFER_BYTES], start: 0, at: 0, end: 0, line: 1 }
    }

    /// The line on which the record starts.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The record as far as it was read.
    pub fn record(&self) -> &[u8] {
        &self.buffer[self.start..self.at]
    }

    /// The next byte, which stays the next one.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok((self.at < self.end || self.fill()?).then(|| self.buffer[self.at]))
    }

    /// The next byte.
    pub fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        self.at += usize::from(byte.is_some());
        Ok(byte)
    }

    /// The bytes that are at hand beyond the record, at least one unless the file has ended.
    pub fn ahead(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end {
            self.fill()?;
        }
        Ok(&self.buffer[self.at..self.end])
    }

    /// Adds that many of the bytes at hand to the record.
    pub fn take(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.end);
    }

    /// Goes on to the end of the line, which it leaves as the next byte. Stops after `most` bytes of the record.
    pub fn seek_line_end(&mut self, most: usize) -> io::Result<()> {
        loop {
            let left = most.saturating_sub(self.at - self.start);
            let ahead = self.ahead()?;
            let length = memchr::memchr2(b'\n', b'\r', ahead);
            let (step, ended) = (length.unwrap_or(ahead.len()), length.is_some() || ahead.is_empty());
            self.take(step.min(left));
            if ended || step >= left {
                return Ok(());
            }
        }
    }

    /// Goes over the end of a line, if one comes next.
    pub fn over_line_end(&mut self) -> io::Result<bool> {
        match self.peek()? {
            Some(b'\n') => self.take(1),
            Some(b'\r') => {
                self.take(1);
                if self.peek()? == Some(b'\n') {
                    self.take(1);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Goes on to behind the line without keeping it; returns how long the line was from the record's start.
    pub fn skip_line(&mut self) -> io::Result<usize> {
        let mut length = self.at - self.start;
        loop {
            self.start = self.at;
            self.seek_line_end(BUFFER_BYTES)?;
            length += self.at - self.start;
            if matches!(self.peek()?, None | Some(b'\n' | b'\r')) {
                self.start = self.at;
                self.over_line_end()?;
                self.release()?;
                return Ok(length);
            }
        }
    }

    /// Takes back what was read of the record beyond its first `bytes`.
    pub fn rewind(&mut self, bytes: usize) {
        self.at = self.start + bytes;
    }

    /// Starts a new record behind this one.
    pub fn release(&mut self) -> io::Result<()> {
        let ends_in_cr = self.record().last() == Some(&b'\r');
        // Of CRLF the LF counts, also where the two fall apart.
        let split = ends_in_cr && self.peek()? == Some(b'\n');
        self.line += line_ends(self.record()) - u64::from(split);
        self.start = self.at;
        Ok(())
    }

    fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.at -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many line ends these bytes hold; a CR at their very end is one.
fn line_ends(bytes: &[u8]) -> u64 {
    let ends = |at: &usize| bytes[*at] == b'\n' || bytes.get(at + 1) != Some(&b'\n');
    memchr::memchr2_iter(b'\n', b'\r', bytes).filter(ends).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time, so that every pair of bytes falls apart once.
    struct Slow(&'static [u8]);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn a_line_ends_with_lf_crlf_or_cr() {
        let mut window = Window::new(Box::new(Slow(b"a\nb\r\nc\rd\r\r\ne")));
        let mut lines = Vec::new();
        while window.peek().unwrap().is_some() {
            window.seek_line_end(100).unwrap();
            lines.push((window.line(), String::from_utf8(window.record().to_vec()).unwrap()));
            window.over_line_end().unwrap();
            window.release().unwrap();
        }
        let texts: Vec<_> = lines.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(texts, [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, ""), (6, "e")]);
    }

    #[test]
    fn a_crlf_whose_halves_are_released_apart_is_one_line_end() {
        let mut window = Window::new(Box::new(Slow(b"\r\n\rx")));
        for expected in [1, 2, 3] {
            window.next().unwrap();
            window.release().unwrap();
            assert_eq!(window.line(), expected);
        }
    }
}
