//! `rollcall topics create`: makes the topics that the mappings name, where they are missing.

use serde::Serialize;

use super::{PATIENCE, ask};
use crate::{
    Error, Result,
    cli::{Context, table},
    config::retention_days,
    deliver::topics::{Holds, Needed, Shape, State, create},
    kafka::topics,
};

/// Create the topics that the enabled mappings name outright, and the cursor topic, where they are missing.
///
/// A topic that is there is left as it is, so this may run again and again. What is not given is the brokers' own default.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall topics create --dry-run
  rollcall topics create --partitions 12 --replicas 3 --min-insync 2 --retention 30d
  rollcall topics create --destination kafka --json")]
pub struct Args {
    /// Name of a destination; all enabled ones if not given.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Partitions of each topic. The cursor topic has one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub partitions: Option<u16>,
    /// Copies of each partition; at most as many as there are brokers. 3 is usual.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub replicas: Option<u16>,
    /// How many copies must have a record before it counts as stored (min.insync.replicas). 2 is usual.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub min_insync: Option<u16>,
    /// For how long records are kept: a number and a unit (d, w, y), as `30d`. The cursor topic is compacted instead.
    #[arg(long, value_name = "TIME", value_parser = retention_days)]
    pub retention: Option<u32>,
    /// Ask the brokers whether they would, and create nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    destination: String,
    topic: String,
    holds: Holds,
    state: State,
}

/// # Errors
/// That of the first topic that was refused, after all were tried.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let shape = shape(&args)?;
    let config = context.config()?;
    let (mut rows, mut unnamed, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for name in config.chosen_destinations(args.destination.as_deref())? {
        let Some(destination) = config.destinations.get(name) else { continue };
        for mapping in topics::unnamed(destination) {
            unnamed.push(format!(
                "The mapping '{mapping}' of destination '{name}' takes its topic from each event: create those topics yourself."
            ));
        }
        let (owned, is_dry_run) = (destination.clone(), args.dry_run);
        let call = move |cluster: &_| create(cluster, &owned, &shape, is_dry_run, PATIENCE);
        for Needed { topic, holds, made } in ask(name, destination, call).await? {
            let state = made.unwrap_or_else(|error| {
                refused.push(error);
                State::Refused
            });
            rows.push(Row { destination: name.to_owned(), topic, holds, state });
        }
    }
    context.output().show(&rows, |rows| shown(rows))?;
    unnamed.iter().try_for_each(|note| context.output().note(note))?;
    refused.into_iter().next().map_or(Ok(()), Err)
}

fn shape(args: &Args) -> Result<Shape> {
    if let (Some(copies), Some(replicas)) = (args.min_insync, args.replicas)
        && copies > replicas
    {
        return Err(Error::settings(format!("--min-insync {copies} is more than --replicas {replicas}"))
            .help("No record could ever be stored: give fewer, as --replicas 3 --min-insync 2."));
    }
    let Args { partitions, replicas, min_insync, retention, .. } = *args;
    Ok(Shape { partitions, replicas, min_insync, retention_days: retention })
}

fn shown(rows: &[Row]) -> String {
    let holds = |holds| match holds {
        Holds::Records => "records",
        Holds::Cursors => "cursors",
    };
    let state = |state| match state {
        State::Exists => "exists",
        State::Created => "created",
        State::Missing => "missing",
        State::Refused => "refused",
    };
    let cells = |row: &Row| {
        [row.destination.clone(), row.topic.clone(), holds(row.holds).to_owned(), state(row.state).to_owned()]
    };
    table(["destination", "topic", "holds", "state"], rows.iter().map(cells))
}
