//! Is this the history that was told? A hash over the sealed runs of a destination. Pure.

use std::ops::Range;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{BackfillId, Position, RunId};

/// A hash over all sealed runs of a destination up to some run: equal chains mean equal histories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain(pub Vec<u8>);

/// A run's part of a log, with all that stands there and decides what is told.
#[derive(Debug, Clone)]
pub struct Link<'a> {
    pub run: RunId,
    pub range: Range<Position>,
    /// As stored: equal bitmaps have equal bytes.
    pub entered: &'a [u8],
    pub exited: &'a [u8],
    /// A digest of the values that it tells, where it is a trait's.
    pub values: Option<&'a [u8]>,
    /// Not to be told before the other lane is told so far.
    pub after: Position,
    pub backfill: Option<BackfillId>,
    pub identified_since: Option<&'a str>,
    /// Must be random. Numbers do not tell two histories apart: a database that was restored from a backup gives the same ids again,
    /// to other runs and other people.
    pub nonce: Uuid,
}

impl<'a> Link<'a> {
    /// A change of a run that waits for nothing, told to all.
    pub fn of(run: RunId, range: Range<Position>, entered: &'a [u8], exited: &'a [u8], nonce: Uuid) -> Link<'a> {
        let (values, after, backfill, identified_since) = (None, Position(0), None, None);
        Link { run, range, entered, exited, values, after, backfill, identified_since, nonce }
    }
}

impl Chain {
    /// The chain after one more run.
    pub fn link(&self, link: &Link<'_>) -> Chain {
        let mut hash = Sha256::new();
        hash.update((self.0.len() as u64).to_be_bytes());
        hash.update(&self.0);
        let backfill = link.backfill.map_or(0, |backfill| backfill.0);
        for number in [link.run.0, link.range.start.0, link.range.end.0, link.after.0, backfill] {
            hash.update(number.to_be_bytes());
        }
        hash.update(Sha256::digest(link.entered));
        hash.update(Sha256::digest(link.exited));
        hash.update(Sha256::digest(link.values.unwrap_or_default()));
        hash.update(link.nonce.as_bytes());
        hash.update(link.identified_since.unwrap_or_default());
        Chain(hash.finalize().to_vec())
    }

    /// As it stands in a cursor record.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
