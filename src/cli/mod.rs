//! What does the person at the command line want? One file a verb; this one reads the line and calls the verb.
//!
//! A verb is an `Args` and `async fn run(args, &Context) -> Result<()>`. It prints through [`Output`] alone, so that
//! `--json` works everywhere and a closed pipe ends the program quietly.

mod apply;
mod audiences;
mod backfills;
mod bench;
mod check;
mod completions;
mod context;
mod demo;
mod diff;
mod discard;
mod explain;
mod health;
mod forget;
mod import;
pub mod map;
mod members;
mod output;
mod plan;
mod preview;
mod prune;
mod profile;
mod pull;
mod quarantine;
mod refused;
mod release;
mod report;
mod resync;
mod runs;
mod schedule;
mod schema;
mod serve;
mod sources;
mod status;
mod streams;
mod sync;
mod topics;
mod unhalt;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgAction, ColorChoice, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Error, Result,
    telemetry::{self, LogFormat},
};
pub use context::Context;
pub use output::{Output, Progress, table};

/// Keeps Kafka told who is in which audience, exactly once.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, about, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

const FIRST_STEPS: &str = "\
First steps:
  rollcall demo              real orders, eight audiences, a Kafka topic: nothing to prepare
  rollcall check             is everything that rollcall.yaml names within reach?
  rollcall help <COMMAND>    the options of one command, with examples";

/// The options of every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file.
    #[arg(long, short, global = true, env = "ROLLCALL_CONFIG", default_value = "rollcall.yaml", value_name = "FILE")]
    pub config: PathBuf,
    /// Postgres to use instead of the configured one.
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
    /// Where the embedded Postgres and reports are kept.
    #[arg(long, global = true, env = "ROLLCALL_STATE_DIR", default_value = ".rollcall", value_name = "FOLDER")]
    pub state_dir: PathBuf,
    /// Print results as JSON on standard output, and an error as one JSON line on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines look; they go to standard error.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log more: once for the steps, twice for details. RUST_LOG has the last word.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less: once for errors alone, twice for nothing.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// Whether to use colour.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// The verbs, in the order in which a person meets them.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Demo(demo::Args),
    Import(import::Args),
    Pull(pull::Args),
    Sync(sync::Args),
    Plan(plan::Args),
    Apply(apply::Args),
    Serve(serve::Args),
    Sources(sources::Args),
    Streams(streams::Args),
    Refused(refused::Args),
    Preview(preview::Args),
    Explain(explain::Args),
    Members(members::Args),
    Profile(profile::Args),
    Forget(forget::Args),
    Suppress(forget::SuppressArgs),
    Unsuppress(forget::UnsuppressArgs),
    Audiences(audiences::Args),
    Runs(runs::Args),
    Diff(diff::Args),
    Schedule(schedule::Args),
    Status(status::Args),
    Verify(verify::Args),
    Prune(prune::Args),
    Health(health::Args),
    Resync(resync::Args),
    Backfills(backfills::Args),
    Quarantine(quarantine::Args),
    Release(release::Args),
    Discard(discard::Args),
    Unhalt(unhalt::Args),
    Check(check::Args),
    Topics(topics::Args),
    Schema(schema::Args),
    Map(map::MapArgs),
    Completions(completions::Args),
    Bench(bench::Args),
}

impl Verb {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        let done = match self {
            Verb::Demo(args) => demo::run(args, context).await,
            Verb::Import(args) => import::run(args, context).await,
            Verb::Pull(args) => pull::run(args, context).await,
            Verb::Plan(args) => return plan::run(args, context).await,
            Verb::Apply(args) => apply::run(args, context).await,
            Verb::Sync(args) => sync::run(args, context).await,
            Verb::Serve(args) => serve::run(args, context).await,
            Verb::Sources(args) => sources::run(args, context).await,
            Verb::Streams(args) => streams::run(args, context).await,
            Verb::Refused(args) => refused::run(args, context).await,
            Verb::Preview(args) => preview::run(args, context).await,
            Verb::Explain(args) => explain::run(args, context).await,
            Verb::Members(args) => members::run(args, context).await,
            Verb::Profile(args) => profile::run(args, context).await,
            Verb::Forget(args) => forget::run(args, context).await,
            Verb::Suppress(args) => forget::suppress(args, context).await,
            Verb::Unsuppress(args) => forget::unsuppress(args, context).await,
            Verb::Audiences(args) => audiences::run(args, context).await,
            Verb::Runs(args) => runs::run(args, context).await,
            Verb::Diff(args) => diff::run(args, context).await,
            Verb::Schedule(args) => schedule::run(args, context).await,
            Verb::Status(args) => status::run(args, context).await,
            Verb::Verify(args) => return verify::run(args, context).await,
            Verb::Prune(args) => prune::run(args, context).await,
            Verb::Health(args) => health::run(args, context).await,
            Verb::Resync(args) => resync::run(args, context).await,
            Verb::Backfills(args) => backfills::run(args, context).await,
            Verb::Quarantine(args) => quarantine::run(args, context).await,
            Verb::Release(args) => release::run(args, context).await,
            Verb::Discard(args) => discard::run(args, context).await,
            Verb::Unhalt(args) => unhalt::run(args, context).await,
            Verb::Check(args) => check::run(args, context).await,
            Verb::Topics(args) => topics::run(args, context).await,
            Verb::Schema(args) => schema::run(args, context).await,
            Verb::Map(args) => {
                map::run(args, context.output().is_json(), || context.config(), &mut std::io::stdout().lock())
            }
            Verb::Completions(args) => completions::run(args, context).await,
            Verb::Bench(args) => bench::run(args, context).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// The whole program. A wrong command line exits with 2, as clap does; other codes are those of [`crate::Kind`].
pub fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let context = Context::new(global);
    match run(verb, &context) {
        Ok(code) => code,
        // Whoever read our output has had enough of it: that is no failure.
        Err(error) if report::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report::tell(&error, context.output());
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn run(verb: Verb, context: &Context) -> Result<ExitCode> {
    let global = context.global();
    let verbosity = i8::try_from(global.verbose).unwrap_or(i8::MAX) - i8::try_from(global.quiet).unwrap_or(i8::MAX);
    telemetry::start(global.log_format, verbosity, context.output().colors_errors())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::wait("the system gave no threads to work with").because(error))?;
    let stops_by_itself = matches!(verb, Verb::Serve(_));
    let result = runtime.block_on(async {
        let result = tokio::select! {
            result = verb.run(context) => result,
            code = told_to_stop(), if !stops_by_itself => Ok(code),
        };
        // Also after an error, Ctrl-C or SIGTERM: the embedded Postgres ends with the program.
        context.close().await.and(result)
    });
    // Delivery runs on plain threads. They need no farewell: what was not committed is told again by the next run.
    runtime.shutdown_background();
    telemetry::end();
    result
}

/// Waits for Ctrl-C or SIGTERM; the shell's usual codes, 128 and the signal's number.
async fn told_to_stop() -> ExitCode {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => ExitCode::from(130),
        _ = terminate.recv() => ExitCode::from(143),
    }
}

/// Reads `--at`: RFC 3339, or a date, which is its midnight in UTC.
pub(crate) fn instant(text: &str) -> Result<chrono::DateTime<chrono::Utc>, String> {
    let midnight = || {
        let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(date.and_time(chrono::NaiveTime::MIN).and_utc())
    };
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.to_utc())
        .ok()
        .or_else(midnight)
        .ok_or_else(|| "expected a date (1997-06-01) or an instant with its zone (1997-06-01T12:00:00Z)".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_date_is_its_midnight_in_utc() {
        assert_eq!(instant("1997-06-01").unwrap().to_rfc3339(), "1997-06-01T00:00:00+00:00");
        assert_eq!(instant("1997-06-01T02:00:00+02:00").unwrap().to_rfc3339(), "1997-06-01T00:00:00+00:00");
        assert!(instant("1997-06-01T02:00:00").is_err(), "an instant without a zone could mean anything");
        assert!(instant("yesterday").is_err());
    }
}
