//! What must a destination still be told, in which order? The sealed log of each of its lanes, read page by page.
//!
//! The runs' bitmaps are the log: position `from + n` of a run's range is its n-th id, entered ascending, then exited
//! ascending. No row per change exists; what a trait's changes say is sealed with the run, in chunks, and part of the chain. This module
//! only reads; `log` alone writes it.
//!
//! **What is told was held against its chain.** Whoever comes to a run of the log computes the chain anew, from the one before it and
//! what is stored now, once a run. So a row that was changed, is missing or is there twice ends the reading.

pub mod backfill;
pub mod chain;
pub mod lane;
pub(crate) mod log;
pub(crate) mod renamed;
pub mod turn;

use std::{ops::Range, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use self::lane::Lane;
use crate::{
    Error, Result,
    audience::{Class, options::Options},
    fault::Safeguard,
    ids::{AudienceId, BackfillId, DestinationId, Position, ProfileId, RunId},
    membership::diff::{self, Change},
    values,
};

pub use self::chain::{Chain, Link};

/// A run as its destination sees it: what every Identify of it has in common.
#[derive(Debug, Clone)]
pub struct SealedRun {
    pub run: RunId,
    pub audience: AudienceId,
    pub class: Class,
    /// The audience's or trait's key, which is the name under which it is told.
    pub key: String,
    /// `aud_…` or `tra_…`, told as `context.personas.computation_id`.
    pub computation_id: String,
    pub evaluated_at: DateTime<Utc>,
    /// Of the definition version that was evaluated.
    pub options: Options,
    /// The run's places in the destination's log.
    pub range: Range<Position>,
    /// The log's chain before it, and after.
    pub before: Chain,
    pub chain: Chain,
    /// Not to be told before the other lane is told so far: see [`crate::delta::lane`].
    pub after: Position,
    /// The backfill of which this is a slice.
    pub backfill: Option<BackfillId>,
    /// Whether it tells records again that were put aside, and nothing else.
    pub is_retry: bool,
    /// The last merge of profiles that the run has seen: those after it concern its changes as they are delivered.
    pub last_merge: i64,
    /// The last row of its values that it tells, of a trait.
    pub values_through: Option<i64>,
    /// Its changes are told under those identifiers alone that came since this snapshot; none: under all.
    pub identified_since: Option<String>,
    /// Whether its records go out with a null value: the last word on people who are to be forgotten.
    pub tombstone: bool,
}

/// What holds of a profile from a change on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// It is in the audience.
    In,
    /// It is out of the audience.
    Out,
    /// It has this value of the trait, as JSON text; an object has several, each told under its own key.
    Value(String),
    /// It has no value of the trait any more.
    Nothing,
}

/// Consecutive changes of one run.
#[derive(Debug, Clone)]
pub struct Page {
    pub run: Arc<SealedRun>,
    pub from: Position,
    /// The change at `from + n`: who, and what holds of them now.
    pub changes: Vec<(ProfileId, Now)>,
}

impl Page {
    /// The place after the last change.
    pub fn to(&self) -> Position {
        Position(self.from.0 + self.changes.len() as i64)
    }

    /// The chain that a cursor at `from` carries: what is told before must end with it.
    pub fn follows(&self) -> &Chain {
        if self.from == self.run.range.start { &self.run.before } else { &self.run.chain }
    }
}

/// Where a destination's log ends, and what it is known by.
#[derive(Debug, Clone)]
pub struct Head {
    pub destination: DestinationId,
    pub stream: uuid::Uuid,
    /// The place after the last sealed change.
    pub end: Position,
    /// The cursor as mirrored in Postgres: advisory where the truth is in Kafka.
    pub mirror: Position,
}

/// Reads the head of a destination's lane.
///
/// # Errors
/// If the database cannot be asked, or knows no such lane.
pub async fn head(pool: &PgPool, destination: &str, lane: Lane) -> Result<Head> {
    let head = find(pool, destination, lane).await?;
    head.ok_or_else(|| Error::settings(format!("no destination '{destination}' has been told anything yet")))
}

/// Reads the head of a destination's lane, if there is one: a bulk lane is made when it is first needed.
///
/// # Errors
/// If the database cannot be asked.
pub async fn find(pool: &PgPool, destination: &str, lane: Lane) -> Result<Option<Head>> {
    let row = sqlx::query(
        "select d.id, d.stream, d.next_position, coalesce(v.cursor_position, 0) as cursor_position
         from destinations d left join deliveries v on v.destination_id = d.id where d.name = $1 and d.lane = $2",
    )
    .bind(destination)
    .bind(lane)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Head {
        destination: DestinationId(row.try_get("id")?),
        stream: row.try_get("stream")?,
        end: Position(row.try_get("next_position")?),
        mirror: Position(row.try_get("cursor_position")?),
    }))
}

/// The chain that a cursor at `position` must carry; `None` if the log does not reach so far.
///
/// # Errors
/// If the database cannot be asked.
pub async fn chain_at(pool: &PgPool, destination: DestinationId, position: Position) -> Result<Option<Chain>> {
    if position == Position(0) {
        return Ok(Some(Chain::default()));
    }
    let chain: Option<Option<Vec<u8>>> = sqlx::query_scalar(
        "select case when to_position >= $2 then chain end from deltas where destination_id = $1 and from_position < $2
         order by from_position desc limit 1",
    )
    .bind(destination)
    .bind(position)
    .fetch_optional(pool)
    .await?;
    Ok(chain.flatten().map(Chain))
}

/// A reader of one lane's log that keeps the bitmaps of the run it is in.
#[derive(Debug)]
pub struct Reader {
    destination: DestinationId,
    current: Option<(Arc<SealedRun>, Change)>,
    /// How far the other lane is told, when last looked at.
    other_told: Position,
}

impl Reader {
    pub fn new(destination: DestinationId) -> Self {
        Reader { destination, current: None, other_told: Position(0) }
    }

    /// Takes the other lane for told up to there: for a look at a log that is not told.
    pub fn take_as_told(&mut self, other: Position) {
        self.other_told = other;
    }

    /// The changes from `from` on, at most `limit` of them and of one run; `None` at the end of the log, and where the other lane must
    /// be told something before.
    ///
    /// # Errors
    /// If the database cannot be asked, or the log has a gap ([`crate::Kind::Halted`]).
    pub async fn page(&mut self, pool: &PgPool, from: Position, limit: usize) -> Result<Option<Page>> {
        if !matches!(&self.current, Some((run, _)) if run.range.contains(&from)) {
            let Some(found) = self.seek(pool, from).await? else { return Ok(None) };
            self.current = Some(found);
        }
        let Some((run, change)) = &self.current else { return Ok(None) };
        // The dangerous line: what must be told before is told, or this is not told yet. See [`lane`].
        if run.after > self.other_told {
            self.other_told = other_told(pool, self.destination).await?;
            if run.after > self.other_told {
                return Ok(None);
            }
        }
        let offset = (from.0 - run.range.start.0) as u64;
        let entered: Vec<ProfileId> = ids(&change.entered, offset, limit).collect();
        let left = limit - entered.len();
        let exited = ids(&change.exited, offset.saturating_sub(change.entered.len()), left);
        let changes = match run.class {
            Class::Audience => {
                entered.into_iter().map(|id| (id, Now::In)).chain(exited.map(|id| (id, Now::Out))).collect()
            }
            Class::Trait => {
                let exited: Vec<ProfileId> = exited.collect();
                let ids = [&entered[..], &exited[..]].concat();
                let mut values = values::sealed(&mut *pool.acquire().await?, run.run, run.values_through, &ids).await?;
                let lacking = || damaged(format!("run {} has changes without their values", run.run));
                let has = |id| Ok((id, Now::Value(values.remove(&id).ok_or_else(lacking)?)));
                let mut changes = entered.into_iter().map(has).collect::<Result<Vec<_>>>()?;
                // Of several values their keys are sealed, each with null.
                changes.extend(exited.into_iter().map(|id| (id, values.remove(&id).map_or(Now::Nothing, Now::Value))));
                changes
            }
        };
        Ok(Some(Page { run: run.clone(), from, changes }))
    }

    async fn seek(&self, pool: &PgPool, from: Position) -> Result<Option<(Arc<SealedRun>, Change)>> {
        let row = sqlx::query(
            "select d.from_position, d.to_position, d.chain, d.after_position, d.backfill_id, b.kind is not distinct from 'retry' as is_retry, d.identified_since, r.id, r.audience_id, a.class, a.key,
                    a.computation_id,
                    r.evaluated_at, r.last_merge, r.tombstone, v.options, coalesce(d.entered, r.entered) as entered,
                    coalesce(d.exited, r.exited) as exited, d.nonce, d.values_through,
                    rollcall_sealed_values(d.run_id, d.values_through) as values, p.chain as before, p.to_position as before_ends
             from deltas d
             join runs r on r.id = d.run_id
             join audiences a on a.id = r.audience_id
             left join backfills b on b.id = d.backfill_id
             join definitions v on v.audience_id = r.audience_id and v.version = r.definition_version
             left join lateral (
                 select p.chain, p.to_position from deltas p
                 where p.destination_id = d.destination_id and p.from_position < d.from_position
                 order by p.from_position desc limit 1) p on true
             where d.destination_id = $1 and d.to_position > $2
             order by d.to_position limit 1",
        )
        .bind(self.destination)
        .bind(from)
        .fetch_optional(pool)
        .await?;
        let Some(row) = row else {
            return match is_cut_off(pool, self.destination, from).await? {
                true => Err(damaged(format!("it ends at {from}, and more was sealed"))),
                false => Ok(None),
            };
        };
        let (mut run, change) = sealed(&row)?;
        if !run.range.contains(&from) || change.len() != (run.range.end.0 - run.range.start.0) as u64 {
            return Err(damaged(format!("run {} does not fit its place, at {from}", run.run)));
        }
        run.before = match row.try_get::<Option<Vec<u8>>, _>("before")? {
            None if run.range.start == Position(0) => Chain::default(),
            Some(chain) if row.try_get::<Position, _>("before_ends")? == run.range.start => Chain(chain),
            _ => return Err(damaged(format!("what stands before run {} is missing or overlaps it", run.run))),
        };
        // The dangerous line: without it, whoever is put into the bitmap by mistake is told.
        if run.before.link(&link(&row)?) != run.chain && Safeguard::ChainComputedAnew.is_on() {
            return Err(damaged(format!("run {} is not as it was sealed", run.run)));
        }
        Ok(Some((Arc::new(run), change)))
    }
}

/// Whether the log has nothing from there on, though more was sealed. One statement, so that a seal is seen whole or not at all.
async fn is_cut_off(pool: &PgPool, destination: DestinationId, from: Position) -> Result<bool> {
    let cut_off = sqlx::query_scalar(
        "select next_position > $2 and not exists (select from deltas where destination_id = $1 and to_position > $2)
         from destinations where id = $1",
    );
    Ok(cut_off.bind(destination).bind(from).fetch_one(pool).await?)
}

/// Whether a lane's log is there from its beginning to its end, as it was sealed: not past retention, nor damaged.
///
/// # Errors
/// If the database cannot be asked.
pub async fn is_whole(connection: &mut PgConnection, destination: DestinationId) -> Result<bool> {
    let (end, last): (Position, Vec<u8>) =
        sqlx::query_as("select next_position, chain from destinations where id = $1")
            .bind(destination)
            .fetch_one(&mut *connection)
            .await?;
    let mut rows = sqlx::query(
        "select d.from_position, d.to_position, d.chain, d.after_position, d.backfill_id, d.identified_since, d.nonce, r.id,
                coalesce(d.entered, r.entered) as entered, coalesce(d.exited, r.exited) as exited,
                rollcall_sealed_values(d.run_id, d.values_through) as values,
                exists (select from run_values v where v.run_id = d.run_id and v.id <= d.values_through
                        and sha256(v.values) <> coalesce(v.rewritten, v.digest)) as is_damaged
         from deltas d join runs r on r.id = d.run_id where d.destination_id = $1 order by d.from_position",
    )
    .bind(destination)
    .fetch(connection);
    let (mut at, mut chain) = (Position(0), Chain::default());
    while let Some(row) = rows.try_next().await? {
        let link = link(&row)?;
        let next = chain.link(&link);
        if row.try_get("is_damaged")? || link.range.start != at || next.0 != row.try_get::<&[u8], _>("chain")? {
            return Ok(false);
        }
        (at, chain) = (link.range.end, next);
    }
    Ok(at == end && chain.0 == last)
}

/// What the chain takes in of a row of the log.
fn link(row: &PgRow) -> Result<Link<'_>> {
    Ok(Link {
        run: row.try_get("id")?,
        range: row.try_get("from_position")?..row.try_get("to_position")?,
        entered: row.try_get("entered")?,
        exited: row.try_get("exited")?,
        values: row.try_get("values")?,
        after: row.try_get("after_position")?,
        backfill: row.try_get("backfill_id")?,
        identified_since: row.try_get("identified_since")?,
        nonce: row.try_get("nonce")?,
    })
}

fn damaged(what: String) -> Error {
    Error::halted(format!("the log was damaged: {what}"))
        .help("The database was edited, damaged or partly restored: restore it from one backup.")
}

/// The mirrored cursor of the other lane of the same destination.
async fn other_told(pool: &PgPool, destination: DestinationId) -> Result<Position> {
    let told = sqlx::query_scalar(
        "select v.cursor_position from destinations mine
         join destinations other on other.name = mine.name and other.lane <> mine.lane
         join deliveries v on v.destination_id = other.id where mine.id = $1",
    )
    .bind(destination)
    .fetch_optional(pool)
    .await?;
    Ok(told.unwrap_or(Position(0)))
}

fn sealed(row: &PgRow) -> Result<(SealedRun, Change)> {
    let options: serde_json::Value = row.try_get("options")?;
    let run = SealedRun {
        run: RunId(row.try_get("id")?),
        audience: AudienceId(row.try_get("audience_id")?),
        class: Class::of(row.try_get("class")?),
        key: row.try_get("key")?,
        computation_id: row.try_get("computation_id")?,
        evaluated_at: row.try_get("evaluated_at")?,
        options: serde_json::from_value(options)
            .map_err(|error| Error::halted("a stored definition's options cannot be read").because(error))?,
        range: Position(row.try_get("from_position")?)..Position(row.try_get("to_position")?),
        before: Chain::default(),
        chain: Chain(row.try_get("chain")?),
        after: row.try_get("after_position")?,
        backfill: row.try_get("backfill_id")?,
        is_retry: row.try_get("is_retry")?,
        last_merge: row.try_get("last_merge")?,
        identified_since: row.try_get("identified_since")?,
        tombstone: row.try_get("tombstone")?,
        values_through: row.try_get("values_through")?,
    };
    let change = Change {
        entered: diff::decode(row.try_get::<&[u8], _>("entered")?)?,
        exited: diff::decode(row.try_get::<&[u8], _>("exited")?)?,
    };
    Ok((run, change))
}

/// The ids of a bitmap from its n-th on.
fn ids(bitmap: &RoaringBitmap, n: u64, limit: usize) -> impl Iterator<Item = ProfileId> + '_ {
    let first = u32::try_from(n).ok().and_then(|n| bitmap.select(n));
    first.into_iter().flat_map(|first| bitmap.range(first..)).take(limit).map(ProfileId)
}
