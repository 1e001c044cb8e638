//! Which runs wait for a person, and what becomes of them?
//!
//! ```text
//!  evaluate ──► judge ─┬─► sealed ──────────────────┬──► membership, told, log
//!                      └─► held ─┬─ release ► released
//!                                ├─ discard ► discarded
//!                                └─ next run of the audience ► superseded
//! ```
//!
//! **A held run sends nothing**: it is a row of `runs` with its result. Until a person releases it, the membership, what was
//! told and the log stay as they were, and whoever refers to the audience gets its last accepted membership.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use serde::Serialize;
use sqlx::{Connection, PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};

use crate::{
    Error, Result,
    audience::{Class, catalogue::Audience},
    delta::{log, renamed::Came, turn::Turn},
    ids::{AudienceId, RunId},
    membership::{
        diff::{self, Change},
        guard::{Counts, Limit},
        merges,
        run::{Run, RunState},
    },
    profile::leaving,
    registry::register::{self, Registered, Terms},
    values,
};

/// What the next run of each audience may change, by key.
pub(crate) async fn limits(tx: &mut PgConnection, audiences: &[Registered]) -> Result<HashMap<String, Limit>> {
    let ids: Vec<i64> = audiences.iter().map(|of| of.id.0).collect();
    let rows: Vec<(AudienceId, i32, i64, i64)> = sqlx::query_as(
        "select audience_id, definition_version, entered, exited from confirmations where audience_id = any($1)",
    )
    .bind(&ids)
    .fetch_all(tx)
    .await?;
    let limit = |of: &Registered| {
        // What was confirmed of another version says nothing of this one.
        let row = rows.iter().find(|(audience, version, ..)| (*audience, *version) == (of.id, of.version));
        let confirmed = row
            .map(|(_, _, entered, exited)| Counts { entered: entered.unsigned_abs(), exited: exited.unsigned_abs() });
        (of.audience.key.clone(), Limit { bounds: of.audience.guard, confirmed })
    };
    Ok(audiences.iter().map(limit).collect())
}

/// Remembers what a person has confirmed of an audience's next run.
///
/// # Errors
/// The database's own.
pub async fn confirm(database: impl PgExecutor<'_>, audience: AudienceId, version: i32, seen: Counts) -> Result<()> {
    sqlx::query(
        "insert into confirmations (audience_id, definition_version, entered, exited) values ($1, $2, $3, $4)
         on conflict (audience_id) do update set definition_version = excluded.definition_version,
             entered = excluded.entered, exited = excluded.exited, confirmed_at = clock_timestamp()",
    )
    .bind(audience)
    .bind(version)
    .bind(seen.entered as i64)
    .bind(seen.exited as i64)
    .execute(database)
    .await?;
    Ok(())
}

/// Ends the waiting of an audience's held run, if it has one: a newer result is at hand, or the audience is gone.
pub(crate) async fn close(tx: &mut PgConnection, audience: AudienceId, state: RunState) -> Result<()> {
    let closed: Vec<RunId> = sqlx::query_scalar(
        "update runs set state = $2, held_members = null, decided_at = clock_timestamp()
         where audience_id = $1 and state = 'held' returning id",
    )
    .bind(audience)
    .bind(state)
    .fetch_all(&mut *tx)
    .await?;
    if closed.is_empty() { Ok(()) } else { values::let_go(tx, &closed).await }
}

/// Makes a membership the accepted one: the last step of a run that is sealed or released.
pub(crate) async fn accept(
    tx: &mut PgConnection,
    audience: AudienceId,
    run: RunId,
    members: &RoaringBitmap,
) -> Result<()> {
    store(tx, audience, run, members).await?;
    // What was confirmed has come true.
    sqlx::query("delete from confirmations where audience_id = $1").bind(audience).execute(tx).await?;
    Ok(())
}

/// Stores a membership in the place of the one before.
pub(crate) async fn store(
    tx: &mut PgConnection,
    audience: AudienceId,
    run: RunId,
    members: &RoaringBitmap,
) -> Result<()> {
    merges::note(tx, audience, run).await?;
    sqlx::query(
        "insert into memberships (audience_id, run_id, members) values ($1, $2, $3)
         on conflict (audience_id) do update set run_id = excluded.run_id, members = excluded.members",
    )
    .bind(audience)
    .bind(run)
    .bind(diff::encode(members))
    .execute(tx)
    .await?;
    Ok(())
}

/// A run that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Waiting {
    pub run: RunId,
    pub key: String,
    pub evaluated_at: DateTime<Utc>,
    pub members: i64,
    pub entered: i64,
    pub exited: i64,
    pub held_because: String,
}

/// Every held run, the oldest first.
///
/// # Errors
/// The database's own.
pub async fn waiting(pool: &PgPool) -> Result<Vec<Waiting>> {
    Ok(sqlx::query_as(
        "select r.id as run, a.key, r.evaluated_at, r.members, r.entered_count as entered, r.exited_count as exited,
                coalesce(r.held_because, '') as held_because
         from runs r join audiences a on a.id = r.audience_id where r.state = 'held' order by r.id",
    )
    .fetch_all(pool)
    .await?)
}

/// The run that a person means by its number, or by the key of its audience.
///
/// # Errors
/// [`crate::Kind::Settings`] if no run is held under that name, saying what became of the one that is meant.
pub async fn find(pool: &PgPool, meant: &str) -> Result<Waiting> {
    let number: Option<i64> = meant.parse().ok();
    let held = waiting(pool).await?;
    if let Some(found) = held.into_iter().find(|held| Some(held.run.0) == number || held.key == meant) {
        return Ok(found);
    }
    let was: Option<(String, RunState, Option<DateTime<Utc>>)> = sqlx::query_as(
        "select a.key, r.state, r.decided_at from runs r join audiences a on a.id = r.audience_id where r.id = $1",
    )
    .bind(number)
    .fetch_optional(pool)
    .await?;
    let error = match was {
        None => Error::settings(format!("no run is held as '{meant}'")),
        Some((key, state, at)) => {
            let at = at.map(|at| at.format(" at %Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default();
            let told = match state {
                RunState::Superseded => format!("was superseded{at} by a newer run of '{key}', which counts instead"),
                state => format!("of '{key}' is not held: it was {}{at}", state.name()),
            };
            Error::settings(format!("run {meant} {told}"))
        }
    };
    Err(error.help("`rollcall runs --held` lists those that are."))
}

/// Lets a held run of `audience` through, exactly as it was evaluated: its members become the accepted membership, and each
/// destination is told the difference to what it was told before. One transaction, alone like a seal.
///
/// # Errors
/// [`crate::Kind::Settings`] if somebody or something else has decided meanwhile.
pub async fn release(pool: &PgPool, run: RunId, audience: &Audience, terms: &HashMap<String, Terms>) -> Result<Run> {
    let mut turn = Turn::wait(pool, None).await?;
    let mut tx = turn.conn.begin_with("begin isolation level repeatable read").await?;
    let row = held_run(&mut tx, run, &audience.key).await?;
    let of = Registered {
        id: AudienceId(row.try_get("audience_id")?),
        version: row.try_get("definition_version")?,
        audience: audience.clone(),
        destinations: register::listeners(&mut tx, &audience.destinations, terms).await?,
    };
    let (members, change) = what_a_release_changes(&mut tx, &row, audience.computed.class()).await?;
    let released = Run {
        run: Some(run),
        key: audience.key.clone(),
        evaluated_at: row.try_get("evaluated_at")?,
        members: members.len(),
        entered: change.entered.len(),
        exited: change.exited.len(),
        evaluate_ms: row.try_get("evaluate_ms")?,
        state: RunState::Released,
        held_because: None,
        passed_over: None,
    };
    note_release(&mut tx, run, &change).await?;
    accept(&mut tx, of.id, run, &members).await?;
    values::release(&mut tx, of.id, run).await?;
    let mut came = Came::default();
    for destination in &of.destinations {
        log::tell(&mut tx, destination, log::Of::registered(&of), &released, &change, &members, &mut came).await?;
    }
    tx.commit().await?;
    Ok(released)
}

/// A held run, as it stands in the database, and the membership that is accepted now.
async fn held_run(tx: &mut PgConnection, run: RunId, key: &str) -> Result<PgRow> {
    sqlx::query(
        "select r.audience_id, r.definition_version, r.evaluated_at, r.evaluate_ms, r.held_members, r.last_merge,
                r.entered, r.exited, m.members as accepted, coalesce(o.last_merge, 0) as accepted_last_merge
         from runs r join audiences a on a.id = r.audience_id left join memberships m on m.audience_id = a.id
         left join runs o on o.id = m.run_id
         where r.id = $1 and r.state = 'held' and a.key = $2",
    )
    .bind(run)
    .bind(key)
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| decided(run))
}

/// Who is a member by a held run today, and the change from what is accepted: merges are followed, and who left is left out.
async fn what_a_release_changes(tx: &mut PgConnection, row: &PgRow, class: Class) -> Result<(RoaringBitmap, Change)> {
    let found = diff::decode(row.try_get::<&[u8], _>("held_members")?)?;
    let mut members = found.clone();
    let mut accepted = row.try_get::<Option<&[u8]>, _>("accepted")?.map(diff::decode).transpose()?.unwrap_or_default();
    let last = (row.try_get("last_merge")?, row.try_get("accepted_last_merge")?);
    merges::follow(tx, [(&mut members, last.0), (&mut accepted, last.1)]).await?;
    if class == Class::Trait {
        // A survivor has the value that the run found of him, if any: the next run computes the one of both.
        members &= found;
    }
    // Who asked to be forgotten meanwhile has left. Who was erased since has no name left to be told by.
    let leaving = leaving::ever(tx).await?;
    members -= &leaving;
    let change = match class {
        Class::Audience => Change::between(&accepted, &members),
        // Whoever has another value now: nothing was accepted since, or the run would be superseded.
        Class::Trait => Change {
            entered: diff::decode(row.try_get::<&[u8], _>("entered")?)? - leaving,
            exited: diff::decode(row.try_get::<&[u8], _>("exited")?)?,
        },
    };
    Ok((members, change))
}

/// Notes the run as released, with the difference to what is accepted now, whatever it was when the run was held.
async fn note_release(tx: &mut PgConnection, run: RunId, change: &Change) -> Result<()> {
    sqlx::query(
        "update runs set state = 'released', decided_at = clock_timestamp(), sealed_at = clock_timestamp(),
                held_members = null, entered = $2, exited = $3, entered_count = $4, exited_count = $5,
                last_merge = rollcall_last_merge(), snapshot = pg_current_snapshot()::text where id = $1",
    )
    .bind(run)
    .bind(diff::encode(&change.entered))
    .bind(diff::encode(&change.exited))
    .bind(change.entered.len() as i64)
    .bind(change.exited.len() as i64)
    .execute(tx)
    .await?;
    Ok(())
}

/// Refuses a held run for good. The audience's next run is evaluated and judged anew.
///
/// # Errors
/// [`crate::Kind::Settings`] if somebody or something else has decided meanwhile.
pub async fn discard(pool: &PgPool, run: RunId) -> Result<()> {
    let discarded = sqlx::query(
        "with decided as (
             update runs set state = 'discarded', held_members = null, decided_at = clock_timestamp()
             where id = $1 and state = 'held' returning id),
         gone as (delete from held_values where run_id in (select id from decided))
         select from decided",
    )
    .bind(run)
    .execute(pool)
    .await?;
    match discarded.rows_affected() {
        0 => Err(decided(run)),
        _ => Ok(()),
    }
}

fn decided(run: RunId) -> Error {
    Error::settings(format!("run {run} is no longer held: it was decided or superseded meanwhile"))
        .help("`rollcall runs --held` lists those that are.")
}
