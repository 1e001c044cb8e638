//! `rollcall prune`: what is old enough to go?

use serde_json::json;

use super::{Context, output::minute, table};
use crate::{
    Result,
    retention::{self, Bounds, Dropped},
};

/// Drop runs, events and message ids that are older than `retention` says; `serve` does it once a day.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall prune --dry-run        what would go, and what is kept although it is old
  rollcall prune

Waits until no run is being sealed. What was dropped cannot be had back, but from a backup.")]
pub struct Args {
    /// Say what would go, and drop nothing.
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let bounds = Bounds::of(&context.config()?, context.clock().now());
    let dropped = retention::prune(&context.store().await?, &bounds, args.dry_run).await?;
    let report = json!({
        "dry_run": args.dry_run,
        "before": {"runs": bounds.runs, "events": bounds.events, "message_ids": bounds.message_ids},
        "dropped": dropped,
        "notes": bounds.notes,
    });
    context.output().show(&report, |_| text(&bounds, &dropped, args.dry_run))
}

fn text(bounds: &Bounds, dropped: &[Dropped], dry_run: bool) -> String {
    let mut text = String::new();
    let bound =
        |bound: Option<_>| bound.map_or_else(|| "kept for ever".into(), |bound| format!("before {}", minute(bound)));
    let bounds_of = [
        ["runs".into(), bound(bounds.runs)],
        ["events".into(), bound(bounds.events)],
        ["message ids".into(), bound(Some(bounds.message_ids))],
    ];
    text += &table(["what", "dropped"], bounds_of);
    for note in &bounds.notes {
        text += &format!("\n{note}");
    }
    if dropped.is_empty() {
        return text + "\n\nNothing is that old.";
    }
    let rows = dropped.iter().map(|dropped| {
        let mib = format!("{:.1}", dropped.bytes as f64 / f64::from(1 << 20));
        [
            dropped.what.into(),
            dropped.of.clone(),
            dropped.rows.to_string(),
            mib,
            dropped.kept.clone().unwrap_or_default(),
        ]
    });
    let went = if dry_run { "would go" } else { "rows" };
    text + "\n\n" + &table(["what", "of", went, "MiB", "note"], rows)
}
