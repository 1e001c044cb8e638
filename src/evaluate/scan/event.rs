//! What does a scan hand out of an event?

use crate::evaluate::tally::Amount;

/// One event of the scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'r> {
    pub id: u32,
    /// Microseconds since 2000.
    pub at: i64,
    pub message: &'r [u8],
    /// Its number, where Postgres reads it.
    pub amount: Option<&'r Amount>,
    /// What it holds at the part of the path that Postgres walks.
    pub json: Option<&'r [u8]>,
}
