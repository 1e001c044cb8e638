//! Which runs are too old to keep? Those at the beginning of an audience's history that nobody needs any more.
//!
//! Kept whatever their age: an audience's last run and what a destination has last been told, a run that waits for a person,
//! one of which a record in quarantine is being told again, and every run from the first on that some destination has not been told. So the log stays whole from each destination's
//! cursor on, and an audience's history from its first run on that is left.

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use crate::Result;

/// Runs deleted in one transaction.
const PIECE: i64 = 1_000;

/// An audience's runs that went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Dropped {
    pub audience: String,
    pub runs: i64,
    /// Of their bitmaps.
    pub bytes: i64,
    /// Runs that are old enough, but still to be told.
    pub untold: i64,
}

/// By audience, the first run that stays. The cursor is the mirrored one, which is never ahead of Kafka's; the part of the
/// log in which it stands is needed to recognise it, and the part before that to compute its chain.
const STAYS: &str = "
    with cursors as (
        select v.destination_id, coalesce((select d.from_position from deltas d where d.destination_id = v.destination_id
                                           and d.from_position < v.cursor_position and d.to_position > v.cursor_position),
                                          v.cursor_position) as place
        from deliveries v),
    stays as (
        select a.id as audience_id, (
            select min(r.id) from runs r where r.audience_id = a.id and (
                r.sealed_at >= $1 or r.state = 'held'
                or exists (select from memberships m where m.run_id = r.id)
                or exists (select from told t where t.run_id = r.id)
                or exists (select from quarantine q join backfills b on b.id = q.backfill_id
                           where q.run_id = r.id and b.state in ('running', 'paused'))
                or exists (select from deltas d left join cursors c using (destination_id)
                           where d.run_id = r.id and d.to_position >= coalesce(c.place, 0)))) as first
        from audiences a),
    old as (
        select r.id, r.audience_id, r.entered, r.exited from runs r join stays s using (audience_id)
        where r.sealed_at < $1 and (s.first is null or r.id < s.first))";

/// Drops the runs that were sealed before `before`, with their part of the log. Nobody may seal meanwhile.
///
/// # Errors
/// The database's own; what went stays gone, and the next call goes on.
pub async fn runs(connection: &mut PgConnection, before: DateTime<Utc>, dry_run: bool) -> Result<Vec<Dropped>> {
    let dropped = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "{STAYS}
         select a.key as audience, count(o.id) as runs,
                coalesce(sum(length(o.entered) + length(o.exited)), 0)::bigint as bytes,
                (select count(distinct r.id) from runs r join deltas d on d.run_id = r.id left join deliveries v using (destination_id)
                 where r.audience_id = a.id and r.sealed_at < $1 and d.to_position > coalesce(v.cursor_position, 0)) as untold
         from audiences a left join old o on o.audience_id = a.id
         group by a.id having count(o.id) > 0 or exists (select from runs r where r.audience_id = a.id and r.sealed_at < $1)
         order by a.key"
    )))
    .bind(before)
    .fetch_all(&mut *connection)
    .await?;
    if !dry_run {
        sqlx::query("delete from failed_runs where failed_at < $1").bind(before).execute(&mut *connection).await?;
        while piece(connection, before).await? > 0 {}
    }
    Ok(dropped)
}

async fn piece(connection: &mut PgConnection, before: DateTime<Utc>) -> Result<u64> {
    let mut tx = connection.begin().await?;
    // The oldest first: should it end half-way, what is left is still a whole history.
    let ids: Vec<i64> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("{STAYS} select id from old order by id limit $2")))
            .bind(before)
            .bind(PIECE)
            .fetch_all(&mut *tx)
            .await?;
    for sql in [
        "delete from deltas where run_id = any ($1)",
        "delete from quarantine where run_id = any ($1)",
        "delete from run_values where run_id = any ($1)",
        "delete from held_values where run_id = any ($1)",
        "delete from runs where id = any ($1)",
    ] {
        sqlx::query(sql).bind(&ids).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(ids.len() as u64)
}
