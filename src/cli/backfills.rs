//! `rollcall backfills`: how far is what is told in the background, and does it go on?

use clap::Subcommand;

use super::{Context, output::minute, table};
use crate::{
    Result,
    delta::backfill::{self, BackfillRow, Decision, Kind, State},
    ids::BackfillId,
};

/// List backfills with their pace and the time left; pause, resume or cancel one.
///
/// A backfill is what is too much to be told at once: a first sync of many, a new destination, a resync. `rollcall serve` and
/// `rollcall sync` tell it beside what changes, which goes first.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  rollcall backfills
  rollcall backfills pause 7             told no further until it is resumed; what is under way ends
  rollcall backfills resume 7
  rollcall backfills cancel 7            the rest is not told, until `rollcall resync` tells it"
)]
pub struct Args {
    #[command(subcommand)]
    pub decision: Option<Decide>,
    /// How many to list at most: those that are open, then the latest.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Decide {
    /// Tell no more of it for now.
    Pause(Which),
    /// Go on with a paused one.
    Resume(Which),
    /// End it. Who was told stays told, and is told when he leaves; the rest is not told.
    Cancel(Which),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// The backfill's number in the list.
    pub id: i64,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let rows = match args.decision {
        None => backfill::list(&pool, args.limit).await?,
        Some(decide) => {
            let (decision, which) = match decide {
                Decide::Pause(which) => (Decision::Pause, which),
                Decide::Resume(which) => (Decision::Resume, which),
                Decide::Cancel(which) => (Decision::Cancel, which),
            };
            vec![backfill::decide(&pool, BackfillId(which.id), decision).await?]
        }
    };
    show(&rows, context)
}

/// Prints backfills as a list.
pub fn show(rows: &[BackfillRow], context: &Context) -> Result<()> {
    context.output().show(rows, |rows| {
        let header = ["id", "audience", "destination", "kind", "state", "done", "total", "per second", "left", "since"];
        table(header, rows.iter().map(cells))
    })
}

fn cells(row: &BackfillRow) -> [String; 10] {
    let kind = match row.kind {
        Kind::Changes => "changes",
        Kind::Resync => "resync",
        Kind::Retry => "retry",
    };
    let state = match row.state {
        State::Running => "running",
        State::Paused => "paused",
        State::Cancelled => "cancelled",
        State::Done => "done",
    };
    [
        row.id.to_string(),
        row.audience.clone(),
        row.destination.clone(),
        kind.to_owned(),
        state.to_owned(),
        row.done.to_string(),
        row.total.to_string(),
        row.per_second.map_or_else(String::new, |pace| format!("{pace:.0}")),
        row.left_seconds.map_or_else(String::new, left),
        minute(row.created_at),
    ]
}

/// As `2h 05m`, `5m 10s`, `10s`.
fn left(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn the_time_left_is_said_in_its_two_greatest_units() {
        assert_eq!([0.0, 9.2, 310.0, 7_500.0].map(left), ["0s", "10s", "5m 10s", "2h 05m"]);
    }
}
