//! What do we know? People, their identifiers, traits and events, kept in Postgres.
//!
//! Messages come in here and nowhere else. It never asks who is in an audience.

mod migrate;

pub use migrate::migrate;
