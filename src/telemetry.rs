//! What does the program say about its work? Log lines on standard error, as text or JSON; numbers, by `metrics`;
//! spans, by `traces`.
//!
//! Log lines name audiences, destinations, runs, counts and durations. They never hold an identifier, a trait, an
//! event or a setting's value: see "Logging" in `docs/operations.md`.

mod heartbeat;
mod json;
pub mod line;
pub mod metrics;
pub mod process;
mod traces;

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{Directive, LevelFilter},
    fmt::{self, format::JsonFields},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{Error, Result, error::Cause};
pub use heartbeat::Heartbeat;
pub use traces::CONTEXT;

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
                .because(Cause::shown(error))
        })?,
        _ => {
            let (own, others) = levels(usual + verbosity);
            EnvFilter::new(format!("{others},rollcall={own}"))
        }
    };
    let registry = tracing_subscriber::registry().with(traces::layer()?);
    // What a statement raises as a notice may hold anybody's values.
    let silent = "sqlx::postgres::notice=off".parse::<Directive>();
    let silent = silent.map_err(|error| Error::internal("a log directive is wrong").because(Cause::shown(error)))?;
    let filter = filter.add_directive(silent);
    let colors = color && format == LogFormat::Text;
    let lines = fmt::layer().with_writer(line::Lines { colors });
    let started = match format {
        LogFormat::Text => registry.with(lines.with_ansi(color).with_target(false).with_filter(filter)).try_init(),
        LogFormat::Json => {
            let lines = lines.with_ansi(false).fmt_fields(JsonFields::new()).event_format(json::Json);
            registry.with(lines.with_filter(filter)).try_init()
        }
    };
    started.map_err(|error| Error::internal("logging was started twice").because(Cause::shown(error)))
}

/// Sends on what is left of the spans; called once, at the end.
pub fn end() {
    traces::end();
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
