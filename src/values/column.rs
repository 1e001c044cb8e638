//! How are values kept? Those of 65,536 consecutive profile ids as one compressed column. Pure.
//!
//! Ids stand as distances, values as JSON text, each kind of thing in one stretch: neighbours resemble each other, which
//! is what a compressor needs. A counter of somebody takes one or two bytes.

use std::cell::RefCell;

use crate::{Error, Result};

/// Values by profile id, for the ids that share their upper 16 bits. Equal values are equal texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Lower halves of the ids, ascending.
    ids: Vec<u16>,
    /// Where each value ends in `text`.
    ends: Vec<u32>,
    text: String,
}

impl Column {
    /// Adds the value of an id beyond all those before.
    pub fn push(&mut self, id: u16, value: &str) {
        self.write(id, |text| text.push_str(value));
    }

    /// The same, where `value` only adds to the text that it is given.
    #[inline]
    pub(super) fn write(&mut self, id: u16, value: impl FnOnce(&mut String)) {
        debug_assert!(self.ids.last().is_none_or(|last| *last < id), "ids ascend");
        self.ids.push(id);
        value(&mut self.text);
        self.ends.push(self.text.len() as u32);
    }

    /// None yet, in memory for as many values as another has, and some more.
    pub(super) fn like(other: &Column) -> Column {
        let room = |length: usize| length + length / 8;
        Column {
            ids: Vec::with_capacity(room(other.ids.len())),
            ends: Vec::with_capacity(room(other.ends.len())),
            text: String::with_capacity(room(other.text.len())),
        }
    }

    /// Those of the ids before one.
    pub(super) fn before(&self, id: u16) -> Column {
        let mut column = Column::like(self);
        let count = self.ids.partition_point(|known| *known < id);
        column.ids.extend_from_slice(&self.ids[..count]);
        column.ends.extend_from_slice(&self.ends[..count]);
        column.text.push_str(&self.text[..self.ends[..count].last().map_or(0, |end| *end as usize)]);
        column
    }

    /// The ids, ascending.
    pub(super) fn ids(&self) -> &[u16] {
        &self.ids
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.ids.len() * 6 + self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The value of an id, as JSON text.
    pub fn get(&self, id: u16) -> Option<&str> {
        self.ids.binary_search(&id).ok().map(|at| self.at(at))
    }

    /// Ids, ascending, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &str)> {
        self.ids.iter().enumerate().map(|(at, id)| (*id, self.at(at)))
    }

    /// The value of the id at a place among [`Self::ids`].
    #[inline]
    pub(super) fn at(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// The bytes to be stored.
    pub fn encode(&self) -> Vec<u8> {
        self.compressed(LEVEL)
    }

    /// Bytes to be kept in memory for a while: more of them, for a fraction of the time.
    pub(super) fn squeeze(&self) -> Vec<u8> {
        self.compressed(LIGHT)
    }

    fn compressed(&self, level: i32) -> Vec<u8> {
        let Column { ids, ends, text } = self;
        let compressed = SCRATCH.with_borrow_mut(|Scratch { raw, compressed, compressor }| {
            raw.clear();
            varint(raw, ids.len() as u32);
            let mut expected = 0;
            for id in ids {
                varint(raw, u32::from(*id) - expected);
                expected = u32::from(*id) + 1;
            }
            let mut start = 0;
            for end in ends {
                varint(raw, end - start);
                start = *end;
            }
            raw.extend_from_slice(text.as_bytes());
            compressed.clear();
            compressed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            compressor.set_compression_level(level)?;
            // A byte that changed where they are kept is noticed when they are read.
            compressor.include_checksum(true)?;
            compressor.compress_to_buffer(raw, compressed)?;
            Ok::<_, std::io::Error>(compressed.to_vec())
        });
        compressed.expect("compressing in memory cannot fail")
    }

    /// Reads what [`Self::encode`] or `squeeze` wrote.
    ///
    /// # Errors
    /// [`crate::Kind::Halted`] if the bytes are something else: the database was damaged or written by another program.
    pub fn decode(bytes: &[u8]) -> Result<Column> {
        let raw = inflated(bytes).map_err(|error| damaged().because(error))?;
        let mut at = &raw[..];
        let count = read_varint(&mut at).filter(|count| *count <= 65_536).ok_or_else(damaged)? as usize;
        let mut column =
            Column { ids: Vec::with_capacity(count), ends: Vec::with_capacity(count), text: String::new() };
        let mut expected = 0u32;
        for _ in 0..count {
            let id = read_varint(&mut at).and_then(|gap| expected.checked_add(gap)).ok_or_else(damaged)?;
            column.ids.push(u16::try_from(id).map_err(|_| damaged())?);
            expected = id + 1;
        }
        let mut end = 0u32;
        for _ in 0..count {
            end = read_varint(&mut at).and_then(|length| end.checked_add(length)).ok_or_else(damaged)?;
            column.ends.push(end);
        }
        column.text = std::str::from_utf8(at).map_err(|error| damaged().because(error))?.to_owned();
        let fits = column.text.len() == end as usize
            && (column.text.is_ascii() || column.ends.iter().all(|end| column.text.is_char_boundary(*end as usize)));
        if fits { Ok(column) } else { Err(damaged()) }
    }
}

/// What compressing needs: to get it anew each time takes as long as to compress a small chunk.
#[derive(Default)]
struct Scratch {
    raw: Vec<u8>,
    compressed: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Beyond it a chunk gets a fiftieth smaller, for nearly twice the time.
const LEVEL: i32 = 1;
/// Half as small as the former, in a quarter of the time.
const LIGHT: i32 = -3;

/// In one piece where the frame says how long it gets, as all do that are written here.
fn inflated(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    match zstd::zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(length)) if length <= LONGEST => zstd::bulk::decompress(bytes, length as usize),
        _ => zstd::decode_all(bytes),
    }
}

/// What a frame is believed: it may be damaged, and memory is asked for at once.
const LONGEST: u64 = 1 << 28;

fn varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[inline]
fn read_varint(at: &mut &[u8]) -> Option<u32> {
    // Nearly always.
    if let Some((byte, rest)) = at.split_first().filter(|(byte, _)| **byte < 0x80) {
        *at = rest;
        return Some(u32::from(*byte));
    }
    let mut number = 0u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        number |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn damaged() -> Error {
    Error::halted("stored values of a computed trait cannot be read")
        .help("The database was damaged or written by something else: restore it from a backup.")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_column_comes_back_as_it_was_stored(values in prop::collection::btree_map(any::<u16>(), ".{0,8}", 0..300)) {
            let mut column = Column::default();
            values.iter().for_each(|(id, value)| column.push(*id, value));
            let read = Column::decode(&column.encode()).unwrap();
            prop_assert_eq!(&read, &column);
            let listed: BTreeMap<_, _> = read.iter().map(|(id, value)| (id, value.to_owned())).collect();
            prop_assert_eq!(&listed, &values);
            for id in 0..=u16::MAX {
                prop_assert_eq!(read.get(id), values.get(&id).map(String::as_str));
            }
        }

        #[test]
        fn bytes_that_are_no_column_are_refused_and_nothing_worse(mut raw in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Column::decode(&raw);
            raw = zstd::encode_all(&raw[..], 1).unwrap();
            let _ = Column::decode(&raw);
        }
    }

    #[test]
    fn a_million_counters_take_about_two_bytes_each() {
        let mut column = Column::default();
        (0..=u16::MAX).for_each(|id| column.push(id, &(u32::from(id).wrapping_mul(2_654_435_761) % 40).to_string()));
        let bytes = column.encode().len();
        assert!(bytes < 2 * 65_536, "{bytes}");
    }
}
