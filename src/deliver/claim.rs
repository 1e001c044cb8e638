//! May this session still write what it found? Each session claims its stream when it begins, and a later claim voids it.
//!
//! Kafka fences a producer; this fences what an instance writes to Postgres beside it: that the delivery halted or goes on, what is
//! put aside, how far it is told. An instance may be stopped for minutes between looking at something and writing it, so **the
//! condition stands in each statement that writes**, not before it. A session claims before it fences: whoever is fenced by an
//! instance of this database finds a later claim.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::recover::Halt;
use crate::{
    Error, Result,
    ids::{DestinationId, Position},
};

/// The right of one session to write of a stream, until another session claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub destination: DestinationId,
    pub stream: Uuid,
    pub number: i64,
}

impl Claim {
    /// Claims a stream; `None` if the destination has another one by now.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn take(pool: &PgPool, destination: DestinationId, stream: Uuid) -> Result<Option<Claim>> {
        let number = sqlx::query_scalar(
            "insert into deliveries (destination_id, stream, claim)
             select id, stream, 1 from destinations where id = $1 and stream = $2
             on conflict (destination_id) do update set claim = deliveries.claim + 1
             where deliveries.stream = excluded.stream returning claim",
        )
        .bind(destination)
        .bind(stream)
        .fetch_optional(pool)
        .await?;
        Ok(number.map(|number| Claim { destination, stream, number }))
    }

    /// Whether no other session has claimed the stream since.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn holds(&self, pool: &PgPool) -> Result<bool> {
        let held = "select exists (select from deliveries where destination_id = $1 and stream = $2 and claim = $3)";
        let held = sqlx::query_scalar(held).bind(self.destination).bind(self.stream).bind(self.number);
        Ok(held.fetch_one(pool).await?)
    }

    /// Keeps others from claiming until the transaction ends; false if one has.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn lock(&self, tx: &mut PgConnection) -> Result<bool> {
        let mine = "select from deliveries where destination_id = $1 and stream = $2 and claim = $3 for share";
        let mine = sqlx::query(mine).bind(self.destination).bind(self.stream).bind(self.number);
        Ok(mine.fetch_optional(tx).await?.is_some())
    }

    /// Mirrors a committed cursor: never back, and never onto another stream. What was committed is true whoever says so, so a
    /// session that has lost its claim writes it too, and hears of it: false.
    /// Not waited for to reach the disk: should Postgres lose it, it is behind, which is allowed.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn mirror(&self, pool: &PgPool, next: Position) -> Result<bool> {
        // The dangerous line: `stream` in the condition. The row may be waited for while a new stream takes its place, and
        // what is then updated is the new one's.
        let mine: Option<bool> = sqlx::query_scalar(
            "with unhurried as (select set_config('synchronous_commit', 'off', true))
             update deliveries set cursor_position = greatest(cursor_position, $4), updated_at = now() from unhurried
             where destination_id = $1 and stream = $2 returning claim = $3",
        )
        .bind(self.destination)
        .bind(self.stream)
        .bind(self.number)
        .bind(next)
        .fetch_optional(pool)
        .await?;
        Ok(mine == Some(true))
    }

    /// Notes that the delivery may go on.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn live(&self, pool: &PgPool) -> Result<()> {
        sqlx::query(
            "update deliveries set state = 'live', halt_reason = null, halt_detail = null, updated_at = now()
             where destination_id = $1 and stream = $2 and claim = $3 and state <> 'live'",
        )
        .bind(self.destination)
        .bind(self.stream)
        .bind(self.number)
        .execute(pool)
        .await?;
        Ok(())
    }

    /// Notes why the delivery halted; the error is what a person reads. Each attempt looks at the facts anew: when what was
    /// wrong has been put right, the next one goes on by itself.
    pub async fn halted(&self, pool: &PgPool, title: &str, halt: &Halt) -> Error {
        let noted = sqlx::query(
            "update deliveries set state = 'halted', halt_reason = $4, halt_detail = $5, updated_at = now()
             where destination_id = $1 and stream = $2 and claim = $3",
        )
        .bind(self.destination)
        .bind(self.stream)
        .bind(self.number)
        .bind(halt.reason.name())
        .bind(&halt.detail)
        .execute(pool)
        .await;
        match noted {
            Err(error) => error.into(),
            // What an outdated session found says nothing of the delivery as it is now.
            Ok(noted) if noted.rows_affected() == 0 => taken_over("say why it halted"),
            Ok(_) => {
                Error::halted(format!("{title} halted: {} ({})", halt.reason, halt.detail)).help(halt.reason.remedy())
            }
        }
    }

    /// Where the cursor topic ended before the stream's first transaction: `now`, if none was yet. Written down for good before
    /// anything is told.
    ///
    /// # Errors
    /// If the database cannot be asked; [`crate::Kind::Wait`] if another session has claimed the stream.
    pub async fn cursor_from(&self, pool: &PgPool, now: i64) -> Result<i64> {
        let from = sqlx::query_scalar(
            "update deliveries set cursor_from = coalesce(cursor_from, $4)
             where destination_id = $1 and stream = $2 and claim = $3 returning cursor_from",
        )
        .bind(self.destination)
        .bind(self.stream)
        .bind(self.number)
        .bind(now)
        .fetch_optional(pool)
        .await?;
        from.ok_or_else(|| taken_over("begin the stream"))
    }
}

/// The error of a session that another one has taken the place of.
pub fn taken_over(doing: &str) -> Error {
    Error::wait(format!("cannot {doing}: another instance has taken over"))
        .help("Let one instance deliver to this destination at a time; this one did no harm.")
}
