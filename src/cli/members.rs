//! `rollcall members`: who is in, now or as of any run?

use super::Context;
use crate::{Error, Result};

/// List the members of an audience, as of its last run or an earlier one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall members big_spenders
  rollcall members big_spenders --run 17 --limit 1000
  rollcall members big_spenders --json | jq -r .user_id")]
pub struct Args {
    /// Key of the audience.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The run after which to look; the last one if not given. `rollcall runs` lists them.
    #[arg(long, value_name = "N")]
    pub run: Option<i64>,
    /// How many to list at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`members` is not here yet"))
}
