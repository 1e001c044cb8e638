//! Which runs failed, and why? The latest of each audience, so that the answer does not stand in a log alone.
//!
//! A scheduled run notes its failure as it gives up its tick ([`crate::runs::fire::fail`]); this notes the others, and lists.
//! A reason holds no secret and nobody's values: it is an error's message.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::{Result, ids::AudienceId, limits};

/// A run that failed, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub failed_at: DateTime<Utc>,
    /// The tick, and at which try; none where a person asked.
    pub scheduled_for: Option<DateTime<Utc>>,
    pub attempt: Option<i32>,
    pub reason: String,
}

/// Notes failures of runs as of `t` that a person asked for, each by its audience's key. What the store does not know is left
/// out: whoever asked is told.
///
/// # Errors
/// The database's own.
pub async fn note(pool: &PgPool, t: DateTime<Utc>, took_ms: i64, failures: &[(&str, &str)]) -> Result<()> {
    let (keys, reasons): (Vec<&str>, Vec<&str>) = failures.iter().copied().unzip();
    let audiences: Vec<AudienceId> = sqlx::query_scalar(
        "insert into failed_runs (audience_id, evaluated_at, reason, took_ms)
         select a.id, $3, f.reason, $4 from unnest($1::text[], $2::text[]) f (key, reason)
         join audiences a on a.key = f.key and a.state <> 'deleted' returning audience_id",
    )
    .bind(keys)
    .bind(reasons)
    .bind(t)
    .bind(took_ms)
    .fetch_all(pool)
    .await?;
    keep_latest(pool, &audiences).await
}

/// Notes a scheduled run that nobody brought to an end: its instance went away.
///
/// # Errors
/// The database's own.
pub async fn note_abandoned(
    pool: &PgPool,
    audience: AudienceId,
    scheduled_for: DateTime<Utc>,
    attempt: i32,
) -> Result<()> {
    sqlx::query(
        "insert into failed_runs (audience_id, scheduled_for, attempt, evaluated_at, reason)
         values ($1, $2, $3, $2, 'the instance that computed it has ended or lost its lease')",
    )
    .bind(audience)
    .bind(scheduled_for)
    .bind(attempt)
    .execute(pool)
    .await?;
    keep_latest(pool, &[audience]).await
}

/// Drops all but the latest failures of these audiences.
///
/// # Errors
/// The database's own.
pub async fn keep_latest(pool: &PgPool, audiences: &[AudienceId]) -> Result<()> {
    sqlx::query(
        "delete from failed_runs f using (
             select id, row_number() over (partition by audience_id order by id desc) as age
             from failed_runs where audience_id = any($1)) old
         where f.id = old.id and old.age > $2",
    )
    .bind(audiences.iter().map(|of| of.0).collect::<Vec<_>>())
    .bind(limits::FAILED_RUNS_KEPT)
    .execute(pool)
    .await?;
    Ok(())
}
