//! Does this tick fire here? One guarded statement decides it among all instances.
//!
//! ```text
//!            fire                    finish, in the transaction of the seal
//!  (tick) ──────────► running ──────────────────────────────────────────────► done
//!                      │   ▲
//!                 fail ▼   │ fire, once retry_at has come, or once the holder's lease has ended
//!                     failed
//! ```
//!
//! **A tick is sealed once.** `(scheduled_for, attempt)` only grows in an audience's row, so each pair fires for one
//! instance; and `finish` is part of the transaction that seals the run, and demands that the row still holds the pair
//! that fired here. An instance that was stopped, taken over and woken up again finds another attempt and cannot seal.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::{
    Result,
    ids::AudienceId,
    lease::Lease,
    schedule::{Firing, Last, State},
};

/// What is known of the last tick of each audience that ever fired, as facts for [`crate::schedule::due`].
pub async fn last(database: impl PgExecutor<'_>) -> Result<Vec<(AudienceId, Last)>> {
    type Row = (AudienceId, DateTime<Utc>, i32, String, Option<DateTime<Utc>>, bool);
    let rows: Vec<Row> = sqlx::query_as(
        "select s.audience_id, s.scheduled_for, s.attempt, s.state, s.retry_at,
                exists (select from leases l where l.name = s.lease and rollcall_is_in_force(l.expires_at))
         from schedules s",
    )
    .fetch_all(database)
    .await?;
    let last = rows.into_iter().map(|(audience, scheduled_for, attempt, state, retry_at, is_held)| {
        let state = match (state.as_str(), retry_at) {
            ("running", _) if is_held => State::Running,
            ("running", _) => State::Abandoned,
            (_, Some(retry_at)) => State::Failed { retry_at },
            _ => State::Done,
        };
        (audience, Last { scheduled_for, attempt, state })
    });
    Ok(last.collect())
}

/// Fires a tick for the holder of `lease`, which must be the instance's own and in force. False if the tick has fired
/// already, here or elsewhere, or if the audience is running: then there is nothing to do.
pub async fn fire(database: impl PgExecutor<'_>, firing: &Firing, lease: &Lease) -> Result<bool> {
    // The comparison of rows is the guard: a later tick, or the same tick with a later attempt. Rows of two instances
    // meet at the primary key, and the second one sees what the first one wrote.
    let fired = sqlx::query(
        "insert into schedules as s (audience_id, scheduled_for, attempt, state, lease)
         values ($1, $2, $3, 'running', $4)
         on conflict (audience_id) do update
             set scheduled_for = excluded.scheduled_for, attempt = excluded.attempt, state = 'running',
                 lease = excluded.lease, retry_at = null, reason = null,
                 fired_at = clock_timestamp(), finished_at = null
             where (s.scheduled_for, s.attempt) < (excluded.scheduled_for, excluded.attempt)
               and case s.state
                   when 'done' then s.scheduled_for < excluded.scheduled_for
                   when 'failed' then true
                   else not exists (select from leases l where l.name = s.lease and rollcall_is_in_force(l.expires_at))
               end",
    )
    .bind(firing.audience)
    .bind(firing.scheduled_for)
    .bind(firing.attempt)
    .bind(&lease.name)
    .execute(database)
    .await?;
    Ok(fired.rows_affected() == 1)
}

/// Notes that the run is done. **Must be part of the transaction that seals it**, which must not commit on false: then
/// another instance has taken over.
pub async fn finish(database: impl PgExecutor<'_>, firing: &Firing, lease: &Lease) -> Result<bool> {
    let finished = sqlx::query(
        "update schedules set state = 'done', finished_at = clock_timestamp()
         where audience_id = $1 and scheduled_for = $2 and attempt = $3 and lease = $4 and state = 'running'",
    )
    .bind(firing.audience)
    .bind(firing.scheduled_for)
    .bind(firing.attempt)
    .bind(&lease.name)
    .execute(database)
    .await?;
    Ok(finished.rows_affected() == 1)
}

/// Notes that the run failed, also among the failed runs, and when it is tried again, see [`crate::schedule::retry_at`]. `reason` is shown to people and must
/// hold no secret and nobody's traits. False if another instance has taken over.
pub async fn fail(
    database: impl PgExecutor<'_>,
    firing: &Firing,
    lease: &Lease,
    retry_at: DateTime<Utc>,
    reason: &str,
) -> Result<bool> {
    let failed = sqlx::query(
        "with failed as (
             update schedules set state = 'failed', finished_at = clock_timestamp(), retry_at = $5, reason = $6
             where audience_id = $1 and scheduled_for = $2 and attempt = $3 and lease = $4 and state = 'running'
             returning *)
         insert into failed_runs (audience_id, scheduled_for, attempt, evaluated_at, reason, took_ms)
         select audience_id, scheduled_for, attempt, fired_at, reason,
                (extract(epoch from finished_at - fired_at) * 1000)::bigint from failed",
    )
    .bind(firing.audience)
    .bind(firing.scheduled_for)
    .bind(firing.attempt)
    .bind(&lease.name)
    .bind(retry_at)
    .bind(reason)
    .execute(database)
    .await?;
    Ok(failed.rows_affected() == 1)
}
