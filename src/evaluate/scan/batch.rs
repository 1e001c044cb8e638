//! Some rows of a scan, read and set aside: what each holds, column by column.

use crate::{
    Result,
    evaluate::{copy, tally::Amount},
};

/// What the scan's rows hold beside the profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub instants: bool,
    pub messages: bool,
    pub numbers: usize,
    pub jsons: usize,
    pub selections: usize,
}

/// Rows before they are added up, and bytes of their texts: few enough that Postgres can go on meanwhile, without waiting for
/// somebody to take what it has sent.
const ROWS: usize = 2_048;
const BYTES: usize = 4 << 20;

/// Rows of a block: about twice as many places as a processor fetches at the same time.
const BLOCK: usize = 32;

pub(super) struct Batch {
    shape: Shape,
    ids: Vec<u32>,
    instants: Vec<i64>,
    numbers: Vec<Option<Amount>>,
    selected: Vec<bool>,
    /// Where each text ends in `bytes`, and whether it is one at all: of each row its message, then its JSON.
    ends: Vec<(u32, bool)>,
    bytes: Vec<u8>,
}

/// One of the rows.
#[derive(Clone, Copy)]
pub(super) struct Read<'b> {
    batch: &'b Batch,
    at: usize,
}

impl Batch {
    pub(super) fn new(shape: Shape) -> Batch {
        let (numbers, selected) = (Vec::new(), Vec::new());
        Batch { shape, ids: Vec::new(), instants: Vec::new(), numbers, selected, ends: Vec::new(), bytes: Vec::new() }
    }

    /// Sets a row aside, whose profile is read already.
    #[inline]
    pub(super) fn push(&mut self, id: u32, mut row: copy::Row<'_>) -> Result<()> {
        self.ids.push(id);
        if self.shape.instants {
            self.instants.push(row.int8()?.unwrap_or(i64::MIN));
        }
        if self.shape.messages {
            self.text(row.column()?);
        }
        for _ in 0..self.shape.numbers {
            self.numbers.push(row.column()?.and_then(Amount::read));
        }
        for _ in 0..self.shape.jsons {
            self.text(row.column()?);
        }
        for _ in 0..self.shape.selections {
            self.selected.push(row.boolean()?);
        }
        Ok(())
    }

    fn text(&mut self, text: Option<&[u8]>) {
        self.bytes.extend_from_slice(text.unwrap_or_default());
        self.ends.push((self.bytes.len() as u32, text.is_some()));
    }

    pub(super) fn is_full(&self) -> bool {
        self.ids.len() >= ROWS || self.bytes.len() >= BYTES
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn clear(&mut self) {
        let Batch { ids, instants, numbers, selected, ends, bytes, .. } = self;
        ids.clear();
        instants.clear();
        numbers.clear();
        selected.clear();
        ends.clear();
        bytes.clear();
    }

    /// The rows, a few at a time.
    pub(super) fn blocks(&self) -> impl Iterator<Item = impl Iterator<Item = Read<'_>> + Clone> {
        let row = |at| Read { batch: self, at };
        (0..self.ids.len()).step_by(BLOCK).map(move |from| (from..self.ids.len().min(from + BLOCK)).map(row))
    }

    fn texts(&self) -> usize {
        self.shape.jsons + usize::from(self.shape.messages)
    }
}

impl<'b> Read<'b> {
    pub(super) fn id(self) -> u32 {
        self.batch.ids[self.at]
    }

    /// Microseconds since 2000, where the scan reads instants.
    pub(super) fn instant(self) -> i64 {
        self.batch.instants.get(self.at).copied().unwrap_or(0)
    }

    pub(super) fn message(self) -> &'b [u8] {
        if self.batch.shape.messages { self.text(0).unwrap_or_default() } else { &[] }
    }

    pub(super) fn number(self, place: usize) -> Option<&'b Amount> {
        self.batch.numbers[self.at * self.batch.shape.numbers + place].as_ref()
    }

    pub(super) fn json(self, place: usize) -> Option<&'b [u8]> {
        self.text(usize::from(self.batch.shape.messages) + place)
    }

    pub(super) fn is_selected(self, place: usize) -> bool {
        self.batch.selected[self.at * self.batch.shape.selections + place]
    }

    fn text(self, place: usize) -> Option<&'b [u8]> {
        let at = self.at * self.batch.texts() + place;
        let start = if at == 0 { 0 } else { self.batch.ends[at - 1].0 };
        let (end, there) = self.batch.ends[at];
        there.then(|| &self.batch.bytes[start as usize..end as usize])
    }
}
