//! What can a person decide about a delivery? To begin a new stream, or to take a topic that was made again for what it is.
//!
//! Whoever calls this holds the destination's lease ([`lease`]), so that nobody tells it meanwhile. Nothing depends on that: an
//! instance that was stopped before and wakes after finds its claim void ([`super::claim`]), and its transaction fenced ([`retired`]).

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    Error, Result,
    delta::turn::Turn,
    ids::DestinationId,
    lease::{Held, Instance},
    limits,
};

/// Waits for the lease on a destination; an instance that tells it is asked to give it back.
///
/// # Errors
/// [`crate::Kind::Wait`] if it does not do so in time.
pub async fn lease(instance: &Instance, destination: &str) -> Result<Held> {
    let patience = Duration::from_secs(limits::ANOTHER_SECONDS);
    let held = Held::ask(instance, &format!("destination:{destination}"), patience).await?;
    held.ok_or_else(|| {
        Error::wait(format!(
            "another instance is telling destination '{destination}', and has not given its lease back for {} s",
            patience.as_secs()
        ))
        .help("It ends the transaction that it is at first: try again, or stop that instance.")
    })
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
    /// With nothing: a part of the log is past retention or damaged, so each audience's next run tells its whole membership.
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
        "select id from destinations where name = (select name from destinations where id = $1) for no key update",
    )
    .bind(destination)
    .fetch_all(&mut *tx)
    .await?;
    for sql in [
        "insert into retired_streams (stream, destination) select stream, name from destinations where id = any($1)",
        "update destinations set stream = gen_random_uuid() where id = any($1)",
        // Every claim is void from here on: what is under way in another session waits for these rows, then finds another stream.
        "insert into deliveries (destination_id, stream) select id, stream from destinations where id = any($1)
         on conflict (destination_id) do update
         set stream = excluded.stream, cursor_position = 0, cursor_from = null, state = 'live', halt_reason = null,
             halt_detail = null, updated_at = now()",
        // After that: what a session was just putting aside is there by now.
        "delete from quarantine where destination_id = any($1)",
    ] {
        sqlx::query(sql).bind(&lanes).execute(&mut *tx).await?;
    }
    let mut whole = true;
    for lane in &lanes {
        whole &= crate::delta::is_whole(&mut tx, *lane).await?;
    }
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

/// The streams that a new one took the place of, and whose producers are not fenced yet. The transactional id is the stream's, so a
/// new stream's producer fences none of an older one: an instance that was stopped before its commit would tell an old page after the new
/// stream. So each session fences them before it tells anything.
///
/// # Errors
/// If the database cannot be asked.
pub async fn retired(pool: &PgPool, destination: &str) -> Result<Vec<Uuid>> {
    let retired = sqlx::query_scalar("select stream from retired_streams where destination = $1");
    Ok(retired.bind(destination).fetch_all(pool).await?)
}

/// Notes that retired streams are fenced for good: who opens a producer for one of them after this reads the destination's stream
/// after that, and goes no further.
///
/// # Errors
/// If the database cannot be asked.
pub async fn fenced(pool: &PgPool, streams: &[Uuid]) -> Result<()> {
    sqlx::query("delete from retired_streams where stream = any($1)").bind(streams).execute(pool).await?;
    Ok(())
}
