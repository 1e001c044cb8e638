//! `rollcall verify`: is what the topics say what the database says?

use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::{Context, table};
use crate::{
    Error, Kind, Result,
    deliver::{
        state,
        verify::{self, Difference, LaneReport, Question, Report, TopicReport},
    },
    sync,
};

/// Hold what the topics say against what the database says: every change once, in order, unchanged, and adding up to what counts as told.
///
/// Reads the topics as a consumer of committed records does, and the log. Changes nothing, and may be asked at any time. Exits with 6
/// if there is a difference. docs/verify.md says what is looked at, and how a consumer compares its own state by one number.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall verify                                      every destination
  rollcall verify kafka --since 2026-05-01             records of the last weeks alone
  rollcall verify kafka --digest --json | jq '.[].topics[] | {topic, digest}'")]
pub struct Args {
    /// The destination's name in the configuration; all of them if not given.
    #[arg(value_name = "DESTINATION")]
    pub destination: Option<String>,
    /// Only records from that time on: a date, or an instant with its zone.
    #[arg(long, value_name = "TIME", value_parser = super::instant)]
    pub since: Option<DateTime<Utc>>,
    /// Also add each topic up to one number, which a consumer can compare; takes about 50 bytes of memory a person and audience.
    #[arg(long)]
    pub digest: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let config = context.config()?;
    let pool = context.store().await?;
    let mut targets = sync::targets(&config);
    match &args.destination {
        Some(wanted) => {
            targets.retain(|(name, _)| name == wanted);
            if targets.is_empty() {
                return Err(Error::settings(format!("the configuration has no destination '{wanted}'")));
            }
        }
        // One that was never told anything has nothing to be held against.
        None => {
            let told = state::destinations(&pool).await?;
            targets.retain(|(name, _)| told.iter().any(|row| row.name == *name));
        }
    }
    let question = Question { since: args.since, digest: args.digest };
    let mut reports = Vec::with_capacity(targets.len());
    for (_, target) in targets {
        let mut bar = None;
        let mut progress =
            |more, total| bar.get_or_insert_with(|| context.output().progress("records", Some(total))).add(more);
        reports.push(verify::verify(&pool, &target?, question, &mut progress).await?);
    }
    context.output().show(&reports, |reports| match reports.is_empty() {
        true => "No destination was told anything yet.".to_owned(),
        false => reports.iter().map(text).collect::<Vec<_>>().join("\n\n"),
    })?;
    let agrees = reports.iter().all(|report| report.agrees);
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::from(Kind::Halted.exit_code()) })
}

fn text(report: &Report) -> String {
    let rate = report.records as f64 / report.seconds.max(0.001);
    let verdict = if report.agrees { "what the topics say is what the database says" } else { "THERE ARE DIFFERENCES" };
    let mut text = format!(
        "Destination '{}': {verdict}. {} records in {:.1} s ({rate:.0} a second).\n\n",
        report.destination, report.records, report.seconds
    );
    let header = ["lane", "log", "cursor", "on the topics", "no record needed", "quarantined", "out of sight"];
    text += &table(header, report.lanes.iter().map(lane));
    let header = ["topic", "records", "earlier streams", "of others", "not whole events", "digest"];
    text += &format!("\n\n{}", table(header, report.topics.iter().map(topic)));
    for unseen in &report.unseen {
        text += &format!("\n{unseen}");
    }
    if !report.agrees {
        let counts = report.counts.iter().map(|(kind, count)| [kind.name().to_owned(), count.to_string()]);
        text += &format!("\n\n{}", table(["difference", "how many"], counts));
        let header = ["difference", "person", "audience", "lane", "position", "where", "what"];
        text += &format!("\n\n{}", table(header, report.differences.iter().map(difference)));
    }
    text
}

fn lane(lane: &LaneReport) -> [String; 7] {
    [
        lane.lane.to_string(),
        format!("{}–{}", lane.from, lane.end),
        lane.cursor.to_string(),
        lane.seen.to_string(),
        lane.without_record.to_string(),
        lane.quarantined.to_string(),
        lane.out_of_sight.to_string(),
    ]
}

fn topic(topic: &TopicReport) -> [String; 6] {
    [
        topic.topic.clone(),
        topic.records.to_string(),
        topic.earlier.to_string(),
        topic.strangers.to_string(),
        topic.unreadable.to_string(),
        topic.digest.clone().unwrap_or_default(),
    ]
}

fn difference(difference: &Difference) -> [String; 7] {
    let profile = difference.profile.map(|profile| format!("profile {profile}"));
    let place = difference.topic.as_ref().map(|topic| match (difference.partition, difference.offset) {
        (Some(partition), Some(offset)) => format!("{topic} {partition} @ {offset}"),
        _ => topic.clone(),
    });
    let run = difference.run.map(|run| format!("run {run}"));
    [
        difference.kind.name().to_owned(),
        difference.person.clone().or(profile).unwrap_or_default(),
        difference.audience.clone().unwrap_or_default(),
        difference.lane.map_or(String::new(), |lane| lane.to_string()),
        difference.position.map_or(String::new(), |position| position.to_string()),
        place.or(run).unwrap_or_default(),
        difference.detail.clone(),
    ]
}
