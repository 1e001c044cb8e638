//! What is old enough to go, and who needs it still? Decides by the configuration, and has each store drop its own.
//!
//! Nothing that an audience looks at, a destination has not been told, or a person must decide about is dropped because it
//! is old; only who says so in the configuration gives up events that are looked at.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::{
    Result,
    audience::{catalogue::Catalogue, check::Known, lookback::Lookback},
    config::Config,
    delta::turn::Turn,
    profile,
    runs::prune,
};

/// Until when everything is to be dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    pub runs: Option<DateTime<Utc>>,
    pub events: Option<DateTime<Utc>>,
    pub message_ids: DateTime<Utc>,
    /// What is kept for longer than it was said, or dropped although it is needed, and why.
    pub notes: Vec<String>,
}

impl Bounds {
    /// As the configuration says at `now`. Pure.
    pub fn of(config: &Config, now: DateTime<Utc>) -> Bounds {
        let retention = &config.retention;
        let before = |days: u32| now - TimeDelta::days(i64::from(days));
        let mut bounds = Bounds {
            runs: retention.runs_days().map(before),
            events: retention.events_days().map(before),
            message_ids: before(retention.message_ids_days()),
            notes: Vec::new(),
        };
        if let Some(events) = bounds.events {
            bounds.events = bounds.heed_definitions(config, now, events);
        }
        bounds
    }

    /// Moves the bound of events back to where every audience has what it looks at; none if one looks at everything.
    fn heed_definitions(
        &mut self,
        config: &Config,
        now: DateTime<Utc>,
        events: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let catalogue = Catalogue::of(config, &Known::default());
        let read = catalogue.audiences.iter().map(|audience| (&audience.key, Lookback::of(&audience.computed)));
        // Nobody knows what a definition looks at that cannot be read.
        let refused = catalogue.refused.keys().map(|key| (key, Lookback::Everything));
        let drops = config.retention.drop_needed_events;
        let mut bound = Some(events);
        for (key, lookback) in read.chain(refused) {
            let (needed, looks) = match lookback {
                Lookback::Bounded(span) if now - span >= events => continue,
                Lookback::Bounded(span) => (Some(now - span), format!("{} days back", span.num_days())),
                Lookback::Everything => (None, "at events however old".to_owned()),
            };
            if drops {
                self.notes.push(format!("'{key}' looks {looks}: it counts what is left of them"));
            } else {
                self.notes.push(format!("'{key}' looks {looks}: they are kept"));
                bound = bound.zip(needed).map(|(bound, needed)| bound.min(needed));
            }
        }
        if !drops && !self.notes.is_empty() {
            let help = "give it a nearer window, or set `retention.drop_needed_events`";
            self.notes.push(format!("to drop them, {help}"));
        }
        bound
    }
}

/// What of one thing went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// `runs`, `events` or `message_ids`.
    pub what: &'static str,
    /// The audience or the table.
    pub of: String,
    pub rows: i64,
    pub bytes: i64,
    /// Why it is still there, if it is.
    pub kept: Option<String>,
}

/// Drops what is past its bound, or only says what would go.
///
/// # Errors
/// The database's own; what went stays gone, and the next call goes on.
pub async fn prune(pool: &PgPool, bounds: &Bounds, dry_run: bool) -> Result<Vec<Dropped>> {
    // No evaluation reads what is being dropped, and no run is sealed meanwhile.
    let mut turn = Turn::wait(pool, None).await?;
    let mut dropped = Vec::new();
    if let Some(before) = bounds.runs {
        let runs = prune::runs(turn.connection(), before, dry_run).await?;
        dropped.extend(runs.into_iter().map(|runs| Dropped {
            what: "runs",
            of: runs.audience,
            rows: runs.runs,
            bytes: runs.bytes,
            kept: (runs.untold > 0).then(|| format!("{} runs are still to be told", runs.untold)),
        }));
    }
    let of_table = |what, table: profile::prune::Dropped| Dropped {
        what,
        of: table.table,
        rows: table.rows,
        bytes: table.bytes,
        kept: table.in_use.then(|| "in use; tried again next time".to_owned()),
    };
    if let Some(before) = bounds.events {
        let events = profile::prune::events(turn.connection(), before, dry_run).await?;
        dropped.extend(events.into_iter().map(|table| of_table("events", table)));
    }
    let ids = profile::prune::message_ids(turn.connection(), bounds.message_ids, dry_run).await?;
    dropped.extend(ids.map(|table| of_table("message_ids", table)));
    Ok(dropped)
}

/// Begins the daily pruning, if no instance has begun it within a day. The guarded row makes it one instance's.
///
/// # Errors
/// The database's own.
pub async fn begin_daily(pool: &PgPool) -> Result<bool> {
    let begun = sqlx::query(
        "insert into upkeep as u (name, begun_at) values ('prune', now())
         on conflict (name) do update set begun_at = now() where u.begun_at < now() - interval '1 day'",
    );
    Ok(begun.execute(pool).await?.rows_affected() == 1)
}
