//! How far is each backfill, and does it go on? Lists them, and takes a person's decisions.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{Kind, State};
use crate::{Error, Result, ids::BackfillId};

/// A backfill in a list.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct BackfillRow {
    pub id: BackfillId,
    pub audience: String,
    pub destination: String,
    pub kind: Kind,
    pub state: State,
    /// Changes told, or no longer needed because the profile changed sides.
    pub done: i64,
    pub total: i64,
    /// Since it was made or last resumed.
    pub per_second: Option<f64>,
    /// At that pace; absent unless it goes on and has begun.
    pub left_seconds: Option<f64>,
    /// Identify events a second, where that is limited: its own limit, else that of its audience as it is now.
    pub rate_limit: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a row says. `pending` are the changes that are in the log and not told, as far as Postgres knows.
const ROWS: &str = "with measured as (
    select b.id, a.key as audience, d.name as destination, b.kind, b.state, r.total, coalesce(r.rate_limit, a.rate_limit) as rate_limit, b.created_at, b.finished_at,
           b.since, b.since_done, r.total - r.remaining - pending.changes as done
    from backfills b
    join backfill_rests r on r.backfill_id = b.id
    join audiences a on a.id = b.audience_id
    join destinations d on d.id = b.destination_id
    cross join lateral (
        select coalesce(sum(l.to_position - greatest(l.from_position, coalesce(v.cursor_position, 0))), 0)::bigint as changes
        from deltas l left join deliveries v on v.destination_id = l.destination_id
        where l.backfill_id = b.id and l.to_position > coalesce(v.cursor_position, 0)) pending
), paced as (
    select *, (done - since_done) / nullif(extract(epoch from coalesce(finished_at, clock_timestamp()) - since), 0)::float8
        as per_second
    from measured
)
select *, case when state = 'running' and per_second > 0 then (total - done) / per_second end as left_seconds from paced ";

/// The latest backfills, newest first: those that are open, and `all` or only a few of the others.
///
/// # Errors
/// The database's own.
pub async fn list(pool: &PgPool, limit: u32) -> Result<Vec<BackfillRow>> {
    let sql = format!("{ROWS} order by state in ('running', 'paused') desc, id desc limit $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(i64::from(limit)).fetch_all(pool).await?)
}

/// One backfill.
///
/// # Errors
/// [`crate::Kind::Settings`] if there is none of this number.
pub async fn find(pool: &PgPool, id: BackfillId) -> Result<BackfillRow> {
    let sql = format!("{ROWS} where id = $1");
    let found = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(pool).await?;
    found.ok_or_else(|| Error::settings(format!("there is no backfill {id}")).help("`rollcall backfills` lists them."))
}

/// What a person decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Pause,
    Resume,
    Cancel,
}

/// Decides. What is in the log by then is told all the same: a slice at most.
///
/// # Errors
/// [`crate::Kind::Settings`] if there is no such backfill, or it is not in a state to be decided on.
pub async fn decide(pool: &PgPool, id: BackfillId, decision: Decision) -> Result<BackfillRow> {
    let before = find(pool, id).await?;
    let sql = match decision {
        Decision::Pause => "update backfills set state = 'paused' where id = $1 and state = 'running' and $2 >= 0",
        Decision::Resume => {
            "update backfills set state = 'running', since = clock_timestamp(), since_done = $2
             where id = $1 and state = 'paused'"
        }
        Decision::Cancel => {
            "update backfills set state = 'cancelled', finished_at = clock_timestamp()
             where id = $1 and state in ('running', 'paused') and $2 >= 0"
        }
    };
    let decided = sqlx::query(sql).bind(id).bind(before.done).execute(pool).await?;
    let now = find(pool, id).await?;
    if decided.rows_affected() == 0 {
        let state = format!("{:?}", now.state).to_lowercase();
        return Err(Error::settings(format!("backfill {id} is {state}")).help(match decision {
            Decision::Resume => "Only a paused one can be resumed.",
            Decision::Pause => "Only a running one can be paused.",
            Decision::Cancel => "Only a running or a paused one can be cancelled.",
        }));
    }
    Ok(now)
}
