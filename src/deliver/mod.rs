//! How does each sealed change reach Kafka exactly once? By the clients of [`crate::kafka`].
//!
//! ```text
//!  log ──► page ──► producer ──► Kafka          recover: new producer → fenced → cursor → decide → go on, or halt
//!          (people,   (one transaction,          tell:    begin → cursor → records → cursor → drain → commit
//!           records)   with its cursor)
//! ```
//!
//! All of it holds for each of a destination's two lanes by itself; what holds between them is in [`crate::delta::lane`].
//!
//! **The argument.** The cursor is a record in the same transaction as what it speaks of, so for a consumer of committed
//! records the two are one fact. A producer that has fenced all others reads that fact, and nobody can change it any
//! more but itself. It goes on from there, and each transaction moves the cursor from where it stood to where its records end.
//! Whatever is in doubt (an error, a late answer) ends the producer; the next one reads the fact again. Postgres never moves the
//! position: what it knows can only make a delivery halt. See docs/guarantees.md.

mod bulk;
pub mod check;
pub mod claim;
mod crc;
pub mod cursor;
pub mod outside;
mod isolate;
pub mod pace;
mod page;
mod people;
mod producer;
pub mod put_aside;
pub mod quarantine;
pub mod readback;
pub mod recover;
mod resume;
mod session;
pub mod state;
mod target;
mod thread;
pub mod topics;
mod topic_ids;
pub mod unhalt;
pub mod verify;
mod watch;
pub mod yardstick;

pub use bulk::Bulk;
pub use session::{Delivered, Session};
pub use target::Target;
