//! Who is in, and what changed?
//!
//! ```text
//!  Formula ──evaluate──► one bitmap per condition ──algebra──► members
//! ```

mod bar;
mod compile;
mod copy;
mod evaluate;
mod members;
mod query;
mod scan;
mod tally;
mod universe;

pub use compile::{Names, Query};
pub use evaluate::{Due, Evaluation, Settings, Statistics, evaluate, statements};
pub use universe::Universe;
