//! How does a row of a table become a message? By a map from Segment's fields to columns, or by a header that names them.
//!
//! ```text
//! type=track, event='Order Completed', userId=@customer, timestamp=@date, properties.revenue=@amount
//! ```

use std::io::Read;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Which field of the message each column, or fixed value, becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMap {
    /// Empty: every column is the field that the header calls it.
    assignments: Vec<(Vec<String>, Cell)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cell {
    Fixed(String),
    /// Values that are JSON numbers or booleans become such, unless `text`.
    Column {
        name: String,
        text: bool,
    },
}

impl ColumnMap {
    /// The header names the fields: `type,event,userId,timestamp,properties.revenue`.
    pub fn from_header() -> ColumnMap {
        ColumnMap { assignments: Vec::new() }
    }

    /// Reads `field=value` assignments, separated by commas or lines; `#` starts a comment line. A value is `@column`,
    /// `@column:text` (never a number), `@'a column'`, or text, in quotes where it holds a comma.
    pub fn parse(text: &str) -> Result<ColumnMap> {
        let mut assignments = Vec::new();
        for part in split(text) {
            let wrong = |what: &str| {
                Error::settings(format!("the column map is wrong at `{part}`: {what}")).help(
                    "Write it as type=track, event='Order Completed', userId=@customer, properties.revenue=@amount",
                )
            };
            let (field, value) = part.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
            let (field, value) = (field.trim(), value.trim());
            if field.is_empty() || field.split('.').any(str::is_empty) {
                return Err(wrong("there is no field before the `=`"));
            }
            let cell = match value.strip_prefix('@') {
                Some(column) => {
                    let (column, text) = column.strip_suffix(":text").map_or((column, false), |column| (column, true));
                    Cell::Column { name: unquote(column).to_owned(), text }
                }
                None => Cell::Fixed(unquote(value).to_owned()),
            };
            assignments.push((field.split('.').map(str::to_owned).collect(), cell));
        }
        if assignments.is_empty() {
            return Err(
                Error::settings("the column map is empty").help("Leave it out when the header names the fields.")
            );
        }
        Ok(ColumnMap { assignments })
    }

    /// The map with columns as places in the header.
    fn bind(&self, header: &csv::StringRecord, name: &str) -> Result<Vec<(Vec<String>, Place)>> {
        if self.assignments.is_empty() {
            let path = |column: &str| column.trim().split('.').map(str::to_owned).collect();
            return Ok(header.iter().enumerate().map(|(n, column)| (path(column), Place::Column(n, false))).collect());
        }
        let mut missing = Vec::new();
        let bound = self.assignments.iter().map(|(path, cell)| {
            let place = match cell {
                Cell::Fixed(value) => Place::Fixed(value.clone()),
                Cell::Column { name, text } => match header.iter().position(|column| column.trim() == name) {
                    Some(n) => Place::Column(n, *text),
                    None => {
                        missing.push(format!("`{name}`"));
                        Place::Column(usize::MAX, false)
                    }
                },
            };
            (path.clone(), place)
        });
        let bound = bound.collect();
        if missing.is_empty() {
            return Ok(bound);
        }
        let columns: Vec<_> = header.iter().map(|column| format!("`{}`", column.trim())).collect();
        Err(Error::settings(format!("{name} has no column {}", missing.join(", ")))
            .help(format!("Its columns are {}.", columns.join(", "))))
    }
}

#[derive(Debug)]
enum Place {
    Fixed(String),
    Column(usize, bool),
}

/// The rows of a CSV file as lines of JSON.
pub(super) struct Records {
    reader: csv::Reader<Box<dyn Read + Send>>,
    places: Vec<(Vec<String>, Place)>,
    record: csv::ByteRecord,
}

impl Records {
    pub fn new(reader: impl Read + Send + 'static, map: ColumnMap, name: &str) -> Result<Records> {
        let tabs = name.contains(".tsv");
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .delimiter(if tabs { b'\t' } else { b',' })
            .from_reader(Box::new(reader) as Box<dyn Read + Send>);
        let header = reader
            .headers()
            .map_err(|error| Error::settings(format!("the header of {name} cannot be read")).because(error))?;
        let places = map.bind(&header.clone(), name)?;
        Ok(Records { reader, places, record: csv::ByteRecord::new() })
    }

    /// Writes the next row as JSON into `out`; returns the line it starts on. A cell that is not UTF-8 makes a line that
    /// is refused.
    pub fn next(&mut self, out: &mut Vec<u8>) -> std::io::Result<Option<u64>> {
        if !self.reader.read_byte_record(&mut self.record).map_err(std::io::Error::other)? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let mut message = Map::new();
        for (path, place) in &self.places {
            let value = match place {
                Place::Fixed(text) => Some(Value::from(text.as_str())),
                Place::Column(n, text) => match str::from_utf8(self.record.get(*n).unwrap_or_default()) {
                    Ok(cell) => value(cell, *text || path.len() == 1),
                    Err(_) => {
                        out.extend(self.record.get(*n).unwrap_or_default());
                        return Ok(Some(line));
                    }
                },
            };
            if let Some(value) = value {
                set(&mut message, path, value);
            }
        }
        serde_json::to_writer(out, &message).map_err(std::io::Error::other)?;
        Ok(Some(line))
    }
}

/// An empty cell says nothing.
fn value(cell: &str, text: bool) -> Option<Value> {
    let cell = cell.trim();
    if cell.is_empty() {
        return None;
    }
    let number = || {
        let bare = cell.trim_start_matches('-');
        // Not 007, nor more digits than a double keeps: those are codes, and stay text.
        let plain = bare.len() <= 15 && bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        plain.then(|| serde_json::from_str::<serde_json::Number>(cell).ok()).flatten().map(Value::from)
    };
    match cell {
        _ if text => Some(Value::from(cell)),
        "true" => Some(Value::from(true)),
        "false" => Some(Value::from(false)),
        _ => Some(number().unwrap_or_else(|| Value::from(cell))),
    }
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

/// Splits at commas and line ends outside quotes; drops comment lines and what is blank.
fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut part = String::new();
        let mut quote = None;
        for c in line.chars() {
            match (c, quote) {
                (',', None) => parts.push(std::mem::take(&mut part)),
                ('\'' | '"', None) => {
                    quote = Some(c);
                    part.push(c);
                }
                _ => {
                    if quote == Some(c) {
                        quote = None;
                    }
                    part.push(c);
                }
            }
        }
        parts.push(part);
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn unquote(text: &str) -> &str {
    ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}
