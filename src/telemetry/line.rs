//! Does a text stay what it seems, whatever it names? Names, topics and what brokers say come from others: a line end would forge a log
//! line, an escape sequence would write over a terminal. Both are shown, not obeyed.

use std::{
    borrow::Cow,
    io::{self, Stderr, Write, stderr},
};

use tracing_subscriber::fmt::MakeWriter;

/// Standard error, of which each event is one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    /// Whether we ourselves write colours; what is named has lost its own by then.
    pub colors: bool,
}

/// One event on its way.
#[derive(Debug)]
pub(super) struct Line {
    colors: bool,
    to: Stderr,
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Line;

    fn make_writer(&'w self) -> Line {
        Line { colors: self.colors, to: stderr() }
    }
}

impl Write for Line {
    /// An event comes whole, with its line end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let colors = self.colors;
        writeln!(self.to.lock(), "{}", shown(line, |c| colors && c == '\u{1b}'))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The text with what would steer a terminal, or turn its reading round, written out as in JSON: `\u001b`. Characters that are `kept`
/// stay.
pub fn shown(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let steers = |c: char| {
        let turns = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        (c.is_control() || turns) && !kept(c)
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match steers(c) {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out_and_all_else_stays() {
        let hostile = "a\r\nb\t\u{1b}[2J\u{9b}31m\u{7f}\u{202e}é🎉\u{2028}";
        let safe = "a\\u000d\\u000ab\\u0009\\u001b[2J\\u009b31m\\u007f\\u202eé🎉\\u2028";
        assert_eq!(shown(hostile, |_| false), safe);
        assert_eq!(shown("a\nb", |c| c == '\n'), "a\nb");
        assert!(matches!(shown("plain", |_| false), Cow::Borrowed(_)));
    }
}
