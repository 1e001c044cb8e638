//! `rollcall topics`: which topics does each destination offer?

use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{Context, table};
use crate::{
    Error, Result,
    kafka::{
        cluster::Cluster,
        settings::Settings,
        topics::{self, Listed},
    },
};

/// List the topics of a destination, with their partitions: what the Topic field of a mapping may name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall topics
  rollcall topics --destination kafka --json")]
pub struct Args {
    /// Name of a destination; all enabled ones if not given.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
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
    let config = context.config()?;
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for name in config.chosen_destinations(args.destination.as_deref())? {
        let Some(destination) = config.destinations.get(name) else { continue };
        let settings = Settings::parse(name, &destination.settings)?;
        let owned = name.to_owned();
        // librdkafka's calls block.
        let listed = spawn_blocking(move || {
            let cluster = Cluster::open(&owned, &settings)?;
            topics::metadata(&cluster, PATIENCE).map(|metadata| topics::list(&metadata))
        });
        let listed =
            listed.await.map_err(|error| Error::internal("asking for the topics was cut off").because(error))??;
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
