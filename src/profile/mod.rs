//! What do we know? People, their identifiers, traits and events, kept in Postgres.
//!
//! ```text
//!  file ──► source ──► message ──► identity ──► store ──► profiles, identifiers, events, …
//!           (lines)    (pure)      (pure)       (one transaction a batch, rows by COPY)
//! ```
//!
//! Messages come in here and nowhere else. It never asks who is in an audience.

pub(crate) mod brackets;
pub mod lookup;
pub(crate) mod copy;
pub mod csv;
mod external_ids;
pub mod forget;
mod identity;
pub mod import;
pub(crate) mod json;
pub mod leaving;
pub mod live;
mod merge;
pub mod merges;
mod message;
mod number;
mod partition;
mod people;
pub mod promote;
pub mod prune;
pub mod pulled;
pub mod refused;
pub mod room;
pub mod rules;
pub mod source;
mod store;
pub mod streamed;
mod suppression;
mod time;
mod traits;
pub mod view;

pub use message::{Body, Defaults, Message, Refusal, digest};
pub use time::read_time;
