//! How far is each SQL source read? The place moves in the transaction of the messages that it speaks of.
//!
//! **The argument.** A pull counts itself when it begins, and every transaction of it first looks whether it is the latest still, locking
//! that row. So of two pulls of one source, late, dead or both alive, the earlier one stores nothing more; and what is stored is either
//! stored with its place, or read again. What is read again without its place having moved has the same message id, and counts once.

use std::{ops::Range, sync::Arc};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use super::{
    Defaults, Message, Refusal,
    import::{TRIES, is_about_data, is_about_others, reason},
    refused,
    rules::Rules,
    store::{Store, Stored},
};
use crate::{
    Error, Result,
    clock::Clock,
    fault::{self, Point},
    lease::Leased,
    schedule::retry_at,
    telemetry::metrics,
};

/// Where a pull begins.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Which pull it is, from 1.
    pub pull: i64,
    /// Of a cursor column, the greatest value that was read.
    pub position: Option<String>,
    /// Of an xid cursor, the oldest transaction that had not ended then, and where.
    pub xmin: Option<i64>,
    pub cluster: Option<String>,
}

/// What an xid cursor begins from the next time.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    pub xmin: Option<i64>,
    pub cluster: Option<String>,
}

/// What became of a pull's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub source: String,
    pub rows: u64,
    /// Messages stored.
    pub stored: u64,
    /// Rows that were read before.
    pub repeated: u64,
    /// People who are as they were, where all rows are read each time.
    pub unchanged: u64,
    /// People who were there the last time.
    pub vanished: u64,
    /// Messages dropped, since they are of somebody who was forgotten or suppressed.
    pub suppressed: u64,
    /// Rows that are no message; `rollcall refused` says why.
    pub refused: u64,
}

impl Summary {
    pub fn new(source: &str) -> Summary {
        Summary { source: source.to_owned(), ..Summary::default() }
    }
}

/// What some rows became.
#[derive(Debug, Default)]
pub struct Page {
    pub messages: Vec<Message>,
    pub refused: Vec<Refusal>,
}

/// What is so once the messages of a page are stored.
#[derive(Debug, Clone, Copy)]
pub enum Settle<'a> {
    /// Read so far; none where nothing is known before the end.
    Position(Option<&'a str>),
    /// What was said last of these people, as a digest.
    Said(&'a [(String, Uuid)]),
    /// These have vanished.
    Gone(&'a [String]),
}

/// Begins a pull. With another `definition` than the last time reading begins anew.
///
/// # Errors
/// The database's own.
pub async fn begin(pool: &PgPool, name: &str, definition: &str) -> Result<Place> {
    let digest: String = Sha256::digest(definition).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let (pull, position, xmin, cluster): (i64, Option<String>, Option<String>, Option<String>) = sqlx::query_as(
        "insert into sources as s (name, definition, pulls) values ($1, $2, 1)
         on conflict (name) do update set pulls = s.pulls + 1, definition = excluded.definition,
             position = case when s.definition = excluded.definition then s.position end,
             oldest_xid = case when s.definition = excluded.definition then s.oldest_xid end,
             cluster = case when s.definition = excluded.definition then s.cluster end
         returning pulls, position, oldest_xid, cluster",
    )
    .bind(name)
    .bind(digest)
    .fetch_one(pool)
    .await?;
    Ok(Place { pull, position, xmin: xmin.and_then(|xmin| xmin.parse().ok()), cluster })
}

/// Notes that a pull failed, and when it may be tried again by itself.
///
/// # Errors
/// The database's own.
pub async fn failed(pool: &PgPool, name: &str, error: &Error, now: DateTime<Utc>) -> Result<()> {
    metrics::pulled(name, "failed");
    let attempts: Option<i32> =
        sqlx::query_scalar("update sources set attempts = attempts + 1, error = $2 where name = $1 returning attempts")
            .bind(name)
            .bind(&error.message)
            .fetch_optional(pool)
            .await?;
    if let Some(attempts) = attempts {
        sqlx::query("update sources set retry_at = $2 where name = $1")
            .bind(name)
            .bind(retry_at(attempts, now))
            .execute(pool)
            .await?;
    }
    Ok(())
}

/// Takes the rows of one pull in, page after page.
pub struct Writer {
    name: String,
    pull: i64,
    clock: Clock,
    /// Its own: dropped amid a transaction it is closed, and so rolled back.
    session: Leased,
    store: Store,
    defaults: Defaults,
}

impl Writer {
    /// One for the pull that [`begin`] has begun.
    ///
    /// # Errors
    /// If the database does not let us in.
    pub async fn new(pool: &PgPool, clock: &Clock, name: &str, pull: i64, rules: &Arc<Rules>) -> Result<Writer> {
        let session = Leased::open(pool).await?;
        let defaults = Defaults {
            now: clock.now(),
            is_arrival: false,
            place: None,
            source_id: Some(name.to_owned()),
            rules: rules.clone(),
        };
        let store = Store::new(rules.clone());
        Ok(Writer { name: name.to_owned(), pull, clock: clock.clone(), session, store, defaults })
    }

    /// Which pull it is.
    pub fn pull(&self) -> i64 {
        self.pull
    }

    /// What rows do not say themselves.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Remembers which traits the source gives; returns all that it ever gave.
    ///
    /// # Errors
    /// The database's own.
    pub async fn gives<'n>(&mut self, traits: impl Iterator<Item = &'n str>) -> Result<Vec<String>> {
        let traits: Vec<&str> = traits.collect();
        let all = sqlx::query_scalar(
            "update sources set traits = (select coalesce(array_agg(distinct t order by t), '{}') from unnest(traits || $2) t)
             where name = $1 returning traits",
        );
        Ok(all.bind(&self.name).bind(traits).fetch_one(&mut *self.session).await?)
    }

    /// Of whom the source told, in the order of their keys: those after `after` and up to `through`, at most `count`.
    ///
    /// # Errors
    /// The database's own.
    pub async fn kept(
        &mut self,
        after: Option<&str>,
        through: Option<&str>,
        count: usize,
    ) -> Result<Vec<(String, Uuid)>> {
        let kept = sqlx::query_as(
            "select key, digest from source_rows
             where source = $1 and key > coalesce($2, '') and ($3::text is null or key <= $3) order by key limit $4",
        );
        Ok(kept.bind(&self.name).bind(after).bind(through).bind(count as i64).fetch_all(&mut *self.session).await?)
    }

    /// Stores a page and what it settles, in one transaction unless Postgres refuses one of its messages: then its neighbours without
    /// it, and what it settles with the last of them.
    ///
    /// # Errors
    /// If a later pull has begun, or the database does not do as asked. What was not stored is read again.
    pub async fn write(&mut self, page: Page, settle: Settle<'_>, summary: &mut Summary) -> Result<()> {
        let Page { messages, mut refused } = page;
        let rows = (messages.len() + refused.len()) as u64;
        let mut tries = 1;
        let mut parts: Vec<Range<usize>> = std::iter::once(0..messages.len()).collect();
        while let Some(part) = parts.pop() {
            let settled = parts.is_empty().then_some(settle);
            match self.attempt(&messages[part.clone()], &refused, settled).await {
                Ok(Stored { accepted, suppressed }) => {
                    let repeated = part.len() as u64 - accepted - suppressed;
                    let counts = [accepted, repeated, suppressed, refused.len() as u64];
                    summary.stored += accepted;
                    summary.repeated += repeated;
                    summary.suppressed += suppressed;
                    summary.refused += refused.len() as u64;
                    metrics::pulled_rows(&self.name, counts);
                    refused.clear();
                }
                Err(error) if tries < TRIES && is_about_others(&error) => {
                    tries += 1;
                    parts.push(part);
                }
                Err(error) if is_about_data(&error) && part.len() == 1 => {
                    refused.push(Refusal { line: 0, field: "line", reason: reason(&error) });
                    parts.push(part.end..part.end);
                }
                Err(error) if is_about_data(&error) && !part.is_empty() => {
                    let middle = part.start + part.len() / 2;
                    // Popped in their order.
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(error) => return Err(error),
            }
        }
        summary.rows += rows;
        Ok(())
    }

    async fn attempt(
        &mut self,
        messages: &[Message],
        refused: &[Refusal],
        settle: Option<Settle<'_>>,
    ) -> Result<Stored> {
        self.store.prepare(&mut self.session, messages, self.clock.now()).await?;
        let mut tx = self.session.begin().await?;
        // Whatever is written, is written by the latest pull: its row stays locked until the commit.
        let ours = sqlx::query("select from sources where name = $1 and pulls = $2 for update")
            .bind(&self.name)
            .bind(self.pull)
            .fetch_optional(&mut *tx)
            .await?;
        if ours.is_none() {
            return Err(Error::wait(format!("a later pull of the source '{}' has begun", self.name)));
        }
        let stored = match messages {
            [] => Stored::default(),
            messages => self.store.store(&mut tx, messages).await?,
        };
        refused::add(&mut *tx, &refused::count(&self.name, refused)).await?;
        if let Some(settle) = settle {
            self::settle(&mut tx, &self.name, settle).await?;
        }
        fault::point(Point::BeforePage);
        tx.commit().await?;
        fault::point(Point::AfterPage);
        Ok(stored)
    }

    /// Notes that all is read, as of `at`.
    ///
    /// # Errors
    /// If a later pull has begun, or the database's own.
    pub async fn finish(mut self, at: DateTime<Utc>, kept: &Kept, summary: &Summary) -> Result<()> {
        let took_ms = (self.clock.now() - at).num_milliseconds();
        let noted = sqlx::query(
            "update sources set pulled_at = $3, took_ms = $4, rows = $5, stored = $6, refused = $7, oldest_xid = $8, cluster = $9,
                 attempts = 0, error = null, retry_at = null where name = $1 and pulls = $2",
        )
        .bind(&self.name)
        .bind(self.pull)
        .bind(at)
        .bind(took_ms)
        .bind(summary.rows.cast_signed() + summary.unchanged.cast_signed() - summary.vanished.cast_signed())
        .bind(summary.stored.cast_signed())
        .bind(summary.refused.cast_signed())
        .bind(kept.xmin.map(|xmin| xmin.to_string()))
        .bind(&kept.cluster)
        .execute(&mut *self.session)
        .await?;
        self.session.close().await;
        if noted.rows_affected() == 0 {
            return Err(Error::wait(format!("a later pull of the source '{}' has begun", self.name)));
        }
        metrics::pulled(&self.name, "finished");
        Ok(())
    }
}

async fn settle(tx: &mut PgConnection, name: &str, settle: Settle<'_>) -> Result<()> {
    match settle {
        Settle::Position(None) | Settle::Said([]) | Settle::Gone([]) => return Ok(()),
        Settle::Position(Some(position)) => {
            sqlx::query("update sources set position = $2 where name = $1")
                .bind(name)
                .bind(position)
                .execute(tx)
                .await?
        }
        // Of whoever was suppressed nothing is kept, here either.
        Settle::Said(said) => {
            let (keys, digests): (Vec<&str>, Vec<Uuid>) = said.iter().map(|(key, digest)| (&**key, *digest)).unzip();
            sqlx::query(
                "insert into source_rows (source, key, digest)
                 select $1, key, digest from unnest($2::text[], $3::uuid[]) said (key, digest)
                 where exists (select from identifiers i where i.type = 'user_id' and i.value = said.key) order by key
                 on conflict (source, key) do update set digest = excluded.digest",
            )
            .bind(name)
            .bind(keys)
            .bind(digests)
            .execute(tx)
            .await?
        }
        Settle::Gone(keys) => {
            sqlx::query("delete from source_rows where source = $1 and key = any($2)")
                .bind(name)
                .bind(keys)
                .execute(tx)
                .await?
        }
    };
    Ok(())
}

/// How far a source is read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Progress {
    #[serde(skip_serializing)]
    pub source: String,
    pub position: Option<String>,
    /// As of when all was read the last time.
    pub pulled_at: Option<DateTime<Utc>>,
    pub took_ms: Option<i64>,
    /// Of that pull: rows read, messages stored, rows refused.
    pub rows: Option<i64>,
    pub stored: Option<i64>,
    pub refused: Option<i64>,
    /// Pulls that failed since, why the last one did, and when it is tried again.
    pub attempts: i32,
    pub error: Option<String>,
    pub retry_at: Option<DateTime<Utc>>,
}

/// How far all sources are read that were ever pulled, by name.
///
/// # Errors
/// The database's own.
pub async fn progress(pool: &PgPool) -> Result<Vec<Progress>> {
    let all = sqlx::query_as(
        "select name as source, coalesce(position, oldest_xid) as position, pulled_at, took_ms, rows, stored, refused, attempts, error, retry_at
         from sources order by name",
    );
    Ok(all.fetch_all(pool).await?)
}
