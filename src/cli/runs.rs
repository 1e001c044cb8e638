//! `rollcall runs`: what did each run find?

use super::{Context, output::minute, table};
use crate::{
    Result,
    membership::history::{self, RunRow},
};

/// List runs: as of when, how many members, who entered and left, how long it took.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall runs
  rollcall runs big_spenders --limit 60
  rollcall runs --held                      those that wait for `rollcall release` or `rollcall discard`")]
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
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let limit = u32::try_from(args.limit).unwrap_or(u32::MAX);
    let rows = history::runs(&context.store().await?, args.key.as_deref(), args.held, limit).await?;
    context.output().show(&rows, |rows| {
        if args.held {
            return held(rows);
        }
        let header =
            ["run", "audience", "version", "as of", "state", "members", "entered", "exited", "pending", "seconds"];
        table(header, rows.iter().map(cells))
    })
}

fn held(rows: &[RunRow]) -> String {
    if rows.is_empty() {
        return "No run is held.".into();
    }
    let why = |row: &RunRow| row.held_because.clone().unwrap_or_default();
    let cells = |row: &RunRow| [row.run.to_string(), row.key.clone(), minute(row.evaluated_at), why(row)];
    table(["run", "audience", "as of", "why it is held"], rows.iter().map(cells))
}

fn cells(row: &RunRow) -> [String; 10] {
    [
        row.run.to_string(),
        row.key.clone(),
        row.definition_version.to_string(),
        minute(row.evaluated_at),
        row.state.name().into(),
        row.members.to_string(),
        row.entered.to_string(),
        row.exited.to_string(),
        row.pending.to_string(),
        format!("{:.3}", row.evaluate_ms as f64 / 1000.0),
    ]
}
