//! What is true now, and who must be told? Evaluating, diffing and recording a tick's runs, all of it or none.
//!
//! One REPEATABLE READ transaction on the primary sees one snapshot, and stores each run, the new membership, and the
//! run's range in each destination's gapless log. Nothing outside it writes the log.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{Connection, PgConnection, PgPool, Row, postgres::PgRow};
use tracing::{Instrument as _, info_span};

use super::{
    Due, DueValue, Settings, Universe,
    diff::{self, Change},
    evaluate_all, fire,
    guard::{self, Counts, Held},
    held::{self, State},
    leave, log, merges,
    register::{self, Registered},
    renamed::Came,
    turn::Turn,
    values::{self, settle::Settled},
};
use crate::{
    Error, Result,
    audience::{Class, Computed},
    database,
    fault::{self, Point, Safeguard},
    ids::{AudienceId, RunId},
    lease::Lease,
    schedule::Firing,
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

impl Tick<'_> {
    fn firing(&self, audience: AudienceId) -> Option<&Firing> {
        self.fired?.0.iter().find(|firing| firing.audience == audience)
    }
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
    /// `sealed`; or `held`, and then nobody is told.
    pub state: State,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_because: Option<String>,
}

/// Seals one tick. An audience that cannot be evaluated fails alone; its slot holds why.
///
/// # Errors
/// If the database goes away or is no primary: then nothing was recorded.
pub async fn seal(pool: &PgPool, tick: Tick<'_>) -> Result<Vec<(String, Result<Run>)>> {
    in_turn(&mut Turn::wait(pool, None).await?, tick).await
}

/// As [`seal`], for whoever has the turn already.
///
/// # Errors
/// As [`seal`].
pub async fn in_turn(turn: &mut Turn, tick: Tick<'_>) -> Result<Vec<(String, Result<Run>)>> {
    // The turn comes before BEGIN: the snapshot must be younger than the seal before this one. It only saves wasted
    // work. Without it the second of two concurrent seals fails on `destinations` (first updater wins), recording nothing.
    let mut tx = turn.conn.begin_with("begin isolation level repeatable read").await?;
    let runs = seal_in(&mut tx, tick).instrument(info_span!("seal", audiences = tick.audiences.len())).await?;
    if tick.dry_run {
        tx.rollback().await?;
    } else {
        fault::point(Point::BeforeSeal);
        tx.commit().await?;
        fault::point(Point::AfterSeal);
    }
    Ok(runs)
}

async fn seal_in(tx: &mut PgConnection, tick: Tick<'_>) -> Result<Vec<(String, Result<Run>)>> {
    let snapshot = snapshot(tx).await?;
    let previous = memberships(tx).await?;
    let universes: Vec<Universe> =
        tick.audiences.iter().map(|due| Universe::of(due.audience.options.counting_types())).collect();
    let (mut due, mut values) = (Vec::new(), Vec::new());
    for (Registered { audience, .. }, universe) in tick.audiences.iter().zip(&universes) {
        let key = &audience.key;
        match &audience.computed {
            Computed::Members { formula, .. } => due.push(Due { key, formula, universe }),
            computed => values.push(DueValue { key, computed, universe }),
        }
    }
    let deleted = register::deleted(tx, tick.audiences).await?;
    let limits = held::limits(tx, tick.audiences).await?;
    let settings = Settings { remember: !tick.dry_run, limits, ..Settings::default() };
    let computed = evaluate_all(tx, tick.t, &due, &values, &previous, &settings)
        .instrument(info_span!("evaluate", audiences = due.len(), traits = values.len()))
        .await?;
    let evaluate_ms = computed.statistics.took.as_millis() as i64;

    let suppressed = leave::suppressed(tx).await?;
    let members = computed.audiences.into_iter().map(|(key, members)| {
        let empty = RoaringBitmap::new();
        let before = previous.get(&key).unwrap_or(&empty);
        let settled = members.map(|mut members| {
            leave::keep(&mut members, &suppressed, before);
            Settled { change: Change::between(before, &members), members, ..Settled::default() }
        });
        (key, settled)
    });
    let mut settled: HashMap<String, Result<Settled>> = members.chain(computed.values).collect();
    let mut runs = Vec::with_capacity(tick.audiences.len());
    let mut came = Came::default();
    for audience in tick.audiences {
        let key = audience.audience.key.clone();
        let Settled { members, change, standing, chunks, patches, columns } = match settled.remove(&key) {
            Some(Ok(settled)) => settled,
            Some(Err(error)) => {
                runs.push((key, Err(error)));
                continue;
            }
            None => return Err(Error::internal("what was due was not evaluated")),
        };
        if deleted.contains(&audience.id) {
            let error = Error::settings("it was deleted").help("Take it out of the configuration, or reload that.");
            runs.push((key, Err(error)));
            continue;
        }
        if !finish(tx, &tick, audience.id).await? {
            runs.push((key, Err(Error::wait("another instance has taken over this run"))));
            continue;
        }
        let counts = Counts { entered: change.entered.len(), exited: change.exited.len() };
        let before = previous.get(&key).map(RoaringBitmap::len);
        let verdict = settings.limits.get(&key).and_then(|limit| match audience.audience.computed.class() {
            Class::Audience => guard::judge(before, counts, limit),
            Class::Trait => guard::judge_values(before.is_none(), counts, standing, limit),
        });
        let mut run = Run {
            run: None,
            key: key.clone(),
            evaluated_at: tick.t,
            members: members.len(),
            entered: change.entered.len(),
            exited: change.exited.len(),
            evaluate_ms,
            state: if verdict.is_some() { State::Held } else { State::Sealed },
            held_because: verdict.as_ref().map(Held::to_string),
        };
        if !tick.dry_run {
            let firing = tick.firing(audience.id);
            let id = record(tx, audience, firing, &run, &change, &members, &snapshot).await?;
            run.run = Some(id);
            values::name(tx, audience.id, &columns).await?;
            values::seal_patches(tx, id, &patches).await?;
            // Nobody is told of a held run: it stays as it is recorded.
            if run.state == State::Sealed {
                held::accept(tx, audience.id, id, &members).await?;
                values::store(tx, audience.id, &chunks).await?;
                for destination in &audience.destinations {
                    let of = log::Of::registered(audience);
                    log::tell(tx, destination, of, &run, &change, &members, &mut came).await?;
                }
            } else {
                values::hold(tx, id, &chunks).await?;
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
    match (tick.firing(audience), tick.fired) {
        (Some(firing), Some((_, lease))) if Safeguard::SealOnce.is_on() => fire::finish(tx, firing, lease).await,
        _ => Ok(true),
    }
}

/// The snapshot that the transaction has just taken; refuses a standby, whose snapshots are no watermark.
pub(super) async fn snapshot(tx: &mut PgConnection) -> Result<String> {
    let row = sqlx::query("select pg_current_snapshot()::text as snapshot, pg_is_in_recovery() as standby")
        .fetch_one(tx)
        .await?;
    if row.try_get("standby")? {
        return Err(database::standby());
    }
    Ok(row.try_get("snapshot")?)
}

/// Every audience's membership as last computed, by key.
pub(super) async fn memberships(tx: &mut PgConnection) -> Result<HashMap<String, RoaringBitmap>> {
    let rows = sqlx::query(
        "select a.key, m.members, r.last_merge from memberships m join audiences a on a.id = m.audience_id
         join runs r on r.id = m.run_id",
    )
    .fetch_all(&mut *tx)
    .await?;
    let decode = |row: &PgRow| Ok((row.try_get("key")?, diff::decode(row.try_get::<&[u8], _>("members")?)?));
    let mut memberships: Vec<(String, RoaringBitmap)> = rows.iter().map(decode).collect::<Result<_>>()?;
    let last: Vec<i64> = rows.iter().map(|row| row.try_get("last_merge")).collect::<Result<_, sqlx::Error>>()?;
    merges::follow(tx, memberships.iter_mut().map(|(_, members)| members).zip(last)).await?;
    Ok(memberships.into_iter().collect())
}

/// Stores the run, which takes the place of one that is held; a held run with the membership that it found.
async fn record(
    tx: &mut PgConnection,
    audience: &Registered,
    firing: Option<&Firing>,
    run: &Run,
    change: &Change,
    members: &RoaringBitmap,
    snapshot: &str,
) -> Result<RunId> {
    held::close(tx, audience.id, State::Superseded).await?;
    Ok(sqlx::query_scalar(
        "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count,
                           exited_count, entered, exited, evaluate_ms, state, held_because, held_members,
                           scheduled_for, attempt)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) returning id",
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
    .bind(run.state)
    .bind(&run.held_because)
    .bind((run.state == State::Held).then(|| diff::encode(members)))
    .bind(firing.map(|firing| firing.scheduled_for))
    .bind(firing.map(|firing| firing.attempt))
    .fetch_one(tx)
    .await?)
}
