//! Who was in as of an earlier run? The membership of today with the runs since undone: the log makes this cheap.

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use serde::Serialize;
use sqlx::{PgPool, Row};

use super::{
    diff::{self, Change},
    held::State,
    merges::Merges,
};
use crate::{
    Error, Result,
    ids::{AudienceId, RunId},
    profile::merges,
};

/// The members of an audience after a run; after the latest one when none is named.
///
/// # Errors
/// If the database cannot be asked, the audience was never run, or has no such run ([`crate::Kind::Settings`]).
pub async fn members(pool: &PgPool, key: &str, run: Option<RunId>) -> Result<RoaringBitmap> {
    // One snapshot for the membership and the runs that it is made of.
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let latest = sqlx::query(
        "select m.audience_id, m.run_id, m.members, r.last_merge from memberships m
         join audiences a on a.id = m.audience_id join runs r on r.id = m.run_id where a.key = $1",
    )
    .bind(key)
    .fetch_optional(&mut *tx)
    .await?
    .ok_or_else(|| {
        Error::settings(format!("audience '{key}' was never run"))
            .help(format!("Run it with `rollcall sync {key}`, or list the audiences with `rollcall audiences`."))
    })?;
    let audience = AudienceId(latest.try_get("audience_id")?);
    let mut members = diff::decode(latest.try_get::<&[u8], _>("members")?)?;
    let Some(run) = run else {
        let last: i64 = latest.try_get("last_merge")?;
        Merges(merges::after(&mut tx, last).await?).follow(&mut members, last);
        return Ok(members);
    };

    let rows = sqlx::query(
        "select id, entered, exited, went, came from runs left join run_merges on run_id = id
         where audience_id = $1 and id >= $2 and state in ('sealed', 'released') order by id desc",
    )
    .bind(audience)
    .bind(run)
    .fetch_all(&mut *tx)
    .await?;
    if rows.last().map(|row| row.try_get("id")).transpose()? != Some(run) {
        return Err(Error::settings(format!("audience '{key}' has no accepted run {run}"))
            .help(format!("List its runs with `rollcall runs {key}`; those that were held changed nothing.")));
    }
    for row in &rows[..rows.len() - 1] {
        let change = Change {
            entered: diff::decode(row.try_get::<&[u8], _>("entered")?)?,
            exited: diff::decode(row.try_get::<&[u8], _>("exited")?)?,
        };
        members = change.undo(&members);
        if let (Some(went), Some(came)) = (row.try_get::<Option<&[u8]>, _>("went")?, row.try_get("came")?) {
            let merged = Change { entered: diff::decode(came)?, exited: diff::decode(went)? };
            members = merged.undo(&members);
        }
    }
    Ok(members)
}

/// The id of the computed trait with this key; none if it is not one.
///
/// # Errors
/// The database's own.
pub async fn computed(pool: &PgPool, key: &str) -> Result<Option<AudienceId>> {
    Ok(sqlx::query_scalar("select id from audiences where key = $1 and class = 'trait'")
        .bind(key)
        .fetch_optional(pool)
        .await?)
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct RunRow {
    pub run: RunId,
    pub key: String,
    pub definition_version: i32,
    pub evaluated_at: DateTime<Utc>,
    pub sealed_at: DateTime<Utc>,
    pub members: i64,
    pub entered: i64,
    pub exited: i64,
    pub evaluate_ms: i64,
    pub state: State,
    /// Why it is or was held.
    pub held_because: Option<String>,
    /// Changes of this run that some destination has not been told, as far as Postgres knows.
    pub pending: i64,
}

/// The latest runs, of one audience or of all, newest first; only those that are held, if asked.
///
/// # Errors
/// The database's own.
pub async fn runs(pool: &PgPool, key: Option<&str>, held: bool, limit: u32) -> Result<Vec<RunRow>> {
    Ok(sqlx::query_as(
        "select r.id as run, a.key, r.definition_version, r.evaluated_at, r.sealed_at, r.members,
                r.entered_count as entered, r.exited_count as exited, r.evaluate_ms, r.state, r.held_because,
                (select coalesce(max(n), 0)::bigint from (
                     select sum(l.to_position - greatest(l.from_position, coalesce(v.cursor_position, 0))) as n
                     from deltas l join destinations d on d.id = l.destination_id
                     left join deliveries v on v.destination_id = d.id
                     where l.run_id = r.id and l.to_position > coalesce(v.cursor_position, 0) group by d.name) s) as pending
         from runs r join audiences a on a.id = r.audience_id
         where ($1::text is null or a.key = $1) and (not $2 or r.state = 'held')
         order by r.id desc limit $3",
    )
    .bind(key)
    .bind(held)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?)
}

/// An audience as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct AudienceRow {
    pub key: String,
    pub name: String,
    pub state: String,
    /// Of its last run; all four are absent before the first.
    pub run: Option<RunId>,
    pub evaluated_at: Option<DateTime<Utc>>,
    pub sealed_at: Option<DateTime<Utc>>,
    pub members: Option<i64>,
}

/// Every audience that is not deleted, with its last run.
///
/// # Errors
/// The database's own.
pub async fn audiences(pool: &PgPool) -> Result<Vec<AudienceRow>> {
    Ok(sqlx::query_as(
        "select a.key, a.name, a.state, r.id as run, r.evaluated_at, r.sealed_at, r.members
         from audiences a left join memberships m on m.audience_id = a.id left join runs r on r.id = m.run_id
         where a.state <> 'deleted' order by a.key",
    )
    .fetch_all(pool)
    .await?)
}
