//! What is true now, and who must be told? Evaluating, diffing and recording a tick's runs, all of it or none.
//!
//! One REPEATABLE READ transaction on the primary sees one snapshot, and stores each run, the new membership, and the
//! run's range in each destination's gapless log. Nothing outside it writes the log.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{Connection, PgConnection, PgPool, Row, types::Json};
use tracing::{Instrument as _, info_span};

use super::{fire, held};
use crate::{
    Error, Result,
    audience::{Class, Computed},
    database,
    delta::{log, renamed::Came, turn::Turn},
    evaluate::{Due, DueValue, Settings, Universe, evaluate_all},
    fault::{self, Point, Safeguard},
    ids::{AudienceId, RunId},
    lease::Lease,
    membership::{
        diff::{self, Change},
        guard::{self, Counts, Held, Limit},
        run::{Run, RunState},
        stored,
    },
    profile::leaving,
    registry::register::{self, Registered},
    schedule::Firing,
    values::{self, settle::Settled},
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
    let previous = stored::memberships(tx).await?;
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
    let mut passed_over = computed.passed_over;
    let evaluate_ms = computed.statistics.took.as_millis() as i64;

    let suppressed = leaving::suppressed(tx).await?;
    let members = computed.audiences.into_iter().map(|(key, members)| {
        let before = previous.get(&key);
        let settled = members.map(|members| settle_members(members, before, &suppressed));
        (key, settled)
    });
    let mut settled: HashMap<String, Result<Settled>> = members.chain(computed.values).collect();
    let mut runs = Vec::with_capacity(tick.audiences.len());
    let mut came = Came::default();
    for audience in tick.audiences {
        let key = audience.audience.key.clone();
        let settled = match settled.remove(&key) {
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
        let before = previous.get(&key).map(RoaringBitmap::len);
        let limit = settings.limits.get(&key);
        let verdict = limit.and_then(|limit| judge(audience.audience.computed.class(), before, &settled, limit));
        let mut run = Run {
            run: None,
            key: key.clone(),
            evaluated_at: tick.t,
            members: settled.members.len(),
            entered: settled.change.entered.len(),
            exited: settled.change.exited.len(),
            evaluate_ms,
            state: if verdict.is_some() { RunState::Held } else { RunState::Sealed },
            held_because: verdict.as_ref().map(Held::to_string),
            passed_over: passed_over.remove(&key),
        };
        if !tick.dry_run {
            let firing = tick.firing(audience.id);
            let id = record(tx, audience, firing, &run, &settled.change, &settled.members, &snapshot).await?;
            run.run = Some(id);
            store(tx, audience, id, &run, &settled, &mut came).await?;
        }
        runs.push((key, Ok(run)));
    }
    Ok(runs)
}

/// The members that count, and how they differ from those before.
fn settle_members(mut members: RoaringBitmap, before: Option<&RoaringBitmap>, suppressed: &RoaringBitmap) -> Settled {
    let empty = RoaringBitmap::new();
    let before = before.unwrap_or(&empty);
    diff::keep(&mut members, suppressed, before);
    Settled { change: Change::between(before, &members), members, ..Settled::default() }
}

/// Why the run waits for a person, if it does.
fn judge(class: Class, before: Option<u64>, settled: &Settled, limit: &Limit) -> Option<Held> {
    let counts = Counts { entered: settled.change.entered.len(), exited: settled.change.exited.len() };
    match class {
        Class::Audience => guard::judge(before, counts, limit),
        Class::Trait => guard::judge_values(before.is_none(), counts, settled.standing, limit),
    }
}

/// Stores what a recorded run found, and tells each destination. Nobody is told of a held run: it stays as it is recorded.
async fn store(
    tx: &mut PgConnection,
    audience: &Registered,
    id: RunId,
    run: &Run,
    settled: &Settled,
    came: &mut Came,
) -> Result<()> {
    let Settled { members, change, chunks, patches, columns, .. } = settled;
    values::name(tx, audience.id, columns).await?;
    values::seal_patches(tx, id, patches).await?;
    if run.state == RunState::Held {
        return values::hold(tx, id, chunks).await;
    }
    held::accept(tx, audience.id, id, members).await?;
    values::store(tx, audience.id, chunks).await?;
    for destination in &audience.destinations {
        log::tell(tx, destination, log::Of::registered(audience), run, change, members, came).await?;
    }
    Ok(())
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
    held::close(tx, audience.id, RunState::Superseded).await?;
    Ok(sqlx::query_scalar(
        "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count,
                           exited_count, entered, exited, evaluate_ms, state, held_because, held_members,
                           scheduled_for, attempt, passed_over)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) returning id",
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
    .bind((run.state == RunState::Held).then(|| diff::encode(members)))
    .bind(firing.map(|firing| firing.scheduled_for))
    .bind(firing.map(|firing| firing.attempt))
    .bind(run.passed_over.map(Json))
    .fetch_one(tx)
    .await?)
}
