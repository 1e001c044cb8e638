//! Which values did an evaluation find? In chunks, until they are held against those before.

use std::{borrow::Cow, collections::BTreeMap};

use super::{Column, split};
use crate::Result;

/// Values of a whole trait.
#[derive(Debug)]
pub struct Values {
    /// The keys under which the values are told, where each is an object of several.
    pub(crate) columns: Vec<String>,
    chunks: BTreeMap<u16, Chunk>,
    /// Bytes that may yet wait as they are.
    room: usize,
    open: Option<(u16, Column)>,
}

#[derive(Debug)]
enum Chunk {
    Plain(Column),
    Compressed(Vec<u8>),
}

/// None yet; what comes is compressed.
impl Default for Values {
    fn default() -> Values {
        Values::within(0)
    }
}

impl Values {
    /// None yet. Up to so many bytes of them wait as they are, what is more compressed: no trait can take all memory.
    pub(crate) fn within(bytes: usize) -> Values {
        Values { columns: Vec::new(), chunks: BTreeMap::new(), room: bytes, open: None }
    }

    /// Adds the value of an id beyond all those before.
    pub(crate) fn push(&mut self, id: u32, value: &str) {
        self.write(id, |text| text.push_str(value));
    }

    /// The same, where `value` only adds to the text that it is given.
    #[inline]
    pub(crate) fn write(&mut self, id: u32, value: impl FnOnce(&mut String)) {
        let (chunk, at) = split(id);
        let open = match &mut self.open {
            Some((open, column)) if *open == chunk => column,
            _ => self.begin(chunk),
        };
        open.write(at, value);
    }

    fn begin(&mut self, chunk: u16) -> &mut Column {
        // Chunks resemble each other.
        let next = self.open.as_ref().map_or_else(Column::default, |(_, column)| Column::like(column));
        self.close();
        &mut self.open.insert((chunk, next)).1
    }

    /// Ends the last chunk; nothing is added to it afterwards.
    pub(crate) fn close(&mut self) {
        if let Some((chunk, column)) = self.open.take() {
            self.keep(chunk, Chunk::Plain(column));
        }
    }

    /// Adds chunks beyond those before.
    pub(crate) fn append(&mut self, mut later: Values) {
        later.close();
        later.chunks.into_iter().for_each(|(chunk, values)| self.keep(chunk, values));
    }

    fn keep(&mut self, chunk: u16, mut values: Chunk) {
        if let Chunk::Plain(column) = &values {
            match self.room.checked_sub(column.bytes()) {
                Some(room) => self.room = room,
                None => values = Chunk::Compressed(column.squeeze()),
            }
        }
        self.chunks.insert(chunk, values);
    }

    /// The chunks that have values, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = u16> {
        self.chunks.keys().copied()
    }

    /// A chunk's values; empty where it has none.
    ///
    /// # Errors
    /// Never for what was pushed here.
    pub fn column(&self, chunk: u16) -> Result<Cow<'_, Column>> {
        match self.chunks.get(&chunk) {
            None => Ok(Cow::Owned(Column::default())),
            Some(Chunk::Plain(column)) => Ok(Cow::Borrowed(column)),
            Some(Chunk::Compressed(bytes)) => Ok(Cow::Owned(Column::decode(bytes)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_however_many_wait_as_they_are() {
        let pushed: Vec<(u32, String)> = (0..1_000).map(|n| (n * 1_000, n.to_string())).collect();
        for bytes in [0, 1_000, 5_000, usize::MAX] {
            let (mut values, mut later) = (Values::within(bytes), Values::within(bytes));
            pushed[..600].iter().for_each(|(id, value)| values.push(*id, value));
            values.close();
            pushed[600..]
                .iter()
                .filter(|(id, _)| split(*id).0 > split(599_000).0)
                .for_each(|(id, value)| later.push(*id, value));
            later.close();
            values.append(later);
            let compressed = values.chunks.values().filter(|chunk| matches!(chunk, Chunk::Compressed(_))).count();
            assert_eq!(compressed == values.chunks.len(), bytes == 0, "{bytes}");
            assert_eq!(compressed == 0, bytes == usize::MAX, "{bytes}");
            let read = values.chunks().flat_map(|chunk| {
                let column = values.column(chunk).unwrap().into_owned();
                column.iter().map(|(at, value)| (crate::values::join(chunk, at), value.to_owned())).collect::<Vec<_>>()
            });
            let expected = pushed.iter().filter(|(id, _)| *id <= 599_000 || split(*id).0 > split(599_000).0);
            assert_eq!(read.collect::<Vec<_>>(), expected.cloned().collect::<Vec<_>>());
        }
    }
}
