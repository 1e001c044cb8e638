//! Is this the history that was told? A hash over the sealed runs of a destination. Pure.

use std::ops::Range;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{Position, RunId};

/// A hash over all sealed runs of a destination up to some run: equal chains mean equal histories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain(pub Vec<u8>);

impl Chain {
    /// The chain after one more run.
    ///
    /// `nonce` must be random. Numbers do not tell two histories apart: a database that was restored from a backup gives the
    /// same ids again, to other runs and other people.
    pub fn link(&self, run: RunId, range: &Range<Position>, entered: &[u8], exited: &[u8], nonce: Uuid) -> Chain {
        let mut hash = Sha256::new();
        hash.update((self.0.len() as u64).to_be_bytes());
        hash.update(&self.0);
        for number in [run.0, range.start.0, range.end.0] {
            hash.update(number.to_be_bytes());
        }
        hash.update(Sha256::digest(entered));
        hash.update(Sha256::digest(exited));
        hash.update(nonce.as_bytes());
        Chain(hash.finalize().to_vec())
    }

    /// As it stands in a cursor record.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
