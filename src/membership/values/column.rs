//! How are values kept? Those of 65,536 consecutive profile ids as one compressed column. Pure.
//!
//! Ids stand as distances, values as JSON text, each kind of thing in one stretch: neighbours resemble each other, which
//! is what a compressor needs. A counter of somebody takes one or two bytes.

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
        debug_assert!(self.ids.last().is_none_or(|last| *last < id), "ids ascend");
        self.ids.push(id);
        self.text.push_str(value);
        self.ends.push(self.text.len() as u32);
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

    fn at(&self, at: usize) -> &str {
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
        let mut raw = Vec::with_capacity(self.ids.len() * 3 + self.text.len() + 5);
        varint(&mut raw, self.ids.len() as u32);
        let mut expected = 0;
        for id in &self.ids {
            varint(&mut raw, u32::from(*id) - expected);
            expected = u32::from(*id) + 1;
        }
        let mut start = 0;
        for end in &self.ends {
            varint(&mut raw, end - start);
            start = *end;
        }
        raw.extend_from_slice(self.text.as_bytes());
        zstd::bulk::compress(&raw, level).expect("compressing in memory cannot fail")
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
            && column.ends.iter().all(|end| column.text.is_char_boundary(*end as usize));
        if fits { Ok(column) } else { Err(damaged()) }
    }
}

/// Beyond it a chunk gets a tenth smaller for twice the time.
const LEVEL: i32 = 3;
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

fn read_varint(at: &mut &[u8]) -> Option<u32> {
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
