//! `rollcall members`: who is in, now or as of any run?

use super::Context;
use crate::{
    Result,
    ids::{ProfileId, RunId},
    membership::history,
    profile::lookup,
};

/// Members named in one query.
const PAGE: usize = 5_000;

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
    let pool = context.store().await?;
    let members = history::members(&pool, &args.key, args.run.map(RunId)).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let output = context.output();
    let mut conn = pool.acquire().await?;
    // Page by page: a list of millions takes no more memory than one of hundreds.
    let listed: Vec<ProfileId> = members.iter().take(limit).map(ProfileId).collect();
    for page in listed.chunks(PAGE) {
        for name in lookup::names(&mut conn, page).await? {
            if output.is_json() {
                output.record(&name)?;
            } else {
                output.line(&name.to_string())?;
            }
        }
    }
    if !output.is_json() && members.len() > args.limit {
        output.note(&format!("{} of {} members; --limit shows more.", args.limit, members.len()))?;
    }
    Ok(())
}
