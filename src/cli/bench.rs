//! `rollcall bench`: how fast is it here, beside its yardsticks?

mod deliver;
mod evaluate;
mod import;
mod ingest;
mod lanes;
mod state;
mod traits;
mod verify;

use clap::Subcommand;

use super::Context;
use crate::Result;

/// Measure evaluation, first sync and import beside their yardsticks.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Subcommand)]
pub enum What {
    /// An import beside psql's `\copy` of the same rows.
    Import(import::Args),
    /// Live messages over HTTP, or from Kafka, beside psql's `\copy` of the same rows.
    Ingest(ingest::Args),
    /// A first sync to a real Kafka beside librdkafka alone sending the same bytes.
    Deliver(deliver::Args),
    /// A topic held against its log beside kcat reading it.
    Verify(deliver::Args),
    /// The delay of small audiences beside a backfill of a million, and without it.
    Lanes(lanes::Args),
    /// Three audiences beside the best SQL written by hand for the same ids.
    Evaluate(evaluate::Args),
    /// Computed traits: ten beside one, and a week's change beside the best SQL.
    Traits(evaluate::Args),
    /// What a first sync writes, beside a row for each member.
    State(state::Args),
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    match args.what {
        What::Import(args) => import::run(args, context).await,
        What::Ingest(args) => ingest::run(args, context).await,
        What::Deliver(args) => deliver::run(args, context).await,
        What::Verify(args) => verify::run(args, context).await,
        What::Lanes(args) => lanes::run(args, context).await,
        What::Evaluate(args) => evaluate::run(args, context).await,
        What::Traits(args) => traits::run(args, context).await,
        What::State(args) => state::run(args, context).await,
    }
}
