//! Who is in, and what changed? Conditions become bitmaps, bitmaps a membership, its difference a sealed run.
//!
//! ```text
//!  Formula ──evaluate──► one bitmap per condition ──algebra──► members ──diff──► entered, exited ──seal──► run, log
//! ```

mod threshold;
mod compare;
mod compile;
mod copy;
mod elsewhere;
mod evaluate;
mod log;
mod members;
mod query;
mod renamed;
mod scan;
mod statement;
mod tally;
mod universe;
pub mod backfill;
pub mod values;
pub mod chain;
pub mod configured;
pub mod diff;
pub mod failed;
pub mod fire;
pub mod forecast;
pub mod guard;
pub mod held;
pub mod history;
pub mod lane;
pub mod leave;
pub mod merges;
pub mod person;
pub mod preview;
pub mod prune;
pub mod register;
pub mod removal;
pub mod seal;
pub mod seen;
pub mod turn;
pub mod standing;
pub mod yields;

pub use compile::{Names, Query};
pub use evaluate::{Due, DueValue, Evaluation, Settings, Statistics, evaluate, evaluate_all, statements};
pub use universe::Universe;
