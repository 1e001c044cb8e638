//! When was each audience last true, and how far behind is each destination? Read from the runs and the log; judged by
//! [`crate::schedule::Promise`], purely. Nothing here is written, and nobody is waited for.
//!
//! An audience is true as of the last run of which every destination has been told every change. A run that changes nothing for a
//! destination counts as told there once all before it is; a held run counts for nothing. What a backfill has still to tell is not
//! told, be it paused or not. Disabled audiences and destinations are left out: nothing is promised of them.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};

use crate::{
    Result,
    config::{self, Config},
    ids::RunId,
    runs::failed::Failure,
    schedule::{Facts, Fresh, Freshness, Promise, Setting},
};

/// An enabled audience or computed trait of the configuration.
#[derive(Debug, Clone, Serialize)]
pub struct Audience {
    pub key: String,
    #[serde(flatten)]
    pub fresh: Fresh,
    /// Zero unless it is overdue.
    pub overdue_seconds: i64,
    /// The instant of the last run that every destination has been told.
    pub true_as_of: Option<DateTime<Utc>>,
    /// The instant of the last accepted run, told or not.
    pub computed_as_of: Option<DateTime<Utc>>,
    /// The enabled destinations that have not been told all of the last accepted run.
    pub behind: Vec<String>,
    /// As of the last run.
    pub members: Option<i64>,
    /// Since the last run that was sealed.
    pub failed_attempts: i32,
    /// The latest failure since the last run that was sealed.
    pub last_failure: Option<Failure>,
    /// The run that waits for a person, and holds up what is told.
    pub held_run: Option<RunId>,
}

/// All that is to be known of freshness at one instant.
#[derive(Debug, Clone)]
pub struct Survey {
    pub at: DateTime<Utc>,
    /// In the order of the configuration; computed traits after them, whose members are those who have a value.
    pub audiences: Vec<Audience>,
    /// By destination, how long ago the oldest run was sealed that it was not told in full.
    pub untold_seconds: HashMap<String, f64>,
}

impl Survey {
    /// The audiences that are overdue, whoever waits longest first.
    pub fn overdue(&self) -> Vec<&Audience> {
        let is_overdue = |audience: &&Audience| audience.fresh.freshness == Freshness::Overdue;
        let mut overdue: Vec<_> = self.audiences.iter().filter(is_overdue).collect();
        overdue.sort_by_key(|audience| audience.fresh.due_by);
        overdue
    }
}

/// Judges every enabled audience and computed trait of a configuration at `now`.
///
/// # Errors
/// If the database cannot be asked.
pub async fn survey(pool: &PgPool, config: &Config, now: DateTime<Utc>) -> Result<Survey> {
    let (known, untold) = (known(pool).await?, untold(pool).await?);
    let promised = config.audiences.iter().filter(|of| of.enabled).map(Promised::from);
    let promised = promised.chain(config.traits.iter().filter(|of| of.enabled).map(Promised::from));
    let audiences = promised.map(|of| judge(config, of, &known, &untold, now)).collect();
    let mut untold_seconds: HashMap<String, f64> = HashMap::new();
    for row in untold {
        let oldest = untold_seconds.entry(row.destination).or_default();
        *oldest = oldest.max(row.age_seconds);
    }
    Ok(Survey { at: now, audiences, untold_seconds })
}

/// What the configuration says of an audience or a computed trait.
struct Promised<'a> {
    key: String,
    schedule: Option<&'a Setting>,
    fresh_within: Option<&'a str>,
    destinations: Option<&'a [String]>,
}

impl<'a> From<&'a config::Audience> for Promised<'a> {
    fn from(of: &'a config::Audience) -> Self {
        let (fresh_within, destinations) = (of.fresh_within.as_deref(), of.destinations.as_deref());
        Promised { key: of.key(), schedule: of.schedule.as_ref(), fresh_within, destinations }
    }
}

impl<'a> From<&'a config::Trait> for Promised<'a> {
    fn from(of: &'a config::Trait) -> Self {
        let (fresh_within, destinations) = (of.fresh_within.as_deref(), of.destinations.as_deref());
        Promised { key: of.key(), schedule: of.schedule.as_ref(), fresh_within, destinations }
    }
}

fn judge(
    config: &Config,
    promised: Promised<'_>,
    known: &HashMap<String, Known>,
    untold: &[Untold],
    now: DateTime<Utc>,
) -> Audience {
    let Promised { key, schedule, fresh_within, destinations } = promised;
    let known = known.get(&key);
    let is_listening = |name: &str| {
        config.destinations.get(name).is_some_and(|destination| destination.enabled)
            && destinations.is_none_or(|chosen| chosen.iter().any(|chosen| chosen == name))
    };
    let behind: Vec<&Untold> = untold.iter().filter(|row| row.key == key && is_listening(&row.destination)).collect();
    let computed_as_of = known.and_then(|known| known.evaluated_at);
    let true_as_of = match behind.iter().any(|row| row.told_as_of.is_none()) {
        true => None,
        false => behind.iter().filter_map(|row| row.told_as_of).min().or(computed_as_of),
    };
    // A destination that is new to the audience is expected to know it from the first run on that it is to be told.
    let first_run = behind.iter().filter(|row| row.told_as_of.is_none()).map(|row| row.evaluated_at).max();
    let known_since = known.map(|known| known.created_at).max(first_run);
    let schedule = schedule.and_then(|setting| setting.parse(&key).ok());
    let within = fresh_within.and_then(|text| Promise::within(text).ok());
    let fresh =
        Promise { key: &key, schedule: schedule.as_ref(), within }.judge(Facts { known_since, true_as_of }, now);
    let mut behind: Vec<String> = behind.into_iter().map(|row| row.destination.clone()).collect();
    behind.sort();
    behind.dedup();
    Audience {
        fresh,
        overdue_seconds: fresh.overdue_for(now).num_seconds(),
        true_as_of,
        computed_as_of,
        behind,
        members: known.and_then(|known| known.members),
        failed_attempts: known.map_or(0, |known| known.failed_attempts),
        last_failure: known.and_then(|known| known.last_failure.clone()).map(|Json(failure)| failure),
        held_run: known.and_then(|known| known.held_run),
        key,
    }
}

impl Audience {
    /// How old what is told of it is; `None` before anything was.
    pub fn lag(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.true_as_of.map(|as_of| now - as_of)
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Known {
    key: String,
    created_at: DateTime<Utc>,
    evaluated_at: Option<DateTime<Utc>>,
    members: Option<i64>,
    failed_attempts: i32,
    last_failure: Option<Json<Failure>>,
    held_run: Option<RunId>,
}

/// What the store knows of each audience, by key.
async fn known(pool: &PgPool) -> Result<HashMap<String, Known>> {
    let rows: Vec<Known> = sqlx::query_as(
        "select a.key, a.created_at, r.evaluated_at, r.members,
                case s.state when 'failed' then s.attempt when 'running' then s.attempt - 1 else 0 end as failed_attempts,
                (select jsonb_build_object('failed_at', f.failed_at, 'scheduled_for', f.scheduled_for, 'attempt', f.attempt,
                                           'reason', f.reason)
                 from failed_runs f where f.audience_id = a.id and f.failed_at > coalesce(r.sealed_at, '-infinity')
                 order by f.id desc limit 1) as last_failure,
                (select h.id from runs h where h.audience_id = a.id and h.state = 'held') as held_run
         from audiences a
         left join lateral (
             select evaluated_at, sealed_at, members from runs
             where audience_id = a.id and state in ('sealed', 'released') order by id desc limit 1
         ) r on true
         left join schedules s on s.audience_id = a.id
         where a.state <> 'deleted'",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.key.clone(), row)).collect())
}

/// An audience of which a destination was not told everything.
#[derive(Debug, sqlx::FromRow)]
struct Untold {
    key: String,
    destination: String,
    /// The instant of the first run that is not told in full.
    evaluated_at: DateTime<Utc>,
    /// The instant of the run before it; `None` if the destination was never told of the audience.
    told_as_of: Option<DateTime<Utc>>,
    /// Since that first run was sealed.
    age_seconds: f64,
}

async fn untold(pool: &PgPool) -> Result<Vec<Untold>> {
    // The log has no gap, so what is untold begins with the range in which the cursor stands: found by the key, whatever the log's
    // length.
    Ok(sqlx::query_as(
        "select a.key, u.destination, r.evaluated_at,
                extract(epoch from clock_timestamp() - r.sealed_at)::float8 as age_seconds,
                (select b.evaluated_at from runs b where b.audience_id = r.audience_id and b.id < r.id
                   and b.state in ('sealed', 'released') order by b.id desc limit 1) as told_as_of
         from (
             select d.name as destination, x.audience_id, min(x.id) as run_id
             from destinations d
             left join deliveries v on v.destination_id = d.id
             cross join lateral (
                 select run_id from deltas
                 where destination_id = d.id and to_position > coalesce(v.cursor_position, 0)
                   and from_position >= coalesce((
                       select max(from_position) from deltas
                       where destination_id = d.id and from_position <= coalesce(v.cursor_position, 0)), 0)
             ) l
             join runs x on x.id = l.run_id
             where d.next_position > coalesce(v.cursor_position, 0)
             group by d.name, x.audience_id
             union all
             -- What is left to a backfill is in no log yet, so the run that opened it is not told.
             select d.name, b.audience_id, x.id
             from backfills b
             join destinations d on d.id = b.destination_id
             cross join lateral (
                 select max(id) as id from runs
                 where audience_id = b.audience_id and sealed_at <= b.created_at and state in ('sealed', 'released')
             ) x
             where b.kind = 'changes' and b.state in ('running', 'paused')
         ) u
         join runs r on r.id = u.run_id
         join audiences a on a.id = r.audience_id",
    )
    .fetch_all(pool)
    .await?)
}
