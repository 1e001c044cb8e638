//! What becomes of an evaluation? A run: sealed with its difference and the logs of its destinations, or held for a person.
//!
//! ```text
//!  fire ──► evaluate ──► guard ─┬─► seal: membership, told, log
//!                               └─► held ─► released, discarded or superseded
//! ```
//!
//! Must never send anything.

pub mod failed;
pub mod fire;
pub mod forecast;
pub mod held;
pub mod history;
pub mod leave;
pub mod prune;
pub mod removal;
pub mod seal;
