//! Where in a schedule's text does something stand? Its parts know, so that each mistake is told with its place.

use std::fmt;

use crate::error::Problem;

/// A part of a schedule's text that knows where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    start: usize,
}

impl<'a> Part<'a> {
    pub(super) fn at(text: &'a str, start: usize) -> Self {
        Part { text, start }
    }

    /// The same place, but read as if `text` stood there.
    pub(super) fn read_as(self, text: &'a str) -> Self {
        Part { text, ..self }
    }

    pub(super) fn split_at(self, middle: usize) -> (Self, Self) {
        let (left, right) = self.text.split_at(middle);
        (Part { text: left, ..self }, Part { text: right, start: self.start + middle })
    }

    pub(super) fn strip_prefix(self, prefix: &str) -> Option<Self> {
        let rest = self.text.strip_prefix(prefix)?;
        Some(self.split_at(self.text.len() - rest.len()).1)
    }

    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (left, rest) = self.split_at(self.text.find(separator)?);
        Some((left, rest.split_at(separator.len_utf8()).1))
    }

    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Part<'a>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let part = rest?;
            let (first, others) =
                part.split_once(separator).map_or((part, None), |(first, others)| (first, Some(others)));
            rest = others;
            Some(first)
        })
    }

    pub(super) fn words(self) -> impl Iterator<Item = Part<'a>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            rest = rest.trim();
            let (word, others) = rest.split_at(rest.text.find(char::is_whitespace).unwrap_or(rest.text.len()));
            rest = others;
            (!word.text.is_empty()).then_some(word)
        })
    }

    pub(super) fn trim(self) -> Self {
        let blanks = self.text.len() - self.text.trim_start().len();
        Part { text: self.text.trim(), start: self.start + blanks }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// Collects what is wrong with a text.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    /// Notes a problem. Always none, so that a parser can end with it.
    pub(super) fn refuse<T>(&mut self, part: Part, message: impl Into<String>, help: impl Into<String>) -> Option<T> {
        let span = part.start..part.start + part.text.len();
        self.problems.push(Problem { message: message.into(), span, help: Some(help.into()) });
        None
    }
}
