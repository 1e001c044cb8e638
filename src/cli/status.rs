//! `rollcall status`: does each destination keep up, and is any of them halted?

use super::{Context, table};
use crate::{
    Result,
    deliver::state::{self, DestinationRow},
    membership::held::{self, Waiting},
};

/// Show each destination: its state, position, what is left to send, and what is quarantined.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall status
  rollcall status --json | jq '.[] | select(.state == \"halted\")'")]
pub struct Args {}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let (rows, waiting) = (state::destinations(&pool).await?, held::waiting(&pool).await?);
    context.output().show(&rows, |rows| {
        let header = ["destination", "lane", "state", "told", "to tell", "quarantined", "why halted"];
        let destinations = table(header, rows.iter().map(cells));
        waiting.iter().fold(destinations, |text, held| format!("{text}\n{}", line(held)))
    })
}

fn line(held: &Waiting) -> String {
    let Waiting { run, key, held_because, .. } = held;
    format!("audience '{key}': run {run} is held, {held_because}; `rollcall release {run}` or `rollcall discard {run}`")
}

fn cells(row: &DestinationRow) -> [String; 7] {
    let why = [&row.halt_reason, &row.halt_detail].into_iter().flatten().cloned().collect::<Vec<_>>().join(": ");
    [
        row.name.clone(),
        row.lane.to_string(),
        row.state.clone(),
        row.cursor.to_string(),
        (row.end.0 - row.cursor.0).to_string(),
        row.quarantined.to_string(),
        why,
    ]
}
