//! What does Postgres say that was to be told? The log of both lanes, its chain computed anew, held against what counts as told.
//!
//! All of it on one snapshot. The log is walked in the order in which each audience's changes were sealed, over both lanes; what
//! the last change of each profile says is its *last word*, and `told` must say the same.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::{
    report::{Findings, Kind},
    should::Told,
    told,
};
use crate::{
    Result,
    audience::Class,
    delta::{Chain, Link, lane::Lane},
    ids::{AudienceId, BackfillId, DestinationId, Position, RunId},
    membership::diff::{self, Change},
};

/// Parts of the log whose bitmaps are in memory together.
const CHUNK: usize = 16;

/// The log of a destination.
#[derive(Debug)]
pub struct Log {
    /// The live lane, and the bulk lane where there is one.
    pub lanes: Vec<LaneLog>,
    pub audiences: Vec<Audience>,
    /// Of whom no value is kept any more.
    pub forgotten: RoaringBitmap,
    /// Those whom the log does not name as `told` does: merged, forgotten, or to be.
    pub apart: RoaringBitmap,
    /// Runs whose values are not those that were sealed.
    pub damaged: HashSet<RunId>,
}

/// One lane's log.
#[derive(Debug)]
pub struct LaneLog {
    pub destination: DestinationId,
    pub lane: Lane,
    pub stream: Uuid,
    pub end: Position,
    /// In their order; older ones may be past retention.
    pub parts: Vec<Part>,
    chain: Chain,
}

/// What was sealed together.
#[derive(Debug, Clone)]
pub struct Part {
    pub range: Range<i64>,
    pub run: RunId,
    /// Index among the audiences.
    pub audience: usize,
    /// The position of the other lane that must come before.
    pub after: i64,
    pub backfill: Option<BackfillId>,
    /// Told under those names alone that came since.
    identified_since: Option<String>,
    pub evaluated_at: DateTime<Utc>,
    /// Whether its records have no value.
    pub tombstone: bool,
    /// Whether a change may be told under several names.
    pub several: bool,
    pub mapping_version: String,
    /// The last row of its run's values that it tells.
    pub values_through: Option<i64>,
    /// How many of its changes say that somebody entered.
    pub entered: u64,
    chain: Chain,
}

/// What the chain takes in of a part.
#[derive(Debug, sqlx::FromRow)]
struct Stored {
    entered: Vec<u8>,
    exited: Vec<u8>,
    nonce: Uuid,
    values: Option<Vec<u8>>,
}

/// An audience or trait, and the last word of its log on each profile.
#[derive(Debug)]
pub struct Audience {
    pub id: AudienceId,
    pub class: Class,
    pub key: String,
    pub last: Change,
    /// Where the destination was told of it.
    pub told: Option<Told>,
}

impl LaneLog {
    /// The first position that is kept.
    pub fn from(&self) -> Position {
        Position(self.parts.first().map_or(self.end.0, |part| part.range.start))
    }

    /// The part that a position is in.
    pub fn part(&self, position: i64) -> Option<usize> {
        let at = self.parts.partition_point(|part| part.range.end <= position);
        self.parts.get(at).filter(|part| part.range.contains(&position)).map(|_| at)
    }
}

impl Log {
    /// Reads and checks the log of a destination.
    ///
    /// # Errors
    /// If the database cannot be asked. What does not add up is no error, but found.
    pub async fn read(pool: &PgPool, destination: &str, found: &mut Findings) -> Result<Log> {
        let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
        let (lanes, audiences) = (lanes(&mut tx, destination).await?, audiences(&mut tx).await?);
        let forgotten = forgotten(&mut tx).await?;
        let mut log = Log { lanes, audiences, forgotten, apart: RoaringBitmap::new(), damaged: HashSet::new() };
        let known: HashMap<AudienceId, usize> =
            log.audiences.iter().enumerate().map(|(index, audience)| (audience.id, index)).collect();
        for lane in &mut log.lanes {
            lane.parts = parts(&mut tx, lane.destination, &known).await?;
            lane.must_be_gapless(found);
        }
        log.walk(&mut tx, found).await?;
        log.look_at_values(&mut tx, found).await?;
        told::check(&mut tx, &mut log, found).await?;
        tx.commit().await?;
        Ok(log)
    }

    /// Computes the chain and the last words.
    async fn walk(&mut self, tx: &mut PgConnection, found: &mut Findings) -> Result<()> {
        let order = self.order(found);
        let mut chains: Vec<Option<Chain>> =
            self.lanes.iter().map(|lane| (lane.from() == Position(0)).then(Chain::default)).collect();
        for chunk in order.chunks(CHUNK) {
            for ((lane, part), stored) in chunk.iter().zip(self.stored(tx, chunk).await?) {
                let Stored { entered, exited, nonce, values } = stored;
                let LaneLog { lane: name, parts, .. } = &mut self.lanes[*lane];
                let part = &mut parts[*part];
                let (run, from) = (part.run, Position(part.range.start));
                let link = Link {
                    values: values.as_deref(),
                    after: Position(part.after),
                    backfill: part.backfill,
                    identified_since: part.identified_since.as_deref(),
                    ..Link::of(run, from..Position(part.range.end), &entered, &exited, nonce)
                };
                // A part whose forerunner is past retention has nothing to be held against.
                let linked = chains[*lane].as_ref().map(|before| before.link(&link));
                if linked.is_some_and(|linked| linked != part.chain) {
                    found.add_run(
                        Kind::Chain,
                        *name,
                        run,
                        from,
                        "what is stored is not what was sealed: its chain is another",
                    );
                }
                chains[*lane] = Some(part.chain.clone());
                match (diff::decode(&entered), diff::decode(&exited)) {
                    (Ok(entered), Ok(exited)) => {
                        part.entered = entered.len();
                        let change = Change { entered, exited };
                        if change.len() != (part.range.end - part.range.start) as u64 {
                            found.add_run(Kind::Chain, *name, run, from, "its bitmaps do not fit its range of the log");
                        }
                        let last = &mut self.audiences[part.audience].last;
                        last.entered = change.apply(&last.entered);
                        last.exited = (&last.exited - &change.entered) | &change.exited;
                    }
                    _ => found.add_run(Kind::Chain, *name, run, from, "its bitmaps cannot be read"),
                }
            }
        }
        for lane in &self.lanes {
            if let Some(last) = lane.parts.last()
                && (last.chain != lane.chain || last.range.end != lane.end.0)
            {
                let (run, end) = (last.run, Position(last.range.end));
                found.add_run(Kind::Chain, lane.lane, run, end, "the lane's head is not where its log ends");
            }
        }
        Ok(())
    }

    /// Holds the values that traits' runs tell against the digests that are part of the chain.
    async fn look_at_values(&mut self, tx: &mut PgConnection, found: &mut Findings) -> Result<()> {
        let parts = || self.lanes.iter().flat_map(|lane| lane.parts.iter().map(move |part| (lane.lane, part)));
        let runs: Vec<i64> = parts().filter(|(_, part)| part.values_through.is_some()).map(|of| of.1.run.0).collect();
        let damaged: Vec<RunId> = sqlx::query_scalar(
            "select distinct run_id from run_values
             where run_id = any($1) and sha256(values) <> coalesce(rewritten, digest)",
        )
        .bind(runs)
        .fetch_all(tx)
        .await?;
        for (lane, part) in parts().filter(|(_, part)| damaged.contains(&part.run)) {
            let detail = "the values that it tells are not those that were sealed";
            found.add_run(Kind::Chain, lane, part.run, Position(part.range.start), detail);
        }
        self.damaged = damaged.into_iter().collect();
        Ok(())
    }

    /// The parts (lane, index) in an order that keeps that of each audience over both lanes: see [`crate::delta::lane`].
    fn order(&self, found: &mut Findings) -> Vec<(usize, usize)> {
        let mut next = [0usize; 2];
        let mut order = Vec::new();
        loop {
            let head = |lane: usize| self.lanes.get(lane).and_then(|log| log.parts.get(next[lane]));
            let passed = |lane: usize| head(lane).map_or(i64::MAX, |part| part.range.start);
            let may = |lane: usize| head(lane).is_some_and(|part| part.after <= passed(1 - lane));
            let lane = match (may(0), may(1)) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => {
                    let Some(lane) = (0..2).find(|lane| head(*lane).is_some()) else { break };
                    let (name, part) = (self.lanes[lane].lane, &self.lanes[lane].parts[next[lane]]);
                    let detail = "the lanes wait for each other in a circle";
                    found.add_run(Kind::Chain, name, part.run, Position(part.range.start), detail);
                    lane
                }
            };
            order.push((lane, next[lane]));
            next[lane] += 1;
        }
        order
    }

    /// What is stored of some parts.
    async fn stored(&self, tx: &mut PgConnection, parts: &[(usize, usize)]) -> Result<Vec<Stored>> {
        let of = |(lane, part): &(usize, usize)| {
            (self.lanes[*lane].destination.0, self.lanes[*lane].parts[*part].range.start)
        };
        let (destinations, from): (Vec<i32>, Vec<i64>) = parts.iter().map(of).unzip();
        Ok(sqlx::query_as(
            "select coalesce(d.entered, r.entered) as entered, coalesce(d.exited, r.exited) as exited, d.nonce,
                    rollcall_sealed_values(d.run_id, d.values_through) as values
             from unnest($1::int[], $2::bigint[]) with ordinality u (destination_id, from_position, n)
             join deltas d using (destination_id, from_position) join runs r on r.id = d.run_id order by n",
        )
        .bind(destinations)
        .bind(from)
        .fetch_all(tx)
        .await?)
    }

    /// The changes of some parts, where their bitmaps can be read.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn changes(&self, pool: &PgPool, parts: &[(usize, usize)]) -> Result<Vec<Option<Change>>> {
        let stored = self.stored(&mut *pool.acquire().await?, parts).await?;
        let decoded = stored.iter().map(|stored| {
            Some(Change { entered: diff::decode(&stored.entered).ok()?, exited: diff::decode(&stored.exited).ok()? })
        });
        Ok(decoded.collect())
    }
}

impl LaneLog {
    fn must_be_gapless(&self, found: &mut Findings) {
        for pair in self.parts.windows(2) {
            if pair[0].range.end != pair[1].range.start {
                let (run, from) = (pair[1].run, Position(pair[1].range.start));
                found.add_run(Kind::Chain, self.lane, run, from, "the log has a gap, or two runs overlap");
            }
        }
    }
}

/// Who is named by a change at a place of its part.
pub fn profile_at(change: &Change, n: u64) -> Option<u32> {
    let select = |bitmap: &RoaringBitmap, n: u64| bitmap.select(u32::try_from(n).ok()?);
    match n.checked_sub(change.entered.len()) {
        None => select(&change.entered, n),
        Some(n) => select(&change.exited, n),
    }
}

async fn lanes(tx: &mut PgConnection, destination: &str) -> Result<Vec<LaneLog>> {
    let rows = sqlx::query(
        "select id, lane, stream, next_position, chain from destinations where name = $1 order by lane desc",
    )
    .bind(destination)
    .fetch_all(tx)
    .await?;
    let lane = |row: &sqlx::postgres::PgRow| {
        Ok(LaneLog {
            destination: DestinationId(row.try_get("id")?),
            lane: row.try_get("lane")?,
            stream: row.try_get("stream")?,
            end: Position(row.try_get("next_position")?),
            parts: Vec::new(),
            chain: Chain(row.try_get("chain")?),
        })
    };
    rows.iter().map(lane).collect()
}

async fn forgotten(tx: &mut PgConnection) -> Result<RoaringBitmap> {
    let ids: Vec<i64> = sqlx::query_scalar("select from_id from merges where into_id is null").fetch_all(tx).await?;
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}

async fn audiences(tx: &mut PgConnection) -> Result<Vec<Audience>> {
    let rows = sqlx::query("select id, class, key from audiences order by id").fetch_all(tx).await?;
    let audience = |row: &sqlx::postgres::PgRow| {
        let class = Class::of(row.try_get("class")?);
        let (id, key) = (AudienceId(row.try_get("id")?), row.try_get("key")?);
        Ok(Audience { id, class, key, last: Change::default(), told: None })
    };
    rows.iter().map(audience).collect()
}

async fn parts(tx: &mut PgConnection, lane: DestinationId, known: &HashMap<AudienceId, usize>) -> Result<Vec<Part>> {
    let rows = sqlx::query(
        "select d.from_position, d.to_position, d.run_id, d.chain, d.after_position, d.backfill_id, d.identified_since,
                d.mapping_version, d.values_through,
                r.audience_id, r.evaluated_at, r.tombstone,
                jsonb_array_length(coalesce(v.options -> 'id_sync', '[]')) > 0 as several
         from deltas d join runs r on r.id = d.run_id
         join definitions v on v.audience_id = r.audience_id and v.version = r.definition_version
         where d.destination_id = $1 order by d.from_position",
    )
    .bind(lane)
    .fetch_all(tx)
    .await?;
    let part = |row: &sqlx::postgres::PgRow| {
        let audience = AudienceId(row.try_get("audience_id")?);
        Ok(Part {
            range: row.try_get("from_position")?..row.try_get("to_position")?,
            run: RunId(row.try_get("run_id")?),
            audience: known.get(&audience).copied().unwrap_or_default(),
            after: row.try_get("after_position")?,
            backfill: row.try_get("backfill_id")?,
            identified_since: row.try_get("identified_since")?,
            evaluated_at: row.try_get("evaluated_at")?,
            tombstone: row.try_get("tombstone")?,
            several: row.try_get("several")?,
            mapping_version: row.try_get("mapping_version")?,
            values_through: row.try_get("values_through")?,
            entered: 0,
            chain: Chain(row.try_get("chain")?),
        })
    };
    rows.iter().map(part).collect()
}
