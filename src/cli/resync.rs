//! `rollcall resync`: tell the whole of an audience again.

use std::time::Duration;

use clap::ValueEnum;
use sqlx::PgPool;

use super::{Context, Progress, backfills};
use crate::{
    Error, Result,
    audience::{catalogue::Catalogue, check::Known},
    config::Config,
    delta::backfill::{self, BackfillRow, State},
    ids::BackfillId,
    registry::configured,
    sync,
};

/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Tell the whole of an audience again: `true` to its members, `false` to those who were once.
///
/// As last computed: nothing is computed anew. The messages are new ones, with ids of their own. It is told beside what changes, which
/// goes first, and each change of a person is told in its order. It may be ended at any time, and goes on with the next
/// `rollcall sync` or `rollcall serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall resync big_spenders                           to all of its destinations
  rollcall resync big_spenders --destination kafka       to this one
  rollcall resync big_spenders --only true               `true` to its members alone
  rollcall resync big_spenders --detach                  leave it to `rollcall serve`
  rollcall backfills                                     how far it is; pause, resume, cancel")]
pub struct Args {
    /// The audience's key.
    #[arg(value_name = "KEY")]
    pub key: String,
    /// One destination; all that the audience has, if not given.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// `true` to the members alone, or `false` alone to those who were members and are no longer.
    #[arg(long, value_enum, value_name = "true|false")]
    pub only: Option<Only>,
    /// Identify events told a second, at most; the audience's `rate_limit` if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_limit: Option<u32>,
    /// Leave it to `rollcall serve`, or to the next sync.
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Only {
    True,
    False,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let catalogue = Catalogue::of(&config, &Known::default()).select(std::slice::from_ref(&args.key))?;
    let Some(audience) = catalogue.audiences.first() else {
        return Err(catalogue.refused.into_values().next().unwrap_or_else(|| Error::internal("no audience is left")));
    };
    let destinations = match &args.destination {
        None => audience.destinations.clone(),
        Some(name) if audience.destinations.contains(name) => vec![name.clone()],
        Some(name) => {
            return Err(Error::settings(format!("audience '{}' is not told to a destination '{name}'", args.key))
                .help(format!("It is told to {}.", audience.destinations.join(", "))));
        }
    };
    let only = args.only.map(|only| match only {
        Only::True => backfill::Only::True,
        Only::False => backfill::Only::False,
    });
    let pool = context.store().await?;
    configured::note_audiences(&pool, &catalogue.audiences).await?;
    let mut ids = Vec::new();
    for destination in &destinations {
        ids.push(backfill::resync(&pool, &args.key, destination, only, args.rate_limit).await?);
    }
    if !args.detach {
        tell(&pool, &config, &destinations, &ids, context).await?;
    }
    backfills::show(&rows(&pool, &ids).await?, context)
}

/// Tells it here, or follows the instance that does, until all is told, paused or cancelled.
pub(super) async fn tell(
    pool: &PgPool,
    config: &Config,
    destinations: &[String],
    ids: &[BackfillId],
    context: &Context,
) -> Result<()> {
    let instance = context.instance().await?;
    let total = rows(pool, ids).await?.iter().map(|row| row.total as u64).sum();
    let mut bar = context.output().progress("changes told", Some(total));
    let told = async {
        for (_, told) in sync::tell_again(&instance, config, destinations).await {
            told?;
        }
        Ok(())
    };
    tokio::pin!(told);
    let mut done = 0;
    loop {
        let ended = tokio::select! {
            ended = &mut told => Some(ended),
            () = tokio::time::sleep(LOOK) => None,
        };
        let rows = rows(pool, ids).await?;
        advance(&mut bar, &mut done, &rows);
        match ended {
            Some(ended) => return ended,
            None if rows.iter().all(|row| row.state != State::Running) => return Ok(()),
            None => {}
        }
    }
}

fn advance(bar: &mut Progress, done: &mut u64, rows: &[BackfillRow]) {
    let now = rows.iter().map(|row| row.done as u64).sum::<u64>();
    bar.add(now.saturating_sub(*done));
    *done = now.max(*done);
}

async fn rows(pool: &PgPool, ids: &[BackfillId]) -> Result<Vec<BackfillRow>> {
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        rows.push(backfill::find(pool, *id).await?);
    }
    Ok(rows)
}
