//! `rollcall runs`: what did each run find?

use super::Context;
use crate::{Error, Result};

/// List runs: as of when, how many members, who entered and left, how long it took.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall runs
  rollcall runs big_spenders --limit 60")]
pub struct Args {
    /// Key of an audience; all of them if not given.
    #[arg(value_name = "KEY")]
    pub key: Option<String>,
    /// How many to list at most, the latest first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u64,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`runs` is not here yet"))
}
