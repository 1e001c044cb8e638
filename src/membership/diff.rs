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

/// The portable roaring format, run-length encoded where that is shorter. Equal bitmaps give equal bytes: the log's chain is a hash
/// of them.
pub fn encode(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut compact = bitmap.clone();
    // Where both forms are as long, `optimize` leaves what is there.
    compact.remove_run_compression();
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

/// Leaves those of `kept` in `members` as they were `before`.
pub fn keep(members: &mut RoaringBitmap, kept: &RoaringBitmap, before: &RoaringBitmap) {
    if !kept.is_empty() {
        *members = (&*members - kept) | (before & kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bitmaps_have_equal_bytes_however_they_came_about() {
        for ids in [
            vec![1],
            vec![1, 2],
            vec![1, 2, 3],
            vec![1, 2, 9, 10],
            (0..5_000).collect(),
            (0..70_000).step_by(3).collect(),
        ] {
            let plain: RoaringBitmap = ids.iter().copied().collect();
            let mut runs = plain.clone();
            runs.optimize();
            let mut grown = RoaringBitmap::new();
            for id in &ids {
                grown.insert_range(*id..=*id + 1);
            }
            grown &= &plain;
            assert_eq!(encode(&runs), encode(&plain));
            assert_eq!(encode(&grown), encode(&plain));
            assert_eq!(encode(&decode(&encode(&plain)).expect("a bitmap")), encode(&plain));
        }
    }
}
