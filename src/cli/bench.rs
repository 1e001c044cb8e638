//! `rollcall bench`: how fast is it here, beside its yardsticks?

mod import;

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
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    match args.what {
        What::Import(args) => import::run(args, context).await,
    }
}
