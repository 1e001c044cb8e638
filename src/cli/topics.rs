//! `rollcall topics`: which topics does each destination offer? `create` makes those that are missing.

mod create;

use clap::Subcommand;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{Context, table};
use crate::{
    Error, Result, config,
    kafka::{
        cluster::Cluster,
        settings::Settings,
        topics::{self, Listed},
    },
};

/// List the topics of a destination, with their partitions: what the Topic field of a mapping may name.
///
/// `create` makes the topics that the mappings name and that are not there.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  rollcall topics
  rollcall topics --destination kafka --json
  rollcall topics create --dry-run"
)]
pub struct Args {
    #[command(subcommand)]
    pub what: Option<What>,
    /// Name of a destination; all enabled ones if not given.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum What {
    Create(create::Args),
}

#[derive(Debug, Serialize)]
struct Row {
    destination: String,
    #[serde(flatten)]
    listed: Listed,
}

/// How long a cluster may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

pub async fn run(args: Args, context: &Context) -> Result<()> {
    match args.what {
        Some(What::Create(create)) => create::run(create, context).await,
        None => list(args.destination.as_deref(), context).await,
    }
}

/// Asks a destination's cluster. librdkafka's calls block, so this happens on a thread for such calls.
async fn ask<T: Send + 'static>(
    name: &str,
    destination: &config::Destination,
    call: impl FnOnce(&Cluster) -> Result<T> + Send + 'static,
) -> Result<T> {
    let settings = Settings::parse(name, &destination.settings)?;
    let owned = name.to_owned();
    let answer = spawn_blocking(move || call(&Cluster::open(&owned, &settings)?)).await;
    answer.map_err(|error| Error::internal("asking for the topics was cut off").because(error))?
}

async fn list(destination: Option<&str>, context: &Context) -> Result<()> {
    let config = context.config()?;
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for name in config.chosen_destinations(destination)? {
        let Some(destination) = config.destinations.get(name) else { continue };
        let listed = ask(name, destination, |cluster| {
            topics::metadata(cluster, PATIENCE).map(|metadata| topics::list(&metadata))
        })
        .await?;
        let there = || listed.iter().map(|listed| listed.topic.as_str());
        for topic in topics::named(destination).into_iter().filter(|topic| !there().any(|there| there == topic)) {
            let remedy = topics::remedy(&topic, there());
            missing.push(format!("destination '{name}' names the topic '{topic}', which is not there. {remedy}"));
        }
        rows.extend(listed.into_iter().map(|listed| Row { destination: name.to_owned(), listed }));
    }
    context.output().show(&rows, |rows| {
        table(
            ["destination", "topic", "partitions", "replicas"],
            rows.iter().map(|row| {
                let Row { destination, listed } = row;
                [destination.clone(), listed.topic.clone(), listed.partitions.to_string(), listed.replicas.to_string()]
            }),
        )
    })?;
    missing.iter().try_for_each(|missing| context.output().note(missing))
}
