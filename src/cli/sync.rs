//! `rollcall sync`: compute audiences now and tell the difference.

use chrono::{DateTime, Utc};

use super::{Context, instant};
use crate::{Error, Result};

/// Compute audiences and tell Kafka who entered and who left.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall sync                             every enabled audience
  rollcall sync big_spenders lapsed         these two, and whatever they refer to
  rollcall sync --at 1997-06-01             as of that midnight in UTC
  rollcall sync --dry-run                   counts alone: nothing is stored, nothing is sent")]
pub struct Args {
    /// Keys of audiences; every enabled one when none is given.
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
    /// Compute and count, but store and send nothing.
    #[arg(long)]
    pub dry_run: bool,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`sync` is not here yet"))
}
