//! `rollcall runs`: what did each run find, and why did it fail?

use super::{Context, output::minute, table};
use crate::{
    Result,
    membership::run::RunState,
    runs::history::{self, RunRow},
};

/// List runs: as of when, how many members, who entered and left, how long it took; of those that failed, why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall runs
  rollcall runs big_spenders --limit 60
  rollcall runs --held                      those that wait for `rollcall release` or `rollcall discard`
  rollcall runs --failed                    those that failed, at which try, and why")]
pub struct Args {
    /// Key of an audience; all of them if not given.
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
    /// How many to list at most, the latest first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u64,
    /// Only those that are held by the guard, and why.
    #[arg(long)]
    pub held: bool,
    /// Only those that failed, and why.
    #[arg(long, conflicts_with = "held")]
    pub failed: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let limit = u32::try_from(args.limit).unwrap_or(u32::MAX);
    let state = args.held.then_some(RunState::Held).or(args.failed.then_some(RunState::Failed));
    let rows = history::runs(&context.store().await?, args.key.as_deref(), state, limit).await?;
    context.output().show(&rows, |rows| match state {
        Some(RunState::Held) => held(rows),
        Some(_) => failed(rows),
        None => {
            let header = [
                "run", "audience", "version", "as of", "tick", "state", "members", "entered", "exited", "pending",
                "seconds", "why",
            ];
            table(header, rows.iter().map(cells))
        }
    })
}

fn held(rows: &[RunRow]) -> String {
    if rows.is_empty() {
        return "No run is held.".into();
    }
    let cells = |row: &RunRow| [number(row.run), row.key.clone(), minute(row.evaluated_at), why(row)];
    table(["run", "audience", "as of", "why it is held"], rows.iter().map(cells))
}

fn failed(rows: &[RunRow]) -> String {
    if rows.is_empty() {
        return "No run that is kept has failed.".into();
    }
    let cells = |row: &RunRow| [row.key.clone(), tick(row), minute(row.ended_at), seconds(row), why(row)];
    table(["audience", "tick", "failed at", "seconds", "why it failed"], rows.iter().map(cells))
}

fn cells(row: &RunRow) -> [String; 12] {
    [
        number(row.run),
        row.key.clone(),
        number(row.definition_version),
        minute(row.evaluated_at),
        tick(row),
        row.state.name().into(),
        number(row.members),
        number(row.entered),
        number(row.exited),
        number(row.pending),
        seconds(row),
        why(row),
    ]
}

fn number(number: Option<impl ToString>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn seconds(row: &RunRow) -> String {
    row.took_ms.map(|ms| format!("{:.3}", ms as f64 / 1000.0)).unwrap_or_default()
}

fn why(row: &RunRow) -> String {
    let passed_over = row.passed_over.filter(|rows| !rows.is_none()).map(|rows| rows.to_string());
    row.reason.clone().or(passed_over).unwrap_or_default()
}

/// For which tick, and at which try; or by hand.
fn tick(row: &RunRow) -> String {
    match (row.scheduled_for, row.attempt) {
        (Some(tick), Some(attempt)) if attempt > 1 => format!("{} (try {attempt})", minute(tick)),
        (Some(tick), _) => minute(tick),
        (None, _) => "by hand".into(),
    }
}
