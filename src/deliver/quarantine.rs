//! Which records can never be delivered? Kept with the reason, skipped by every later instance, and not too many.
//!
//! A row is committed here *before* the transaction that passes its position: whoever goes on from a later cursor finds it,
//! and so does whoever repeats the transaction. An instance that was overtaken puts nothing aside: its successor has read what to
//! skip, and tells the rest.

use std::collections::HashSet;

use sqlx::{PgConnection, PgPool, Row as _};

use super::{
    claim::{self, Claim},
    recover::{Halt, Reason},
};
use crate::{
    Error, Result,
    delta::Chain,
    ids::{DestinationId, Position, ProfileId, RunId},
    limits,
};

/// A record that cannot be delivered, with the reason as a stable code and a text without personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub position: Position,
    /// Which Identify of the change: [`crate::audience::identities::Identity::digest`]. A number would not do: a merge gives the person
    /// more of them.
    pub identity: i64,
    pub mapping: String,
    pub run: RunId,
    pub profile: ProfileId,
    pub reason: String,
    pub detail: String,
}

/// What identifies a quarantined record within its destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Skipped {
    pub position: Position,
    pub identity: i64,
    pub mapping: String,
}

/// Stores rows of a page that are not there yet; the log's chain at its end says which history it was made of. The inner error says that some run has too many: then none is stored.
///
/// # Errors
/// If the database cannot be asked; [`crate::Kind::Wait`] if another session has claimed the stream, or the log is not any more what
/// the page was made of.
pub async fn store(
    pool: &PgPool,
    claim: &Claim,
    (to, chain): (Position, &Chain),
    rows: &[Quarantined],
) -> Result<Result<u64, Halt>> {
    if rows.is_empty() {
        return Ok(Ok(0));
    }
    let destination = claim.destination;
    let mut tx = pool.begin().await?;
    // The dangerous line: until the commit nobody else claims the stream and reads what is to be skipped.
    if !claim.lock(&mut tx).await? {
        return Err(claim::taken_over("put records aside"));
    }
    // Postgres may have gone back since the page was made, and on in another way: then these positions are other people's.
    let same = sqlx::query_scalar(
        "select exists (select from deltas where destination_id = $1 and from_position < $2 and to_position >= $2 and chain = $3)",
    );
    let same: bool = same.bind(destination).bind(to).bind(&chain.0).fetch_one(&mut *tx).await?;
    if !same {
        return Err(Error::wait("the log is not what it was a moment ago: the database was restored or failed over"));
    }
    let stored = sqlx::query(
        "insert into quarantine (destination_id, position, identity, mapping, run_id, profile_id, reason, detail)
         select $1, * from unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[])
         on conflict do nothing",
    )
    .bind(destination)
    .bind(rows.iter().map(|row| row.position.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.identity).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.mapping.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.run.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| i64::from(row.profile.0)).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.detail.as_str()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if let Some(halt) = too_many(&mut tx, destination, rows).await? {
        return Ok(Err(halt));
    }
    tx.commit().await?;
    Ok(Ok(stored))
}

/// Whether some run of these has too many that are told to nobody. What was told again and is put aside once more is no news.
async fn too_many(tx: &mut PgConnection, destination: DestinationId, rows: &[Quarantined]) -> Result<Option<Halt>> {
    let runs: HashSet<i64> = rows.iter().map(|row| row.run.0).collect();
    let worst = sqlx::query(
        "select q.run_id, count(*) as bad,
                (select sum(to_position - from_position)::bigint from deltas d
                 where d.destination_id = $1 and d.run_id = q.run_id) as changes,
                (array_agg(q.reason order by q.position desc))[1] as reason
         from quarantine q where q.destination_id = $1 and q.run_id = any($2) and q.state = 'open'
             and not exists (select from deltas d join backfills b on b.id = d.backfill_id and b.kind = 'retry'
                             where d.destination_id = $1 and d.from_position <= q.position and d.to_position > q.position)
         group by q.run_id order by bad desc limit 1",
    )
    .bind(destination)
    .bind(runs.into_iter().collect::<Vec<_>>())
    .fetch_optional(tx)
    .await?;
    let Some(worst) = worst else { return Ok(None) };
    let bad: i64 = worst.try_get("bad")?;
    let changes: Option<i64> = worst.try_get("changes")?;
    if bad > limits::QUARANTINED_PER_RUN.max(changes.unwrap_or(0) / 100) {
        let (run, reason): (i64, String) = (worst.try_get("run_id")?, worst.try_get("reason")?);
        let detail = format!("{bad} records of run {run} cannot be delivered, the last of them: {reason}");
        return Ok(Some(Halt::new(Reason::TooManyQuarantined, detail)));
    }
    Ok(None)
}

/// A record that is told again at a place of the bulk lane's log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Retried {
    pub position: Position,
    pub identity: i64,
    pub mapping: String,
}

/// What is told again between two places of a lane's log; nothing of what stands there otherwise.
///
/// # Errors
/// If the database cannot be asked.
pub async fn retried(
    pool: &PgPool,
    destination: DestinationId,
    from: Position,
    to: Position,
) -> Result<HashSet<Retried>> {
    let rows = sqlx::query(
        "select q.retried_position, q.identity, q.mapping from quarantine q
         join destinations lane on lane.id = q.destination_id
         join destinations bulk on bulk.name = lane.name and bulk.id = $1 and bulk.lane = 'bulk'
         where q.retried_position >= $2 and q.retried_position < $3",
    )
    .bind(destination)
    .bind(from)
    .bind(to)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| Ok(Retried { position: row.try_get(0)?, identity: row.try_get(1)?, mapping: row.try_get(2)? }))
        .collect()
}

/// What to skip from a position on.
///
/// # Errors
/// If the database cannot be asked.
pub async fn load(pool: &PgPool, destination: DestinationId, from: Position) -> Result<HashSet<Skipped>> {
    let rows =
        sqlx::query("select position, identity, mapping from quarantine where destination_id = $1 and position >= $2")
            .bind(destination)
            .bind(from)
            .fetch_all(pool)
            .await?;
    rows.iter()
        .map(|row| Ok(Skipped { position: row.try_get(0)?, identity: row.try_get(1)?, mapping: row.try_get(2)? }))
        .collect()
}
