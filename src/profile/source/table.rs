//! How does a CSV file become messages? Its header is understood, then each row is written as JSON.

use std::io;

use serde_json::{Map, Value};

use super::{
    Found,
    rows::{Row, Rows},
    window::Window,
};
use crate::{
    Error, Result,
    profile::{
        csv::{ColumnMap, Place, value},
        message::NOT_UTF_8,
    },
};

/// What may stand between cells, the usual one first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The rows of a file as JSON.
pub(super) struct Table {
    rows: Rows,
    /// How many cells a row has.
    width: usize,
    /// Whether the last cells of a row may be missing.
    short_rows: bool,
    places: Vec<(Vec<String>, Place)>,
}

impl Table {
    /// Reads the header of the file called `name`.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if it cannot be right.
    pub fn new(window: Window, map: &ColumnMap, delimiter: Option<u8>, short_rows: bool, name: &str) -> Result<Table> {
        let unreadable = |error: io::Error| Error::settings(format!("{name} cannot be read")).because(error);
        let mut window = window;
        let said = said_delimiter(&mut window).map_err(unreadable)?;
        let delimiter = match delimiter.or(said) {
            Some(delimiter) => delimiter,
            None => recognised(&mut window, map).map_err(unreadable)?,
        };
        let mut rows = Rows::new(window, delimiter);
        let broken = |why: &str| Err(Error::settings(format!("the header of {name} {why}")));
        loop {
            match rows.next().map_err(unreadable)? {
                Some(Row::Blank) => {}
                Some(Row::Whole) => break,
                Some(Row::Broken(why)) => return broken(why),
                Some(Row::TooLong(bytes)) => return broken(&format!("is {bytes} bytes long")),
                None => {
                    return Err(Error::settings(format!("{name} is empty")).help("Its first line must be a header."));
                }
            }
        }
        let mut header = Vec::new();
        for (cell, _) in rows.cells() {
            let Ok(cell) = str::from_utf8(cell) else { return broken(NOT_UTF_8) };
            header.push(cell.trim());
        }
        let places = map.bind(&header, name)?;
        let width = header.len();
        rows.expect(width);
        Ok(Table { rows, width, short_rows, places })
    }

    /// Writes the next row as JSON into `out`.
    pub fn next(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Found>> {
        loop {
            let line = self.rows.line();
            let cells = match self.rows.next()? {
                None => return Ok(None),
                Some(Row::Blank) => continue,
                Some(Row::Broken(why)) => return Ok(Some(Found::refused(line, why.into()))),
                Some(Row::TooLong(bytes)) => return Ok(Some(Found::too_long(line, bytes))),
                Some(Row::Whole) => self.rows.cells().len(),
            };
            if cells > self.width || cells < self.width && !self.short_rows {
                let reason = format!("has {cells} cells, the header has {}", self.width);
                return Ok(Some(Found::refused(line, reason)));
            }
            let Some(message) = self.message() else {
                return Ok(Some(Found::refused(line, NOT_UTF_8.into())));
            };
            serde_json::to_writer(out, &message).map_err(io::Error::other)?;
            return Ok(Some(Found::Record { line }));
        }
    }

    /// None if a cell is not UTF-8.
    fn message(&self) -> Option<Map<String, Value>> {
        let mut message = Map::new();
        for (path, place) in &self.places {
            let value = match place {
                Place::Fixed(text) => Some(Value::from(text.as_str())),
                Place::Column(n, text) => {
                    let cell = str::from_utf8(self.rows.cell(*n).unwrap_or_default()).ok()?;
                    value(cell, *text || path.len() == 1, self.rows.is_quoted(*n))
                }
            };
            if let Some(value) = value {
                set(&mut message, path, value);
            }
        }
        Some(message)
    }
}

/// Spreadsheets write the delimiter as a line of its own before the header: `sep=;`, some of them in quotes.
fn said_delimiter(window: &mut Window) -> io::Result<Option<u8>> {
    window.seek_line_end(16)?;
    let record = window.record();
    let quoted = record.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let said = match quoted.unwrap_or(record) {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    };
    if said.is_some() {
        window.over_line_end()?;
        window.release()?;
    } else {
        window.rewind(0);
    }
    Ok(said)
}

/// The delimiter under which the header has the columns of the map, or the most columns.
fn recognised(window: &mut Window, map: &ColumnMap) -> io::Result<u8> {
    while window.over_line_end()? {
        window.release()?;
    }
    window.seek_line_end(crate::limits::RECORD_BYTES)?;
    let header = String::from_utf8_lossy(window.record()).into_owned();
    window.rewind(0);
    let columns = |delimiter: &u8| {
        let names: Vec<&str> = header.split(char::from(*delimiter)).map(|name| name.trim().trim_matches('"')).collect();
        let mapped = map.columns().filter(|column| names.contains(column)).count();
        (mapped, names.len())
    };
    // Of equals the first, which is the usual one.
    Ok(DELIMITERS.iter().rev().max_by_key(|delimiter| columns(delimiter)).copied().unwrap_or(b','))
}

fn set(object: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => drop(object.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let inner = object.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}
