//! How does a row of a table become a message? By a map from Segment's fields to columns, or by a header that names them.
//!
//! ```text
//! type=track, event='Order Completed', userId=@customer, timestamp=@date, properties.revenue=@amount
//! ```

pub mod header;

use serde_json::Value;

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
        header::check_fields(assignments.iter().map(|(path, _): &(Vec<String>, Cell)| path.join(".")))?;
        Ok(ColumnMap { assignments })
    }

    /// The columns that it reads.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.assignments.iter().filter_map(|(_, cell)| match cell {
            Cell::Column { name, .. } => Some(name.as_str()),
            Cell::Fixed(_) => None,
        })
    }

    /// The map with columns as places in the header of the file called `name`.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if the header cannot be right, or has not the columns of the map.
    pub(super) fn bind(&self, header: &[&str], name: &str) -> Result<Vec<(Vec<String>, Place)>> {
        if self.assignments.is_empty() {
            let unknown = header::check(header, name)?;
            if !unknown.is_empty() {
                tracing::warn!(
                    file = name,
                    columns = unknown.join(", "),
                    "these columns mean nothing here and are left out"
                );
            }
            let known = header.iter().enumerate().filter(|(_, column)| !column.is_empty() && !unknown.contains(column));
            let path = |column: &str| column.split('.').map(str::to_owned).collect();
            return Ok(known.map(|(n, column)| (path(column), Place::Column(n, false))).collect());
        }
        header::check_repeated(header, name)?;
        let mut missing = Vec::new();
        let bound = self.assignments.iter().map(|(path, cell)| {
            let place = match cell {
                Cell::Fixed(value) => Place::Fixed(value.clone()),
                Cell::Column { name, text } => match header.iter().position(|column| column == name) {
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
        let columns: Vec<_> = header.iter().map(|column| format!("`{column}`")).collect();
        Err(Error::settings(format!("{name} has no column {}", missing.join(", ")))
            .help(format!("Its columns are {}.", columns.join(", "))))
    }
}

/// Where a field's value comes from.
#[derive(Debug)]
pub(super) enum Place {
    Fixed(String),
    /// The nth cell; whether it is text whatever it looks like.
    Column(usize, bool),
}

/// What a cell says. An empty one says nothing; spaces around it are none of it, unless it stood in quotes.
pub(super) fn value(cell: &str, text: bool, quoted: bool) -> Option<Value> {
    let cell = if quoted { cell } else { cell.trim() };
    if cell.is_empty() {
        return None;
    }
    match cell {
        _ if text => Some(Value::from(cell)),
        // Spreadsheets shout them.
        _ if cell.eq_ignore_ascii_case("true") => Some(Value::from(true)),
        _ if cell.eq_ignore_ascii_case("false") => Some(Value::from(false)),
        _ => Some(number(cell).map_or_else(|| Value::from(cell), Value::from)),
    }
}

/// Not 007, nor more digits than a double keeps: those are codes, and stay text.
fn number(cell: &str) -> Option<serde_json::Number> {
    let bare = cell.trim_start_matches('-');
    let plain = bare.len() <= 15 && bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = plain.then(|| serde_json::from_str::<serde_json::Number>(cell).ok()).flatten()?;
    // There is one zero.
    if number.as_f64() == Some(0.0) { serde_json::from_str(bare).ok() } else { Some(number) }
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
