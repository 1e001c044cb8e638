//! What does Postgres know of a delivery? The cursor's mirror, the topics it went to, and whether it halted.
//!
//! Under exactly_once all of it is advisory or evidence: it can stop a delivery, it can never move one.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use super::{recover::Halt, topic::Topic};
use crate::{
    Error, Result,
    ids::{DestinationId, Position},
    membership::{lane::Lane, turn::Turn},
};

/// Mirrors a committed cursor. Late news of an older instance cannot move it back, nor speak of an older stream.
/// Not waited for to reach the disk: should Postgres lose it, it is behind, which is allowed.
///
/// # Errors
/// If the database cannot be asked.
pub async fn mirror(pool: &PgPool, destination: DestinationId, stream: Uuid, next: Position) -> Result<()> {
    sqlx::query(
        "with unhurried as (select set_config('synchronous_commit', 'off', true))
         insert into deliveries (destination_id, cursor_position)
         select id, $3 from destinations, unhurried where id = $1 and stream = $2
         on conflict (destination_id) do update
         set cursor_position = greatest(deliveries.cursor_position, excluded.cursor_position), updated_at = now()",
    )
    .bind(destination)
    .bind(stream)
    .bind(next)
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes that the delivery may go on.
///
/// # Errors
/// If the database cannot be asked.
pub async fn live(pool: &PgPool, destination: DestinationId) -> Result<()> {
    sqlx::query(
        "insert into deliveries (destination_id) values ($1) on conflict (destination_id) do update
         set state = 'live', halt_reason = null, halt_detail = null, updated_at = now() where deliveries.state <> 'live'",
    )
    .bind(destination)
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes why the delivery halted; the error is what a person reads. Each attempt looks at the facts anew: when what was
/// wrong has been put right, the next one goes on by itself.
pub async fn halted(pool: &PgPool, destination: DestinationId, title: &str, halt: &Halt) -> Error {
    let noted = sqlx::query(
        "insert into deliveries (destination_id, state, halt_reason, halt_detail) values ($1, 'halted', $2, $3)
         on conflict (destination_id) do update
         set state = 'halted', halt_reason = excluded.halt_reason, halt_detail = excluded.halt_detail, updated_at = now()",
    )
    .bind(destination)
    .bind(halt.reason.name())
    .bind(&halt.detail)
    .execute(pool)
    .await;
    if let Err(error) = noted {
        return error.into();
    }
    Error::halted(format!("{title} halted: {} ({})", halt.reason, halt.detail)).help(halt.reason.remedy())
}

/// Why a delivery halted; `None` if it may go on.
///
/// # Errors
/// If the database cannot be asked.
pub async fn halt(pool: &PgPool, destination: DestinationId) -> Result<Option<String>> {
    let halt = sqlx::query_scalar(
        "select concat_ws(': ', halt_reason, halt_detail) from deliveries where destination_id = $1 and state = 'halted'",
    );
    Ok(halt.bind(destination).fetch_optional(pool).await?)
}

/// The topics that a stream was told to.
///
/// # Errors
/// If the database cannot be asked.
pub async fn topics(pool: &PgPool, stream: Uuid) -> Result<Vec<(String, Uuid)>> {
    Ok(sqlx::query_as("select topic, topic_id from delivery_topics where stream = $1")
        .bind(stream)
        .fetch_all(pool)
        .await?)
}

/// Remembers topics, before anything is told to them.
///
/// # Errors
/// If the database cannot be asked.
pub async fn remember(pool: &PgPool, stream: Uuid, topics: &[Topic]) -> Result<()> {
    let (names, ids): (Vec<&str>, Vec<Uuid>) =
        topics.iter().filter_map(|topic| Some((topic.name.as_str(), topic.id?))).unzip();
    sqlx::query(
        "insert into delivery_topics (stream, topic, topic_id) select $1, * from unnest($2::text[], $3::uuid[])
         on conflict do nothing",
    )
    .bind(stream)
    .bind(names)
    .bind(ids)
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes a topic that was created again for what it is: empty, for both lanes. The way out of `topic_recreated`.
///
/// # Errors
/// If the database cannot be asked.
pub async fn forget_topic(pool: &PgPool, destination: DestinationId, topic: &str) -> Result<bool> {
    let forgotten = sqlx::query(
        "delete from delivery_topics t using destinations d
         where d.name = (select name from destinations where id = $1) and t.stream = d.stream and t.topic = $2",
    )
    .bind(destination)
    .bind(topic)
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected() > 0)
}

/// How a new stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// With the whole log, from its beginning.
    Log,
    /// With nothing: a part of the log is past retention, so each audience's next run tells its whole membership.
    Memberships,
}

/// Starts a new stream in each lane: the whole log is told again, from its beginning and in its order, with new message ids. The
/// way out of every halt that leaves in doubt what was told. Both lanes, since a person's changes may be in either.
///
/// # Errors
/// If the database cannot be asked; [`crate::Kind::Wait`] if the log is not whole and somebody is being forgotten.
pub async fn start_over(pool: &PgPool, destination: DestinationId) -> Result<Anew> {
    // Nobody writes the log meanwhile.
    let mut turn = Turn::wait(pool, None).await?;
    let mut tx = turn.connection().begin().await?;
    let lanes: Vec<DestinationId> = sqlx::query_scalar(
        "update destinations set stream = gen_random_uuid()
         where name = (select name from destinations where id = $1) returning id",
    )
    .bind(destination)
    .fetch_all(&mut *tx)
    .await?;
    for sql in [
        "delete from quarantine where destination_id = any($1)",
        "insert into deliveries (destination_id) select unnest($1) on conflict (destination_id) do update
         set cursor_position = 0, state = 'live', halt_reason = null, halt_detail = null, updated_at = now()",
    ] {
        sqlx::query(sql).bind(&lanes).execute(&mut *tx).await?;
    }
    let whole: bool = sqlx::query_scalar(
        "select bool_and(next_position = (select coalesce(sum(to_position - from_position), 0) from deltas
                                          where destination_id = id))
         from destinations where id = any($1)",
    )
    .bind(&lanes)
    .fetch_one(&mut *tx)
    .await?;
    if !whole {
        forget_log(&mut tx, &lanes).await?;
    }
    tx.commit().await?;
    Ok(if whole { Anew::Log } else { Anew::Memberships })
}

/// Takes the destination for one that was never told anything.
async fn forget_log(tx: &mut PgConnection, lanes: &[DestinationId]) -> Result<()> {
    // Whoever is forgotten is told so at a place of the log, which is waited for.
    let forgetting: bool =
        sqlx::query_scalar("select exists (select from forgets where state <> 'erased')").fetch_one(&mut *tx).await?;
    if forgetting {
        return Err(Error::wait("people are being forgotten, and a part of the log is past retention")
            .help("End that first: `rollcall forget --now` does not wait for this destination."));
    }
    for sql in [
        "delete from backfill_rests using backfills b where b.id = backfill_id and b.destination_id = any($1)",
        "update backfills set state = 'cancelled', finished_at = clock_timestamp()
         where destination_id = any($1) and state in ('running', 'paused')",
        "delete from told where destination_id = any($1)",
        "delete from deltas where destination_id = any($1)",
        "update destinations set next_position = 0, chain = '\\x' where id = any($1)",
    ] {
        sqlx::query(sql).bind(lanes).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A lane of a destination in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct DestinationRow {
    pub name: String,
    pub lane: Lane,
    /// `live` or `halted`.
    pub state: String,
    pub halt_reason: Option<String>,
    pub halt_detail: Option<String>,
    /// The mirror of the committed cursor.
    pub cursor: Position,
    /// The end of the log.
    pub end: Position,
    /// Records in quarantine that are told to nobody.
    pub quarantined: i64,
    pub updated_at: Option<DateTime<Utc>>,
}

/// Every destination that has a log: its live lane, and its bulk lane once that was needed.
///
/// # Errors
/// The database's own.
pub async fn destinations(pool: &PgPool) -> Result<Vec<DestinationRow>> {
    Ok(sqlx::query_as(
        "select d.name, d.lane, coalesce(v.state, 'live') as state, v.halt_reason, v.halt_detail,
                coalesce(v.cursor_position, 0) as cursor, d.next_position as \"end\", v.updated_at,
                (select count(*) from quarantine q where q.destination_id = d.id and q.state = 'open') as quarantined
         from destinations d left join deliveries v on v.destination_id = d.id order by d.name, d.lane desc",
    )
    .fetch_all(pool)
    .await?)
}

/// The streams of the destination called `name`, the live lane's first; none before its first sync.
///
/// # Errors
/// The database's own, also where the schema is not set up yet.
pub async fn streams(connection: &mut PgConnection, name: &str) -> Result<Vec<Uuid>> {
    let streams = sqlx::query_scalar("select stream from destinations where name = $1 order by lane desc").bind(name);
    Ok(streams.fetch_all(connection).await?)
}
