//! Rollcall keeps Kafka told who is in which audience.
//!
//! ```text
//!  messages ──► profile ──► condition sets ──► membership ──► delta ──► Identify ──► record ──► Kafka
//!  (import,     (Postgres)  (one bitmap per    (bitmap        (sealed   (pure)      (Send       (one transaction
//!   HTTP,                    condition)         algebra)       log)                  mapping)    with its cursor)
//!   Kafka)
//! ```
//!
//! The modules stand in the order of that flow; each uses only what stands above it, and the shelf.

// The shelf.
pub mod clock;
pub mod config;
pub mod database;
pub mod embedded;
pub mod error;
pub mod fault;
pub mod ids;
pub mod js;
pub mod kafka;
pub mod lease;
pub mod ksuid;
pub mod limits;
pub mod schedule;
pub mod telemetry;

// The flow.
pub mod profile;
pub mod pull;
pub mod stream;
pub mod audience;
pub mod registry;
pub mod membership;
pub mod values;
pub mod evaluate;
pub mod delta;
pub mod runs;
pub mod identify;
pub mod mapping;
pub mod deliver;
pub mod retention;
pub mod sync;
pub mod plan;
pub mod freshness;
pub mod forget;
pub mod http;
pub mod serve;
pub mod cli;

pub use error::{Error, Kind, Result};
