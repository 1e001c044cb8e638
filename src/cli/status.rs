//! `rollcall status`: does each destination keep up, and is any of them halted?

use super::{Context, table};
use crate::{
    Result,
    deliver::state::{self, DestinationRow},
};

/// Show each destination: its state, position, what is left to send, and what is quarantined.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall status
  rollcall status --json | jq '.[] | select(.state == \"halted\")'")]
pub struct Args {}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    let rows = state::destinations(&context.store().await?).await?;
    context.output().show(&rows, |rows| {
        let header = ["destination", "lane", "state", "told", "to tell", "quarantined", "why halted"];
        table(header, rows.iter().map(cells))
    })
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
