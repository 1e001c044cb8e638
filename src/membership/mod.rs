//! Who is in?
pub mod compile;
mod copy;
mod tally;
