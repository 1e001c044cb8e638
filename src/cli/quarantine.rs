//! `rollcall quarantine`: which records could not be delivered, why, and are they told again?

use clap::Subcommand;
use serde::Serialize;

use super::{Context, output::minute, resync, table};
use crate::{
    Error, Result,
    config::Config,
    deliver::{
        Target,
        put_aside::{self, Filter, Look, Record, Retried, Would},
    },
    delta::backfill::{self, Chosen},
    ids::{BackfillId, RunId},
    sync,
};

/// List the records that could not be delivered: whom they are about, by which mapping, why; show one, or tell them again.
///
/// A record that no mapping can make, or that Kafka refuses, is put aside alone. Once the mapping or the topic is mended, `retry`
/// tells it: once, in order with what else is told of that person, and with what is true by then.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  rollcall quarantine                                    what is told to nobody, the latest first
  rollcall quarantine --reason too_large --json
  rollcall quarantine show 17                            the event, and what the mapping in force makes of it
  rollcall quarantine retry                              all of them
  rollcall quarantine retry --destination kafka --mapping audiences"
)]
pub struct Args {
    #[command(subcommand)]
    pub what: Option<What>,
    #[command(flatten)]
    pub which: Which,
    /// Also those that were told again, or need not be.
    #[arg(long)]
    pub all: bool,
    /// How many to list at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
}

#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Show the event as it would be told now, and what the mapping in force makes of it.
    Show(Show),
    /// Tell records again that are in quarantine, as things are now.
    Retry(Retry),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Show {
    /// The record's number in the list.
    pub id: i64,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Retry {
    #[command(flatten)]
    pub which: Which,
    /// Leave it to `rollcall serve`, or to the next sync.
    #[arg(long)]
    pub detach: bool,
}

/// Those that fit all that is given.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Only those for this destination.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Only those of this mapping.
    #[arg(long, value_name = "NAME")]
    pub mapping: Option<String>,
    /// Only those that were put aside for this reason.
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// Only those of this run.
    #[arg(long, value_name = "N")]
    pub run: Option<i64>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    match args.what {
        None => {
            let Which { destination, mapping, reason, run } = args.which;
            let filter = Filter { id: None, destination, mapping, reason, run: run.map(RunId), settled: args.all };
            list(&put_aside::list(&context.store().await?, &filter, args.limit).await?, context)
        }
        Some(What::Show(show)) => look(show.id, context).await,
        Some(What::Retry(asked)) => retry(asked, context).await,
    }
}

fn list(records: &[Record], context: &Context) -> Result<()> {
    context.output().show(records, |records| {
        if records.is_empty() {
            return "No record is in quarantine.".into();
        }
        let cells = |record: &Record| {
            let row = &record.row;
            [
                row.id.to_string(),
                record.who.to_string(),
                row.audience.clone(),
                row.run.to_string(),
                row.destination.clone(),
                row.mapping.clone(),
                row.state.clone(),
                row.reason.clone(),
                row.detail.clone(),
                minute(row.created_at),
            ]
        };
        let header = ["id", "who", "audience", "run", "destination", "mapping", "state", "reason", "detail", "since"];
        table(header, records.iter().map(cells))
    })
}

async fn look(id: i64, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let record = put_aside::find(&pool, id).await?;
    let target = Target::of(&context.config()?, &record.row.destination)?;
    let look = put_aside::look(&pool, &target, record).await?;
    context.output().show(&look, describe)
}

fn describe(look: &Look) -> String {
    let (row, who) = (&look.record.row, &look.record.who);
    let event = look.event.as_ref().map(|event| format!("{event:#}")).unwrap_or_default();
    let now = match &look.now {
        Would::Record { topic, bytes, .. } => format!("makes a record of {bytes} bytes for the topic '{topic}' of it"),
        Would::Rejected { reason, detail } => format!("still makes no record of it: {reason}, {detail}"),
        Would::Unsubscribed => "does not match it any more: a retry tells nothing".to_owned(),
        Would::UnknownMapping => "is not there any more, or is disabled".to_owned(),
        Would::Nobody => "has nothing to tell: nobody has that name any more".to_owned(),
    };
    format!(
        "{who}, '{}', run {}, destination '{}', mapping '{}' ({})\nput aside {}: {}, {}\n\nAs it would be told now:\n{event}\n\n\
         The mapping in force {now}.",
        row.audience,
        row.run,
        row.destination,
        row.mapping,
        row.state,
        minute(row.created_at),
        row.reason,
        row.detail
    )
}

/// What is printed.
#[derive(Serialize)]
struct Answer {
    /// Records that are to be told again.
    asked: usize,
    #[serde(flatten)]
    retried: Retried,
    /// Not told yet, and still in quarantine.
    left: i64,
    backfills: Vec<BackfillId>,
}

async fn retry(asked: Retry, context: &Context) -> Result<()> {
    let config = context.config()?;
    let pool = context.store().await?;
    let Which { mapping, reason, run, .. } = &asked.which;
    let (mut backfills, mut destinations) = (Vec::new(), Vec::new());
    for target in targets(&config, &asked.which)? {
        let mappings: Vec<&str> = target.mappings.iter().map(|mapping| mapping.name()).collect();
        let mappings: Vec<&str> =
            mappings.into_iter().filter(|name| mapping.as_ref().is_none_or(|mapping| mapping == name)).collect();
        let chosen =
            Chosen { destination: &target.name, mappings: &mappings, reason: reason.as_deref(), run: run.map(RunId) };
        backfills.extend(backfill::retry(&pool, chosen).await?);
        destinations.push(target.name);
    }
    let given = Filter { settled: true, ..Filter::default() };
    let given = put_aside::list(&pool, &given, u32::MAX).await?;
    let given = given.iter().filter(|record| record.row.backfill.is_some_and(|of| backfills.contains(&of))).count();
    if !asked.detach && !backfills.is_empty() {
        resync::tell(&pool, &config, &destinations, &backfills, context).await?;
    }
    let retried = put_aside::retried(&pool, &backfills).await?;
    let left = given as i64 - retried.retried - retried.superseded;
    let answer = Answer { asked: given, retried, left, backfills };
    context.output().show(&answer, |answer| say(answer, asked.detach))
}

fn say(answer: &Answer, detach: bool) -> String {
    if answer.asked == 0 {
        return "No record in quarantine fits, or a mapping in force makes it.".into();
    }
    if detach {
        return format!("{} records are to be told again; `rollcall backfills` shows how far it is.", answer.asked);
    }
    let Retried { retried, superseded, put_aside_again } = answer.retried;
    let mut text = format!("{retried} of {} records were told again.", answer.asked);
    if superseded > 0 {
        text += &format!("\n{superseded} need not be: a later change of the person is told.");
    }
    if put_aside_again > 0 {
        text += &format!("\n{put_aside_again} of them were put aside once more: `rollcall quarantine` says why.");
    }
    if answer.left > 0 {
        text += &format!(
            "\n{} stay in quarantine for now: the person is suppressed or being forgotten, or has a change under way.",
            answer.left
        );
    }
    text
}

/// The destinations that are meant, all of them in order.
fn targets(config: &Config, which: &Which) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for (name, target) in sync::targets(config) {
        if which.destination.as_ref().is_none_or(|destination| *destination == name) {
            targets.push(target?);
        }
    }
    if let Some(name) = which.destination.as_ref().filter(|_| targets.is_empty()) {
        return Err(Error::settings(format!("the configuration has no enabled destination '{name}'")));
    }
    let has = |mapping: &String| targets.iter().any(|target| target.mappings.iter().any(|of| of.name() == mapping));
    if let Some(mapping) = which.mapping.as_ref().filter(|mapping| !has(mapping)) {
        return Err(Error::settings(format!("no enabled destination has an enabled mapping '{mapping}'"))
            .help("`rollcall quarantine` lists by which mapping each record was to be made."));
    }
    Ok(targets)
}
