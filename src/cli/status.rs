//! `rollcall status`: is every audience as fresh as promised, does each destination keep up, and is any of them halted?

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::{Context, table};
use crate::{
    Result,
    config::Config,
    deliver::state::{self, DestinationRow},
    freshness::{self, Audience},
    runs::{
        failed::Failure,
        held::{self, Waiting},
    },
};

/// Show how fresh each audience is, and of each destination its state, position, what is left to send and what is quarantined.
///
/// An audience is true as of its last run that every destination has been told. It is overdue when nothing newer was told in time, by
/// `fresh_within` or by its schedule; whoever is overdue longest stands first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall status
  rollcall status --json | jq '.audiences[] | select(.freshness == \"overdue\")'
  rollcall status --json | jq '.destinations[] | select(.state == \"halted\")'")]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Status {
    audiences: Vec<Audience>,
    destinations: Vec<DestinationRow>,
    /// Runs that wait for a person.
    held: Vec<Waiting>,
}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    // Destinations can be asked about without a configuration; audiences are those that it names.
    let config = if context.global().config.exists() { context.config()? } else { Config::default() };
    let store = context.store().await?;
    let survey = freshness::survey(&store, &config, context.clock().now()).await?;
    let mut audiences = survey.audiences;
    audiences.sort_by_key(|audience| -audience.overdue_seconds);
    let (destinations, held) = (state::destinations(&store).await?, held::waiting(&store).await?);
    let status = Status { audiences, destinations, held };
    context.output().show(&status, |status| {
        let header = ["audience", "freshness", "true as of", "due by", "computed as of", "waits for"];
        let audiences = table(header, status.audiences.iter().map(freshness_cells));
        let header = ["destination", "lane", "state", "told", "to tell", "quarantined", "why halted"];
        let destinations = table(header, status.destinations.iter().map(cells));
        let lines = status.audiences.iter().filter_map(failure).chain(status.held.iter().map(line));
        lines.fold(format!("{audiences}\n\n{destinations}"), |text, line| format!("{text}\n{line}"))
    })
}

fn freshness_cells(audience: &Audience) -> [String; 6] {
    [
        audience.key.clone(),
        audience.fresh.freshness.name().into(),
        instant(audience.true_as_of),
        instant(audience.fresh.due_by),
        instant(audience.computed_as_of),
        audience.behind.join(", "),
    ]
}

/// To the second, as a person reads it; nothing if there is none.
pub(super) fn instant(instant: Option<DateTime<Utc>>) -> String {
    instant.map(|instant| instant.to_rfc3339_opts(SecondsFormat::Secs, true)).unwrap_or_default()
}

/// Why an audience has not been computed since its last run.
fn failure(audience: &Audience) -> Option<String> {
    let Failure { failed_at, attempt, reason, .. } = audience.last_failure.as_ref()?;
    let attempt = attempt.map(|attempt| format!(" (try {attempt})")).unwrap_or_default();
    Some(format!("audience '{}': failed at {}{attempt}: {reason}", audience.key, instant(Some(*failed_at))))
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
