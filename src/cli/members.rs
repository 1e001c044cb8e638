//! `rollcall members`: who is in, now or as of any run; or who has which value of a computed trait?

use std::{collections::HashMap, fmt};

use serde::Serialize;

use super::Context;
use crate::{
    Error, Result,
    ids::{ProfileId, RunId},
    js,
    profile::lookup::{self, Name},
    runs::history,
    values,
};

/// Members named in one query.
const PAGE: usize = 5_000;

/// List the members of an audience, as of its last run or an earlier one; or everybody's value of a computed trait.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall members big_spenders
  rollcall members big_spenders --run 17 --limit 1000
  rollcall members big_spenders --json | jq -r .user_id
  rollcall members revenue_90_days --limit 10")]
pub struct Args {
    /// Key of the audience or trait.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The run after which to look; the last one if not given. `rollcall runs` lists them.
    #[arg(long, value_name = "N")]
    pub run: Option<i64>,
    /// How many to list at most.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
}

/// A profile with its value.
#[derive(Serialize)]
pub(super) struct Valued {
    #[serde(flatten)]
    name: Name,
    value: serde_json::Value,
}

impl Valued {
    pub(super) fn new(name: Name, value: &str) -> Valued {
        Valued { name, value: serde_json::from_str(value).unwrap_or_default() }
    }
}

impl fmt::Display for Valued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = String::new();
        js::push_value(&mut value, &self.value);
        write!(f, "{}  {value}", self.name)
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let pool = context.store().await?;
    let computed = history::computed(&pool, &args.key).await?;
    if let (Some(_), Some(run)) = (computed, args.run) {
        return Err(Error::settings(format!(
            "'{}' is a computed trait, whose values of run {run} are not kept",
            args.key
        ))
        .help(
            "Leave --run out to see the values of today; `rollcall explain KEY USER --at TIME` computes one of then.",
        ));
    }
    let members = history::members(&pool, &args.key, args.run.map(RunId)).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let output = context.output();
    let mut conn = pool.acquire().await?;
    // Page by page: a list of millions takes no more memory than one of hundreds.
    let listed: Vec<ProfileId> = members.iter().take(limit).map(ProfileId).collect();
    for page in listed.chunks(PAGE) {
        let mut values: HashMap<_, _> = match computed {
            Some(computed) => values::of(&mut conn, computed, page).await?.into_iter().collect(),
            None => HashMap::new(),
        };
        for name in lookup::names(&mut conn, page).await? {
            let value = values.remove(&name.profile);
            match (output.is_json(), value) {
                (true, None) => output.record(&name)?,
                (true, Some(value)) => output.record(&Valued::new(name, &value))?,
                (false, None) => output.entry(&name.to_string())?,
                (false, Some(value)) => output.entry(&Valued::new(name, &value).to_string())?,
            }
        }
    }
    if !output.is_json() && members.len() > args.limit {
        output.note(&format!("{} of {} members; --limit shows more.", args.limit, members.len()))?;
    }
    Ok(())
}
