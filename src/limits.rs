//! How much is too much? Every bound on input and effort, in one place.

/// Identify events for one change of one profile, over all identifiers that ID Sync chooses.
pub const IDENTIFIES_PER_CHANGE: usize = 100;
