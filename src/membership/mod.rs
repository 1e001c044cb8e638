//! Who is in, and what changed?
//!
//! ```text
//!  Formula ──evaluate──► one bitmap per condition ──algebra──► members
//! ```

mod bar;
pub mod compile;
mod copy;
mod evaluate;
mod members;
mod query;
mod scan;
mod tally;
mod universe;

pub use evaluate::{Due, Evaluation, Settings, Statistics, evaluate};
pub use universe::Universe;
