//! `rollcall preview`: who would be in, if this were an audience?

use chrono::{DateTime, Utc};

use serde::Serialize;

use super::{Context, instant};
use crate::{
    Result, audience,
    ids::ProfileId,
    membership::{Universe, preview},
    profile::lookup::{self, Name},
};

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
    /// Count profiles without a user_id as well.
    #[arg(long)]
    pub include_anonymous: bool,
}

#[derive(Serialize)]
struct Preview {
    at: DateTime<Utc>,
    members: u64,
    sample: Vec<Name>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let expr = audience::parse("the query", &args.query)?;
    let pool = context.store().await?;
    let formula = preview::formula(&pool, &expr).await?;
    let at = args.at.unwrap_or_else(|| context.clock().now());
    let universe = Universe::users(args.include_anonymous);
    let members = preview::members(&pool, &formula, &universe, at).await?;
    let sample: Vec<ProfileId> = members.iter().take(args.sample).map(ProfileId).collect();
    let sample = lookup::names(&mut *pool.acquire().await?, &sample).await?;
    context.output().show(&Preview { at, members: members.len(), sample }, |preview| {
        let names: Vec<String> = preview.sample.iter().map(|name| format!("  {name}")).collect();
        let more = preview.members.saturating_sub(names.len() as u64);
        let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
        format!("{} members as of {}\n{}{more}", preview.members, preview.at.to_rfc3339(), names.join("\n"))
    })
}
