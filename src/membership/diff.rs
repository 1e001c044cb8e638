//! What changed? Bitmap differences and how bitmaps are kept. Pure.

use roaring::RoaringBitmap;

use crate::{Error, Result};

/// Who entered and who left since something was told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    pub entered: RoaringBitmap,
    pub exited: RoaringBitmap,
}

impl Change {
    /// `entered = members − told`, `exited = told − members`.
    pub fn between(told: &RoaringBitmap, members: &RoaringBitmap) -> Self {
        Change { entered: members - told, exited: told - members }
    }

    /// As [`Change::between`], but those of whom it is unsure what they were told are told in any case.
    pub fn between_unsure(told: &RoaringBitmap, unsure: &RoaringBitmap, members: &RoaringBitmap) -> Self {
        // As if each of them had been told the contrary.
        let told = (told - unsure) | (unsure - members);
        Change::between(&told, members)
    }

    /// How many profiles changed sides: the length of the change in a destination's log.
    pub fn len(&self) -> u64 {
        self.entered.len() + self.exited.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.exited.is_empty()
    }

    /// The members after this change, from those before it.
    pub fn apply(&self, members: &RoaringBitmap) -> RoaringBitmap {
        (members - &self.exited) | &self.entered
    }

    /// The members before this change, from those after it: how a membership of long ago is read back from the runs.
    pub fn undo(&self, members: &RoaringBitmap) -> RoaringBitmap {
        (members - &self.entered) | &self.exited
    }
}

/// The portable roaring format, run-length encoded where that is shorter.
pub fn encode(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut compact = bitmap.clone();
    compact.optimize();
    let mut bytes = Vec::with_capacity(compact.serialized_size());
    compact.serialize_into(&mut bytes).expect("writing to memory cannot fail");
    bytes
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`crate::Kind::Halted`] if the bytes are no bitmap: the database was damaged or written by something else.
pub fn decode(bytes: &[u8]) -> Result<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes).map_err(|error| {
        Error::halted("a stored membership cannot be read")
            .help("The database was damaged or written by something else: restore it from a backup.")
            .because(error)
    })
}
