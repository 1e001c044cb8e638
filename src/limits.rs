//! How much is too much? Every bound on input and effort, in one place.

/// Identify events for one change of one profile, over all identifiers that ID Sync chooses.
pub const IDENTIFIES_PER_CHANGE: usize = 100;

/// Changes told in one Kafka transaction: many enough that its commit hardly counts, few enough to be quick to repeat.
pub const PAGE_CHANGES: usize = 5_000;

/// Bytes of records in one transaction, and of what is read of profiles for it: big traits make pages shorter.
pub const PAGE_BYTES: usize = 16 << 20;

/// Records of one run that may be quarantined, or one in a hundred of its changes if that is more: beyond it the
/// mapping or the topic is wrong, not a few profiles, and the destination halts.
pub const QUARANTINED_PER_RUN: i64 = 1_000;

/// Doubts in a row without anything told between them, before delivery gives up until it is next asked.
pub const DOUBTS_IN_A_ROW: u32 = 3;
