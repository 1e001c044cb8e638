//! What do we know? People, their identifiers, traits and events, kept in Postgres.
//!
//! ```text
//!  file ──► source ──► message ──► identity ──► store ──► profiles, identifiers, events, …
//!           (lines)    (pure)      (pure)       (one transaction a batch, rows by COPY)
//! ```
//!
//! Messages come in here and nowhere else. It never asks who is in an audience.

pub mod lookup;
mod copy;
pub mod csv;
mod identity;
pub mod import;
pub(crate) mod json;
pub mod live;
mod message;
mod migrate;
mod number;
mod partition;
pub mod promote;
pub mod refused;
pub mod source;
mod store;
mod time;

pub use message::{Body, Defaults, Message, Refusal};
pub use migrate::{migrate, newest_step};
pub use time::parse_timestamp;
