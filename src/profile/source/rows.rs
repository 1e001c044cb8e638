//! Where does one row of a CSV file end and the next begin, and which cells does it have? Quotes decide; memory is bounded.
//!
//! A quote that is never closed costs only its own line: reading goes on at the next one. The `csv` crate would take all that follows for
//! the cell, and does not tell whether a cell stood in quotes.

use std::io;

use super::window::Window;
use crate::limits::RECORD_BYTES;

/// The rows of a file, the header among them.
pub(super) struct Rows {
    window: Window,
    delimiter: u8,
    /// How many cells a row has, once the header told.
    width: Option<usize>,
    /// All cells of the row, one after the other.
    text: Vec<u8>,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    /// The place in `text` behind it.
    end: usize,
    quoted: bool,
}

/// What came of reading a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// [`Rows::cell`] has its cells.
    Whole,
    /// Its first line is no row.
    Broken(&'static str),
    /// It is on one line, and that long.
    TooLong(usize),
    /// A line without anything.
    Blank,
}

const UNCLOSED: &str =
    "has a cell whose opening quote is never closed: leave it out, or double it inside a quoted cell";
const AFTER_QUOTE: &str = "has text after a closing quote: inside a quoted cell, double the quote";

impl Rows {
    pub fn new(window: Window, delimiter: u8) -> Rows {
        Rows { window, delimiter, width: None, text: Vec::new(), cells: Vec::new() }
    }

    /// The line on which the next row begins.
    pub fn line(&self) -> u64 {
        self.window.line()
    }

    /// From now on rows that go over several lines have that many cells.
    pub fn expect(&mut self, width: usize) {
        self.width = Some(width);
    }

    /// The cells of the row, each with whether it stood in quotes.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = (&[u8], bool)> {
        self.cells.iter().enumerate().map(|(n, cell)| (self.cell(n).unwrap_or_default(), cell.quoted))
    }

    /// The nth cell, if the row is that long.
    pub fn cell(&self, n: usize) -> Option<&[u8]> {
        let start = n.checked_sub(1).map_or(0, |before| self.cells[before].end);
        self.cells.get(n).map(|cell| &self.text[start..cell.end])
    }

    /// Whether the nth cell stood in quotes.
    pub fn is_quoted(&self, n: usize) -> bool {
        self.cells.get(n).is_some_and(|cell| cell.quoted)
    }

    /// Reads the next row; None at the end of the file.
    pub fn next(&mut self) -> io::Result<Option<Row>> {
        self.text.clear();
        self.cells.clear();
        if self.window.peek()?.is_none() {
            return Ok(None);
        }
        if self.window.over_line_end()? {
            self.window.release()?;
            return Ok(Some(Row::Blank));
        }
        let row = self.row()?;
        let over_several = memchr::memchr2(b'\n', b'\r', self.window.record()).is_some();
        let fits = self.width.is_none_or(|width| width == self.cells.len());
        match row {
            // With another number of cells, a stray quote has swallowed a line end.
            Row::Whole if over_several && !fits => self.first_line(UNCLOSED).map(Some),
            Row::Whole => {
                self.window.over_line_end()?;
                self.window.release()?;
                Ok(Some(Row::Whole))
            }
            Row::Broken(why) => self.first_line(why).map(Some),
            other => Ok(Some(other)),
        }
    }

    /// Reads cells up to the end of the row.
    fn row(&mut self) -> io::Result<Row> {
        loop {
            let quoted = self.window.peek()? == Some(b'"');
            if quoted {
                if let Some(why) = self.quoted_cell()? {
                    return Ok(Row::Broken(why));
                }
            } else {
                self.bare_cell()?;
            }
            self.cells.push(Cell { end: self.text.len(), quoted });
            if self.window.record().len() > RECORD_BYTES {
                return Ok(Row::Broken("is too long for a row"));
            }
            match self.window.peek()? {
                Some(byte) if byte == self.delimiter => self.window.take(1),
                _ => return Ok(Row::Whole),
            }
        }
    }

    /// Up to the delimiter or the end of the line. Quotes in it are text.
    fn bare_cell(&mut self) -> io::Result<()> {
        loop {
            let (delimiter, ahead) = (self.delimiter, self.window.ahead()?);
            let length = memchr::memchr3(delimiter, b'\n', b'\r', ahead);
            let step = length.unwrap_or(ahead.len());
            self.text.extend_from_slice(&ahead[..step]);
            self.window.take(step);
            if length.is_some() || step == 0 || self.window.record().len() > RECORD_BYTES {
                return Ok(());
            }
        }
    }

    /// Up to behind the closing quote, and over spaces that follow it. Says why it is none.
    fn quoted_cell(&mut self) -> io::Result<Option<&'static str>> {
        self.window.take(1);
        loop {
            let ahead = self.window.ahead()?;
            let length = memchr::memchr(b'"', ahead);
            let step = length.unwrap_or(ahead.len());
            self.text.extend_from_slice(&ahead[..step]);
            self.window.take(step);
            if length.is_none() {
                if step == 0 || self.window.record().len() > RECORD_BYTES {
                    return Ok(Some(UNCLOSED));
                }
                continue;
            }
            self.window.take(1);
            if self.window.peek()? != Some(b'"') {
                break;
            }
            self.text.push(b'"');
            self.window.take(1);
        }
        while self.window.peek()? == Some(b' ') {
            self.window.take(1);
        }
        let next = self.window.peek()?;
        let ends = next.is_none_or(|byte| byte == self.delimiter || matches!(byte, b'\n' | b'\r'));
        Ok((!ends).then_some(AFTER_QUOTE))
    }

    /// Goes back to the end of the row's first line.
    fn first_line(&mut self, why: &'static str) -> io::Result<Row> {
        self.window.rewind(0);
        self.window.seek_line_end(RECORD_BYTES)?;
        if !self.window.over_line_end()? && self.window.peek()?.is_some() {
            return Ok(Row::TooLong(self.window.skip_line()?));
        }
        self.window.release()?;
        Ok(Row::Broken(why))
    }
}
