//! `rollcall demo`: the whole flow on real customers' orders, with nothing to prepare.

mod kafka;
mod orders;
mod reader;

use std::{io, path::Path};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::PgPool;

use self::{
    kafka::Kafka,
    reader::{Reader, Seen},
};
use super::{Context, Output, output::minute};
use crate::{
    Error, Result,
    config::{self, Config, Surroundings},
    database,
    deliver::{Target, unhalt},
    delta::{self, lane::Lane},
    membership::run::Run,
    profile::import::Importer,
    runs::history,
    sync::{self, Request},
};

/// See it work: real customers' orders, eight audiences, weekly syncs, events read back from Kafka.
///
/// Starts its own Postgres and an in-process Kafka, and stops both on exit.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall demo
  rollcall demo --weeks 60
  rollcall demo --kafka localhost:9092 --database postgres://localhost/rollcall")]
pub struct Args {
    /// A real Kafka to send to, instead of the in-process one.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// How many weekly syncs follow the first one.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(..=60))]
    pub weeks: u32,
}

/// The demo's configuration, which is also an example to start from.
const CONFIGURATION: &str = include_str!("../../data/demo.yaml");
/// The destination of that name in it, and the topic that its mapping names.
const DESTINATION: &str = "kafka";
const TOPIC: &str = "audiences";
/// Where a destination's cursor goes when its configuration does not say.
const CURSOR_TOPIC: &str = "rollcall.cursors";

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let folder = context.global().state_dir.join("demo");
    write_configuration(&folder, args.kafka.as_deref())?;
    // A context of its own: what `rollcall` would do if it were started in that folder.
    let own = context.at(&folder);
    let result = show(&args, &own, &folder).await;
    own.close().await.and(result)
}

async fn show(args: &Args, context: &Context, folder: &Path) -> Result<()> {
    let output = context.output();
    say(output, "Starting Postgres and Kafka")?;
    let kafka = Kafka::start(args.kafka.as_deref(), TOPIC, CURSOR_TOPIC)?;
    let around = Surroundings {
        variable: &|_| Some(kafka.brokers().to_owned()),
        file: &|_| Err(io::ErrorKind::NotFound.into()),
    };
    let config = config::parse("the demo's configuration", CONFIGURATION, &around)?;
    let pool = context.store().await?;
    if kafka.is_new() {
        // What an earlier demo told an earlier Kafka says nothing about this one.
        start_over(&pool, context.is_embedded().await).await?;
    }
    import(&pool, output).await?;

    let target = Target::of(&config, DESTINATION)?;
    let reader = Reader::start(&target, TOPIC)?;
    header(output)?;
    let instance = context.instance().await?;
    for week in 0..=args.weeks {
        let report = sync::sync(&instance, &config, &Request::default(), as_of(week), &|_, _| {}).await?;
        for (key, run) in &report.runs {
            match run {
                Ok(run) => row(output, run)?,
                Err(error) => return Err(Error::internal(format!("'{key}' failed: {error}"))),
            }
        }
        if let Some((_, Err(error))) = report.deliveries.into_iter().find(|(_, delivered)| delivered.is_err()) {
            return Err(error);
        }
    }
    let end = delta::head(&pool, DESTINATION, Lane::Live).await?.end;
    let seen = reader.finish(end.0 as u64).await?;
    conclude(&pool, output, &config, &seen).await?;
    say(output, &next_steps(folder))
}

/// The first sync is as of April 1997, when the last of the 23,570 customers had bought for the first time.
fn as_of(week: u32) -> DateTime<Utc> {
    let first = NaiveDate::from_ymd_opt(1997, 4, 1).unwrap_or_default();
    (first + Days::new(u64::from(week) * 7)).and_time(NaiveTime::MIN).and_utc()
}

/// For whoever goes on from here; it works without Kafka but for telling.
fn write_configuration(folder: &Path, brokers: Option<&str>) -> Result<()> {
    let text = CONFIGURATION.replace("localhost:9092", brokers.unwrap_or("localhost:9092"));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("rollcall.yaml"), text))
        .map_err(|error| Error::settings(format!("the demo cannot write to {}", folder.display())).because(error))
}

/// Empties a store of the demo's own; in someone else's, only begins a new stream.
async fn start_over(pool: &PgPool, own: bool) -> Result<()> {
    if own {
        sqlx::raw_sql("drop schema public cascade; create schema public").execute(pool).await?;
        return database::migrate(pool).await;
    }
    match delta::head(pool, DESTINATION, Lane::Live).await {
        Ok(head) => unhalt::start_over(pool, head.destination).await.map(drop),
        Err(_) => Ok(()),
    }
}

async fn import(pool: &PgPool, output: &Output) -> Result<()> {
    let importer = Importer::new(pool.clone());
    let mut progress = output.progress("messages", None);
    let mut told = 0;
    let summary = importer
        .run(orders::source()?, &mut std::io::sink(), |summary| {
            progress.add(summary.accepted + summary.repeated - told);
            told = summary.accepted + summary.repeated;
        })
        .await?;
    drop(progress);
    say(output, &format!("Imported {} messages in {:.1} s", summary.accepted + summary.repeated, summary.seconds))
}

fn header(output: &Output) -> Result<()> {
    if output.is_json() {
        return Ok(());
    }
    output.line(&format!(
        "\n{:<16}  {:<28} {:>8} {:>8} {:>8} {:>8}",
        "AS OF", "AUDIENCE", "MEMBERS", "ENTERED", "EXITED", "SECONDS"
    ))
}

fn row(output: &Output, run: &Run) -> Result<()> {
    if output.is_json() {
        return output.record(run);
    }
    output.line(&format!(
        "{:<16}  {:<28} {:>8} {:>8} {:>8} {:>8.3}",
        minute(run.evaluated_at),
        run.key,
        run.members,
        run.entered,
        run.exited,
        run.evaluate_ms as f64 / 1000.0
    ))
}

/// Shows what a consumer saw, and holds it against what is stored.
async fn conclude(pool: &PgPool, output: &Output, config: &Config, seen: &Seen) -> Result<()> {
    let mut differ = Vec::new();
    for audience in history::audiences(pool).await? {
        let members = history::members(pool, &audience.key, None).await?;
        if members.len() != seen.members(&audience.key) {
            differ.push(audience.key);
        }
    }
    if !differ.is_empty() {
        return Err(Error::internal(format!("the topic does not add up to the members of {}", differ.join(", "))));
    }
    let mut text = format!("\nA consumer of the topic '{TOPIC}' read {} events, among them:\n\n", seen.events);
    for event in &seen.samples {
        text += event;
        text += "\n";
    }
    text += &format!("\nAdded up, they are exactly the members of all {} audiences.", config.audiences.len());
    say(output, &text)
}

fn next_steps(folder: &Path) -> String {
    format!(
        "
What to try next (the configuration and the database stay in that folder):

  cd {}
  rollcall preview \"event('Order Completed').within(7 days).count() >= 2\" --at 1997-05-01
  rollcall members lapsed_big_spenders --limit 5
  rollcall explain big_spenders 00003 --at 1997-05-01
  rollcall runs lapsed
  $EDITOR rollcall.yaml          put in your own brokers, then: rollcall check && rollcall sync",
        folder.display()
    )
}

/// For a person; JSON output has the runs alone.
fn say(output: &Output, text: &str) -> Result<()> {
    if output.is_json() { Ok(()) } else { output.line(text) }
}
