//! Where do messages come from? A file or a stream, plain or compressed, JSON lines or CSV, read as batches of messages.
//!
//! One line at a time is in memory beside the batch, and of a line never more than a message may have.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest, Sha256};

use super::{
    csv::{ColumnMap, Records},
    message::{Defaults, Message, Refusal},
};
use crate::{
    Error, Result,
    limits::{BATCH_BYTES, MESSAGE_BYTES},
};

const BUFFER_BYTES: usize = 256 * 1024;

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
    input: Input,
}

enum Input {
    Lines(Box<dyn BufRead + Send>),
    Csv(Records),
}

/// Consecutive messages of a source, refused lines beside them.
#[derive(Debug, Default)]
pub struct Batch {
    pub messages: Vec<Message>,
    pub refusals: Vec<Refusal>,
    /// The last line that is wholly dealt with.
    pub through_line: u64,
}

impl Source {
    /// A file. What it is follows from its first bytes and its name: `.csv` and `.tsv`, else JSON lines.
    pub fn open(path: &Path, map: Option<ColumnMap>) -> Result<Source> {
        let name = path.display().to_string();
        let unreadable = |error: io::Error| Error::settings(format!("{name} cannot be read")).because(error);
        let mut file = File::open(path).map_err(unreadable)?;
        let total_bytes = file.metadata().map_err(unreadable)?.len();
        let mut digest = Sha256::new();
        io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, &mut file), &mut Hashing(&mut digest))
            .map_err(unreadable)?;
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let file = File::open(path).map_err(unreadable)?;
        let plain = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
        let map = map.or_else(|| (plain.ends_with(".csv") || plain.ends_with(".tsv")).then(ColumnMap::from_header));
        let mut source = Source::stream(&name, Box::new(file), map)?;
        source.digest = Some(digest);
        source.total_bytes = Some(total_bytes);
        Ok(source)
    }

    /// Any reader, compressed or not; CSV when a map is given. Without a digest it starts at its first line each time.
    pub fn stream(name: &str, reader: Box<dyn Read + Send>, map: Option<ColumnMap>) -> Result<Source> {
        let unreadable = |error: io::Error| Error::settings(format!("{name} cannot be read")).because(error);
        let read_bytes = Arc::new(AtomicU64::new(0));
        let reader = decompress(Counting { inner: reader, count: read_bytes.clone() }).map_err(unreadable)?;
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        if reader.fill_buf().map_err(unreadable)?.starts_with("\u{feff}".as_bytes()) {
            reader.consume(3);
        }
        let input = match map {
            Some(map) => Input::Csv(Records::new(reader, map, name)?),
            None => Input::Lines(Box::new(reader)),
        };
        Ok(Source { name: name.to_owned(), digest: None, total_bytes: None, read_bytes, input })
    }

    /// Reads all messages after line `after` and hands them to `send` in batches of `most`, until it says false.
    pub fn read(
        mut self,
        after: u64,
        most: usize,
        defaults: &Defaults,
        mut send: impl FnMut(Batch) -> bool,
    ) -> Result<()> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut line = 0;
        let mut text = Vec::new();
        loop {
            text.clear();
            let read = match &mut self.input {
                Input::Lines(reader) => next_line(reader, &mut text).inspect(|_| line += 1),
                Input::Csv(records) => records.next(&mut text).map(|found| {
                    found.map(|at| {
                        line = at;
                        text.len()
                    })
                }),
            };
            match read {
                Ok(Some(_)) if line <= after => continue,
                Ok(Some(length)) => {
                    bytes += text.len();
                    batch.through_line = line;
                    if length > MESSAGE_BYTES {
                        let reason = format!("is {length} bytes long; the most is {MESSAGE_BYTES}");
                        batch.refusals.push(Refusal { line, field: "line", reason });
                    } else if !text.trim_ascii().is_empty() {
                        match Message::parse(line, text.trim_ascii(), defaults) {
                            Ok(message) => batch.messages.push(message),
                            Err(refusal) => batch.refusals.push(refusal),
                        }
                    }
                    if batch.messages.len() + batch.refusals.len() >= most || bytes >= BATCH_BYTES {
                        bytes = 0;
                        if !send(std::mem::take(&mut batch)) {
                            return Ok(());
                        }
                    }
                }
                // What was read before the fault is imported; the same command goes on from there once it is mended.
                end => {
                    if batch.through_line > 0 {
                        send(batch);
                    }
                    return end.map(|_| ()).map_err(|error| {
                        Error::settings(format!("{} cannot be read beyond line {line}", self.name))
                            .help("What stood before is imported. Mend the file and import it again: a message with an id counts once.")
                            .because(error)
                    });
                }
            }
        }
    }
}

/// Reads a line into `text` without its end, as much of it as a message may have; returns its whole length.
fn next_line(reader: &mut dyn BufRead, text: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let most = MESSAGE_BYTES as u64 + 2;
    let mut length = reader.take(most).read_until(b'\n', text)?;
    if length == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
        length -= 1;
    } else if length as u64 == most {
        length += reader.skip_until(b'\n')?;
    }
    Ok(Some(length))
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
