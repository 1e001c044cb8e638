//! What is true now, and who must be told? Evaluating, diffing and recording a tick's runs, all of it or none.
//!
//! One REPEATABLE READ transaction on the primary sees one snapshot, and stores each run, the new membership, and the
//! run's range in each destination's gapless log. Nothing outside it writes the log.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::{
    Due, Settings, Universe,
    diff::{self, Change},
    evaluate, log,
    register::Registered,
};
use crate::{
    Error, Result,
    fault::{self, Point},
    ids::{AudienceId, RunId},
    schedule::{Firing, fire, lease::Lease},
};

/// What a tick is about.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// In dependency order: whoever refers to another comes after it.
    pub audiences: &'a [Registered],
    /// Everything is evaluated as of this instant.
    pub t: DateTime<Utc>,
    /// Evaluate and diff, but record nothing.
    pub dry_run: bool,
    /// The ticks that fired for these audiences, and the lease of the instance for which they did; none where a person
    /// asked. Each is noted as done in the transaction that seals its run.
    pub fired: Option<(&'a [Firing], &'a Lease)>,
}

/// One audience's run, as recorded (or, in a dry run, as it would be).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Run {
    /// `None` in a dry run.
    pub run: Option<RunId>,
    pub key: String,
    pub evaluated_at: DateTime<Utc>,
    pub members: u64,
    /// Against the run before.
    pub entered: u64,
    pub exited: u64,
    /// Of the whole tick, whose audiences share their scans.
    pub evaluate_ms: i64,
}

/// Seals one tick. An audience that cannot be evaluated fails alone; its slot holds why.
///
/// # Errors
/// If the database goes away or is no primary: then nothing was recorded.
pub async fn seal(pool: &PgPool, tick: Tick<'_>) -> Result<Vec<(String, Result<Run>)>> {
    let mut conn = log::writer(pool).await?;
    let mut tx = log::begin(&mut conn).await?;
    let runs = seal_in(&mut tx, tick).await?;
    if tick.dry_run {
        tx.rollback().await?;
    } else {
        fault::point(Point::BeforeSeal);
        tx.commit().await?;
        fault::point(Point::AfterSeal);
    }
    conn.close().await?;
    Ok(runs)
}

async fn seal_in(tx: &mut PgConnection, tick: Tick<'_>) -> Result<Vec<(String, Result<Run>)>> {
    let snapshot = snapshot(tx).await?;
    let previous = memberships(tx).await?;
    let universes: Vec<Universe> =
        tick.audiences.iter().map(|due| Universe::of(due.audience.options.counting_types())).collect();
    let due: Vec<Due<'_>> = tick
        .audiences
        .iter()
        .zip(&universes)
        .map(|(due, universe)| Due { key: &due.audience.key, formula: &due.audience.formula, universe })
        .collect();
    let settings = Settings { remember: !tick.dry_run, ..Settings::default() };
    let computed = evaluate(tx, tick.t, &due, &previous, &settings).await?;
    let evaluate_ms = computed.statistics.took.as_millis() as i64;

    let mut runs = Vec::with_capacity(tick.audiences.len());
    for (audience, (key, members)) in tick.audiences.iter().zip(computed.audiences) {
        let members = match members {
            Ok(members) => members,
            Err(error) => {
                runs.push((key, Err(error)));
                continue;
            }
        };
        if !finish(tx, &tick, audience.id).await? {
            runs.push((key, Err(Error::wait("another instance has taken over this run"))));
            continue;
        }
        let empty = RoaringBitmap::new();
        let before = previous.get(&key).unwrap_or(&empty);
        let change = Change::between(before, &members);
        let mut run = Run {
            run: None,
            key: key.clone(),
            evaluated_at: tick.t,
            members: members.len(),
            entered: change.entered.len(),
            exited: change.exited.len(),
            evaluate_ms,
        };
        if !tick.dry_run {
            run.run = Some(record(tx, audience, &run, &change, &members, &snapshot).await?);
            for destination in &audience.destinations {
                log::tell(tx, destination, audience, &run, &change, &members).await?;
            }
        }
        runs.push((key, Ok(run)));
    }
    Ok(runs)
}

/// Notes the audience's tick as done, before anything of its run is written. False if the tick is another instance's by
/// now: then nothing may be written. **This is what makes a tick sealed once**: the row stays locked until the commit, so
/// whoever would take over waits for it, and finds it done; and if somebody did so since the snapshot, the transaction fails.
async fn finish(tx: &mut PgConnection, tick: &Tick<'_>, audience: AudienceId) -> Result<bool> {
    let Some((firings, lease)) = tick.fired else { return Ok(true) };
    match firings.iter().find(|firing| firing.audience == audience) {
        Some(firing) => fire::finish(tx, firing, lease).await,
        None => Ok(true),
    }
}

/// The snapshot that the transaction has just taken; refuses a standby, whose snapshots are no watermark.
async fn snapshot(tx: &mut PgConnection) -> Result<String> {
    let row = sqlx::query("select pg_current_snapshot()::text as snapshot, pg_is_in_recovery() as standby")
        .fetch_one(tx)
        .await?;
    if row.try_get("standby")? {
        return Err(Error::settings("this database is a standby").help("Point `database` at the primary."));
    }
    Ok(row.try_get("snapshot")?)
}

/// Every audience's membership as last computed, by key.
pub(super) async fn memberships(tx: &mut PgConnection) -> Result<HashMap<String, RoaringBitmap>> {
    let rows = sqlx::query("select a.key, m.members from memberships m join audiences a on a.id = m.audience_id")
        .fetch_all(tx)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("key")?, diff::decode(row.try_get::<&[u8], _>("members")?)?))).collect()
}

/// Stores the run and the membership that it found.
async fn record(
    tx: &mut PgConnection,
    audience: &Registered,
    run: &Run,
    change: &Change,
    members: &RoaringBitmap,
    snapshot: &str,
) -> Result<RunId> {
    let id: RunId = sqlx::query_scalar(
        "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count,
                           exited_count, entered, exited, evaluate_ms)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id",
    )
    .bind(audience.id)
    .bind(audience.version)
    .bind(run.evaluated_at)
    .bind(snapshot)
    .bind(run.members as i64)
    .bind(run.entered as i64)
    .bind(run.exited as i64)
    .bind(diff::encode(&change.entered))
    .bind(diff::encode(&change.exited))
    .bind(run.evaluate_ms)
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query(
        "insert into memberships (audience_id, run_id, members) values ($1, $2, $3)
         on conflict (audience_id) do update set run_id = excluded.run_id, members = excluded.members",
    )
    .bind(audience.id)
    .bind(id)
    .bind(diff::encode(members))
    .execute(tx)
    .await?;
    Ok(id)
}
