//! All integration tests, as one binary: it links once and shares one Postgres and one Apache Kafka.

// A test that meets what it did not expect has failed, wherever it stands.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

mod audience;
mod cli;
mod config;
mod deliver;
mod fuzz;
mod guard;
mod http;
mod in_doubt;
mod lanes;
mod lease;
mod mapping;
mod membership;
mod plan;
mod profile;
mod protocol;
mod pull;
mod quarantine;
mod retention;
mod safeguards;
mod secure;
mod serve;
mod servers;
mod sessions;
mod soak;
mod streams;
mod sync;
mod schedule;
mod tidy;
mod topics;
mod tracking;
mod tutorial;
