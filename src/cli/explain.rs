//! `rollcall explain`: why is this person in, or out?

use chrono::{DateTime, Utc};

use super::{Context, instant};
use crate::{Error, Result};

/// Say whether one person is in an audience, which conditions hold, and when time alone will change that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall explain big_spenders u_00042
  rollcall explain big_spenders u_00042 --at 1997-06-01 --json")]
pub struct Args {
    /// Key of the audience.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The person's userId.
    #[arg(value_name = "USER")]
    pub user: String,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`explain` is not here yet"))
}
