//! `rollcall preview`: who would be in, if this were an audience?

use chrono::{DateTime, Utc};

use super::{Context, instant};
use crate::{Error, Result};

/// Count and sample the members of a definition, without storing anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall preview \"event('Order Completed').within(30 days).count() >= 1\"
  rollcall preview \"trait('plan') = 'pro'\" --sample 5 --json
  rollcall preview \"event('Order Completed').sum(property('revenue')) > 500\" --at 1997-06-01")]
pub struct Args {
    /// A definition in the audience language.
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// The instant to compute for: RFC 3339, or a date (midnight in UTC). Now, if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub at: Option<DateTime<Utc>>,
    /// How many members to show.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub sample: usize,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let _ = (args, context);
    Err(Error::internal("`preview` is not here yet"))
}
