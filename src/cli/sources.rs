//! `rollcall sources`: which tables are messages made of, and how far are they read?

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Context, output::minute, table};
use crate::{
    Result, config,
    profile::pulled::{self, Progress},
};

/// List the SQL sources of the configuration with how far they are read, and why the last pull failed if it did.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall sources
  rollcall sources --json | jq '.[] | select(.error)'")]
pub struct Args {}

#[derive(Serialize)]
struct Listed {
    source: String,
    /// `enabled` or `disabled`.
    state: &'static str,
    /// `profiles` or `events`.
    rows_are: &'static str,
    schedule: Option<String>,
    /// None before the first pull.
    #[serde(flatten)]
    progress: Option<Progress>,
}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let pool = context.store().await?;
    let known = pulled::progress(&pool).await?.into_iter();
    let mut known: BTreeMap<String, Progress> = known.map(|of| (of.source.clone(), of)).collect();
    let listed = |(name, of): (&String, &config::Source)| Listed {
        source: name.clone(),
        state: if of.enabled { "enabled" } else { "disabled" },
        rows_are: if of.events.is_some() { "events" } else { "profiles" },
        schedule: of.schedule.as_ref().map(ToString::to_string),
        progress: known.remove(name),
    };
    let all: Vec<Listed> = config.sources.iter().filter(|(_, source)| source.is_pulled()).map(listed).collect();
    context.output().show(&all, |all| {
        if all.is_empty() {
            return "the configuration has no sources".into();
        }
        let rows = all.iter().map(|of| {
            let progress = of.progress.as_ref();
            let count = |pick: fn(&Progress) -> Option<i64>| {
                progress.and_then(pick).map(|count| count.to_string()).unwrap_or_default()
            };
            [
                of.source.clone(),
                of.state.into(),
                of.rows_are.into(),
                of.schedule.clone().unwrap_or_default(),
                progress.and_then(|of| of.pulled_at).map(minute).unwrap_or_default(),
                progress.and_then(|of| of.position.clone()).unwrap_or_default(),
                count(|of| of.rows),
                count(|of| of.stored),
                count(|of| of.refused),
            ]
        });
        let header = ["source", "state", "rows are", "schedule", "pulled", "position", "rows", "stored", "refused"];
        let mut text = table(header, rows);
        for of in all.iter().filter_map(|of| of.progress.as_ref()) {
            if let Some(error) = &of.error {
                text += &format!("\n{}: failed {} times: {error}", of.source, of.attempts);
            }
        }
        text
    })
}
