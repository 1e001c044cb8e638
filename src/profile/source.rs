//! Where do messages come from? A file or a stream, plain or compressed, JSON or CSV, read as batches of messages.
//!
//! ```text
//!  bytes ──► window ──► values (JSON) or rows (CSV) ──► a message's JSON ──► message, or why it is refused
//! ```
//!
//! One message at a time is in memory beside the batch, and of a line never more than a message may have.

mod encoding;
mod format;
mod json;
mod repeats;
mod rows;
mod table;
mod window;

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest, Sha256};

use self::{
    json::Values,
    repeats::{Finder, Repeats},
    table::Table,
    window::Window,
};
use super::{
    csv::ColumnMap,
    message::{Defaults, Message, Refusal},
};
use crate::{
    Error, Result,
    limits::{BATCH_BYTES, MESSAGE_BYTES},
};
pub use format::Format;

const BUFFER_BYTES: usize = 256 * 1024;
/// For how many messages repeats are looked for: a file has more bytes than this each.
const SMALLEST_MESSAGE_BYTES: u64 = 32;
/// Compressed messages take so much less.
const COMPRESSION: u64 = 8;

/// How a file is to be understood. By default as its name and its first bytes say.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// In place of the ending of its name.
    pub format: Option<Format>,
    /// Which column becomes which field; a table without one has a header that names the fields.
    pub map: Option<ColumnMap>,
    /// What stands between the cells of a table; else it is recognised.
    pub delimiter: Option<u8>,
    /// Whether the last cells of a row may be missing.
    pub short_rows: bool,
}

impl Reading {
    /// A table whose columns are mapped, where there is a map.
    pub fn by(map: Option<ColumnMap>) -> Reading {
        Reading { map, ..Reading::default() }
    }
}

/// Something to import.
pub struct Source {
    /// What people call it: the path as given, or `-`.
    pub name: String,
    /// Of the whole content; known for files, and what makes an import resumable.
    pub digest: Option<String>,
    /// On disk, compressed or not, where known.
    pub total_bytes: Option<u64>,
    /// How many of them have been read; shared with the reader.
    pub read_bytes: Arc<AtomicU64>,
    /// A file can be read again, to find which messages without an id come more than once.
    file: Option<(PathBuf, Reading)>,
    records: Records,
}

/// What is read one by one: messages, and what was to be one.
enum Records {
    Json(Values),
    Table(Box<Table>),
}

/// What came next in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// A message as JSON, perhaps; it starts on this line.
    Record { line: u64 },
    /// Something that is none.
    Refused(Refusal),
}

impl Found {
    fn refused(line: u64, reason: String) -> Found {
        Found::Refused(Refusal { line, field: "line", reason })
    }

    fn too_long(line: u64, bytes: usize) -> Found {
        Found::refused(line, format!("is {bytes} bytes long; the most is {MESSAGE_BYTES}"))
    }
}

/// How far a source was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Messages and what was refused, from the first; several may stand on one line.
    pub records: u64,
    /// The line on which the last of them starts.
    pub line: u64,
}

/// Consecutive messages of a source, refused lines beside them.
#[derive(Debug, Default)]
pub struct Batch {
    pub messages: Vec<Message>,
    /// The place of each message.
    pub places: Vec<Place>,
    pub refusals: Vec<Refusal>,
    /// The last record that is wholly dealt with.
    pub through: Place,
}

impl Source {
    /// A file.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if it cannot be read, or is not what it is said to be.
    pub fn open(path: &Path, reading: Reading) -> Result<Source> {
        let name = path.display().to_string();
        let unreadable = |error: io::Error| Error::settings(format!("{name} cannot be read")).because(error);
        let mut file = File::open(path).map_err(unreadable)?;
        let total_bytes = file.metadata().map_err(unreadable)?.len();
        let mut digest = Sha256::new();
        io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, &mut file), &mut Hashing(&mut digest))
            .map_err(unreadable)?;
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let table = if reading.map.is_some() { Format::Csv } else { Format::Json };
        let named = match Format::of(path) {
            Format::Json => table,
            named => named,
        };
        let reading = Reading { format: reading.format.or(Some(named)), ..reading };
        let file = File::open(path).map_err(unreadable)?;
        let mut source = Source::stream(&name, Box::new(file), reading.clone())?;
        source.digest = Some(digest);
        source.total_bytes = Some(total_bytes);
        source.file = Some((path.to_owned(), reading));
        Ok(source)
    }

    /// Any reader, compressed or not; a table when a map or a format says so. Without a digest it starts at its first line each time.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if it cannot be read, or is not what it is said to be.
    pub fn stream(name: &str, reader: Box<dyn Read + Send>, reading: Reading) -> Result<Source> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let records = Records::of(name, Counting { inner: reader, count: read_bytes.clone() }, reading)?;
        Ok(Source { name: name.to_owned(), digest: None, total_bytes: None, read_bytes, file: None, records })
    }

    /// Reads all messages after the first `after` records and hands them to `send` in batches of `most`, until it says false.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if it cannot be read to its end. What stood before has been handed out.
    pub fn read(
        mut self,
        after: u64,
        most: usize,
        defaults: &Defaults,
        mut send: impl FnMut(Batch) -> bool,
    ) -> Result<()> {
        let mut batch = Batch::default();
        let (mut bytes, mut place, mut text) = (0, Place::default(), Vec::new());
        let mut repeats = None;
        let end = loop {
            text.clear();
            let found = match self.records.next(&mut text) {
                Ok(Some(found)) => found,
                Ok(None) => break Ok(()),
                // What was read before the fault is imported; the same command goes on from there once it is mended.
                Err(error) => break Err(error),
            };
            place.records += 1;
            if place.records <= after {
                continue;
            }
            bytes += text.len();
            let read = match found {
                Found::Refused(refusal) => Err(refusal),
                Found::Record { line } => Message::parse(line, text.trim_ascii(), defaults),
            };
            place.line = read.as_ref().map_or_else(|refusal| refusal.line, |message| message.line);
            batch.through = place;
            match read {
                Ok(mut message) => {
                    if message.derived_id {
                        if repeats.is_none() {
                            repeats = Some(self.repeats(place.records - 1)?);
                        }
                        let nth = repeats.as_mut().map_or(0, |repeats| repeats.next(repeats::content(&text)));
                        message.be_nth(nth);
                    }
                    batch.messages.push(message);
                    batch.places.push(place);
                }
                Err(refusal) => batch.refusals.push(refusal),
            }
            if batch.messages.len() + batch.refusals.len() >= most || bytes >= BATCH_BYTES {
                bytes = 0;
                if !send(std::mem::take(&mut batch)) {
                    return Ok(());
                }
            }
        };
        if batch.through.records > 0 {
            send(batch);
        }
        end.map_err(|error| {
            Error::settings(format!("{} cannot be read beyond line {}", self.name, place.line))
                .help("What stood before is imported. Mend the file and import it again: no message counts twice.")
                .because(error)
        })
    }

    /// Which contents come more than once in the file, counted in its first records. A stream is counted as it comes.
    fn repeats(&self, counted: u64) -> Result<Repeats> {
        let Some((path, reading)) = &self.file else { return Ok(Repeats::default()) };
        let bytes = self.total_bytes.unwrap_or_default().saturating_mul(COMPRESSION);
        let mut finder = Finder::new(bytes / SMALLEST_MESSAGE_BYTES);
        self.contents(path, reading, u64::MAX, |content| finder.see(content))?;
        let mut repeats = finder.found();
        self.contents(path, reading, counted, |content| _ = repeats.next(content))?;
        Ok(repeats)
    }

    /// The hash of the content of each of the first `most` records of the file.
    fn contents(&self, path: &Path, reading: &Reading, most: u64, mut each: impl FnMut(u64)) -> Result<()> {
        let unreadable = |error: io::Error| Error::settings(format!("{} cannot be read", self.name)).because(error);
        let mut records = Records::of(&self.name, File::open(path).map_err(unreadable)?, reading.clone())?;
        let mut text = Vec::new();
        for _ in 0..most {
            text.clear();
            match records.next(&mut text) {
                Ok(Some(Found::Record { .. })) => each(repeats::content(&text)),
                Ok(Some(Found::Refused(_))) => {}
                // A fault beyond is told when it is reached.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }
}

impl Records {
    fn of(name: &str, reader: impl Read + Send + 'static, reading: Reading) -> Result<Records> {
        let unreadable = |error: io::Error| Error::settings(format!("{name} cannot be read")).because(error);
        let mut reader = decompress(reader).map_err(unreadable)?;
        let mut head = Vec::new();
        (&mut reader).take(encoding::HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
        encoding::check(&head, name)?;
        // More than one where a file with a mark was saved with one again.
        while head.starts_with("\u{feff}".as_bytes()) {
            head.drain(..3);
        }
        let reader = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(reader));
        let window = Window::new(Box::new(reader));
        let format = reading.format.unwrap_or(if reading.map.is_some() { Format::Csv } else { Format::Json });
        if format == Format::Json && reading.map.is_none() {
            return Ok(Records::Json(Values::new(window)));
        }
        let delimiter = reading.delimiter.or((format == Format::Tsv).then_some(b'\t'));
        let map = reading.map.unwrap_or_else(ColumnMap::from_header);
        Ok(Records::Table(Box::new(Table::new(window, &map, delimiter, reading.short_rows, name)?)))
    }

    fn next(&mut self, out: &mut Vec<u8>) -> io::Result<Option<Found>> {
        match self {
            Records::Json(values) => values.next(out),
            Records::Table(table) => table.next(out),
        }
    }
}

/// By its first bytes, not by its name: standard input has none.
pub fn decompress(mut reader: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let kind: [u8; 4] = std::array::from_fn(|n| head.get(n).copied().unwrap_or_default());
    let whole = Cursor::new(head).chain(reader);
    Ok(match kind {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
