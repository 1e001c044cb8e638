//! What does the program say about its work? Log lines on standard error, as text or JSON; numbers, by `metrics`.
//!
//! Log lines name audiences, destinations, runs, counts and durations. They never hold an identifier, a trait, an
//! event or a setting's value: see "Logging" in `docs/operations.md`.

mod heartbeat;
pub mod metrics;
pub mod process;

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

use crate::{Error, Result};
pub use heartbeat::Heartbeat;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to standard error from here on; called once, by `main`.
///
/// `RUST_LOG` wins over `verbosity`, which counts `-v` up and `-q` down from the usual level: warnings where a person
/// sits at a terminal, and the steps of the work as well where the lines go to a file or a log collector.
pub fn start(format: LogFormat, verbosity: i8, color: bool) -> Result<()> {
    let usual = if stderr().is_terminal() { 0 } else { 1 };
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives).map_err(|error| {
            Error::settings("RUST_LOG cannot be read")
                .help("Write it as RUST_LOG=rollcall=debug, or as a level alone: RUST_LOG=info.")
                .because(error)
        })?,
        _ => {
            let (own, others) = levels(usual + verbosity);
            EnvFilter::new(format!("{others},rollcall={own}"))
        }
    };
    let lines = fmt().with_env_filter(filter).with_writer(stderr).with_ansi(color);
    let started = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| Error::internal("logging was started twice").because(error))
}

/// The level of this program and of the libraries below it.
fn levels(verbosity: i8) -> (LevelFilter, LevelFilter) {
    match verbosity {
        ..=-2 => (LevelFilter::OFF, LevelFilter::OFF),
        -1 => (LevelFilter::ERROR, LevelFilter::ERROR),
        0 => (LevelFilter::WARN, LevelFilter::WARN),
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        2 => (LevelFilter::DEBUG, LevelFilter::INFO),
        3.. => (LevelFilter::TRACE, LevelFilter::DEBUG),
    }
}
