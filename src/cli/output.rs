//! How do results reach the person, or the program, that asked? Tables and sentences, or JSON; progress on the side.
//!
//! Results go to standard output, everything else to standard error. No ANSI codes unless a terminal reads them.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use clap::ColorChoice;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Error, Result, clock::Clock, error::Cause, telemetry::line};

/// Whoever read our output has gone, as `head` does after its lines. A type of its own, for it is no failure, while a broken pipe
/// to the database or to a broker is one: never tell them apart by the kind of an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads any more")]
pub struct ReaderGone;

/// Time between two log lines about progress where no terminal shows a bar.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    colors: bool,
    colors_errors: bool,
}

impl Output {
    pub(super) fn new(json: bool, color: ColorChoice) -> Self {
        let colored = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let (colors, colors_errors) = (colored(io::stdout().is_terminal()), colored(io::stderr().is_terminal()));
        Output { json, colors, colors_errors }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard output may be coloured.
    pub fn colors(&self) -> bool {
        self.colors
    }

    /// Whether standard error may be coloured.
    pub fn colors_errors(&self) -> bool {
        self.colors_errors
    }

    /// Prints a result: as one JSON document with `--json`, else as `render` writes it for a person.
    pub fn show<T: Serialize + ?Sized>(&self, result: &T, render: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json { self.document(result) } else { self.line(&render(result)) }
    }

    /// Prints one JSON object on a line of its own, for results that come as a stream.
    pub fn record<T: Serialize + ?Sized>(&self, record: &T) -> Result<()> {
        self.line(&serde_json::to_string(record).map_err(unserializable)?)
    }

    /// Prints text for a person, and a line end where it has none.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(stdout, "{}{end}", self.shown(text, self.colors)).and_then(|()| stdout.flush()).map_err(unwritten)
    }

    /// Prints one entry of a list as one line, whatever it holds.
    pub fn entry(&self, text: &str) -> Result<()> {
        self.line(&line::shown(text, |_| false))
    }

    /// Says something beside the result, on standard error.
    pub fn note(&self, text: &str) -> Result<()> {
        writeln!(io::stderr().lock(), "{}", self.shown(text, self.colors_errors)).map_err(unwritten)
    }

    /// Names and values of others cannot steer the terminal; colours are ours.
    pub(super) fn shown<'t>(&self, text: &'t str, colors: bool) -> Cow<'t, str> {
        line::shown(text, |c| c == '\n' || c == '\t' || colors && c == '\u{1b}')
    }

    /// Shows how far a long work has come: a bar on a terminal, else a log line now and then.
    ///
    /// `total` in units of `what` ("lines", "members"), if it is known.
    pub fn progress(&self, what: &'static str, total: Option<u64>) -> Progress {
        let bar = (!self.json && io::stderr().is_terminal()).then(|| bar(what, total));
        let clock = Clock::system();
        let started = clock.monotonic();
        Progress { what, bar, done: 0, total, clock, started, told: started }
    }

    fn document<T: Serialize + ?Sized>(&self, result: &T) -> Result<()> {
        self.line(&serde_json::to_string_pretty(result).map_err(unserializable)?)
    }
}

/// An instant as a list shows it, in UTC.
pub fn minute(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%M").to_string()
}

/// Lays out rows under a header; columns of numbers stand to the right.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.map(str::to_uppercase));
    let mut numeric = [true; N];
    for row in rows {
        for (numeric, cell) in numeric.iter_mut().zip(&row) {
            *numeric &= cell.chars().all(|c| c.is_ascii_digit() || "+-−.,% ".contains(c));
        }
        // A cell is one line.
        table.add_row(row.map(|cell| line::shown(&cell, |_| false).into_owned()));
    }
    for (index, numeric) in numeric.into_iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((if index == 0 { 0 } else { 1 }, 1));
            column.set_cell_alignment(if numeric { CellAlignment::Right } else { CellAlignment::Left });
        }
    }
    table.trim_fmt()
}

/// How far a long work has come; it ends when dropped.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    done: u64,
    total: Option<u64>,
    clock: Clock,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// `more` units are done.
    pub fn add(&mut self, more: u64) {
        self.done += more;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            return;
        }
        let now = self.clock.monotonic();
        if now.duration_since(self.told) >= PROGRESS_EVERY {
            self.told = now;
            let per_second = (self.done as f64 / now.duration_since(self.started).as_secs_f64()).round();
            tracing::info!(done = self.done, total = self.total, per_second, "{}", self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:30} {human_pos}/{human_len} {msg}, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} {msg}, {per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style).with_message(what),
        Err(_) => bar.with_message(what),
    }
}

/// The error of a result that could not be written.
pub(super) fn unwritten(error: io::Error) -> Error {
    let told = Error::wait("the result could not be written to standard output");
    if error.kind() == io::ErrorKind::BrokenPipe { told.because(Cause::shown(ReaderGone)) } else { told.because(error) }
}

fn unserializable(error: serde_json::Error) -> Error {
    Error::internal("a result could not be written as JSON").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_under_their_header() {
        let rows = [["big_spenders", "12"], ["lapsed", "9000"]].map(|row| row.map(String::from));
        insta::assert_snapshot!(table(["audience", "members"], rows), @r"
        AUDIENCE      MEMBERS
        big_spenders       12
        lapsed           9000
        ");
    }
}
