//! Who is in, and what changed? Conditions become bitmaps, bitmaps a membership, its difference a sealed run.

pub mod compile;
mod copy;
mod tally;
pub mod diff;
