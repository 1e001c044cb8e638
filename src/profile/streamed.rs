//! How does each record of a stream count once? Offsets move in the transaction of the messages that they speak of.
//!
//! **The argument.** A transaction first moves each of its partitions from the offset where the writer believes it to stand to the one
//! after its last record, and finds it there or stores nothing. So of all who read a partition, late, dead or cut off from Kafka, one
//! gets each stretch of it, and a batch is either stored with its offsets or read again. Kafka is told of no offset, and asked for none.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{
    Message, Refusal,
    import::{is_about_data, reason},
    refused,
    rules::Rules,
    store::{Store, Stored},
};
use crate::{
    Result,
    clock::Clock,
    config::Start,
    fault::{self, Point, Safeguard},
    lease::Leased,
    telemetry::metrics,
};

/// A partition of a topic, which is told from that of a later topic by the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    pub topic: String,
    pub number: i32,
    /// Nil where the brokers give none.
    pub topic_id: Uuid,
}

/// What a partition holds: the offsets from its oldest record to after its newest that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub partition: Partition,
    pub offsets: Range<i64>,
}

/// Why a partition goes on elsewhere than where it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// Its topic was deleted and made anew.
    Recreated,
    /// The records from there on are gone, this many as far as is known: retention was faster, or the end was lost.
    OutOfRange { lost: i64 },
}

/// Where a partition is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub partition: Partition,
    pub next_offset: i64,
    pub gap: Option<Gap>,
}

/// Where each of these partitions is read from, and remembered to be. `is_past_end` says that a broker has refused an offset: then
/// one beyond the end is no longer taken for that of somebody who read on meanwhile.
///
/// # Errors
/// If the database does not do as asked.
pub async fn begin(pool: &PgPool, stream: &str, held: &[Held], start: Start, is_past_end: bool) -> Result<Vec<Place>> {
    let mut transaction = pool.begin().await?;
    // Two instances that find a topic for the first time agree on where it begins.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('rollcall.stream.' || $1, 0))")
        .bind(stream)
        .execute(&mut *transaction)
        .await?;
    let topics: Vec<&str> = held.iter().map(|held| &*held.partition.topic).collect();
    // Locked, so that none of them moves until this is committed.
    let known: Vec<(String, i32, Uuid, i64)> = sqlx::query_as(
        "select topic, partition, topic_id, next_offset from stream_offsets where stream = $1 and topic = any($2)
         order by topic, partition for update",
    )
    .bind(stream)
    .bind(&topics)
    .fetch_all(&mut *transaction)
    .await?;
    let known: Vec<(Partition, i64)> = known
        .into_iter()
        .map(|(topic, number, topic_id, next_offset)| (Partition { topic, number, topic_id }, next_offset))
        .collect();
    let places: Vec<Place> = held.iter().map(|held| place(held, &known, start, is_past_end)).collect();
    // Of a topic that is another now, also partitions that it no longer has.
    let ids: Vec<Uuid> = held.iter().map(|held| held.partition.topic_id).collect();
    sqlx::query(
        "delete from stream_offsets o using unnest($2::text[], $3::uuid[]) as now (topic, topic_id)
         where o.stream = $1 and o.topic = now.topic and o.topic_id <> now.topic_id",
    )
    .bind(stream)
    .bind(&topics)
    .bind(&ids)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into stream_offsets as o (stream, topic, topic_id, partition, next_offset, end_offset)
         select $1, * from unnest($2::text[], $3::uuid[], $4::int[], $5::bigint[], $6::bigint[])
         on conflict (stream, topic, partition) do update
             set next_offset = excluded.next_offset, end_offset = excluded.end_offset, looked_at = now()",
    )
    .bind(stream)
    .bind(&topics)
    .bind(&ids)
    .bind(places.iter().map(|place| place.partition.number).collect::<Vec<_>>())
    .bind(places.iter().map(|place| place.next_offset).collect::<Vec<_>>())
    .bind(held.iter().map(|held| held.offsets.end).collect::<Vec<_>>())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(places)
}

/// Where one partition is read from. A partition that a known topic got later begins with its oldest record: all of it is new.
fn place(held: &Held, known: &[(Partition, i64)], start: Start, is_past_end: bool) -> Place {
    let Held { partition, offsets } = held;
    let fresh = match start {
        Start::Earliest => offsets.start,
        Start::Latest => offsets.end,
    };
    let of_topic = || known.iter().filter(|(known, _)| known.topic == partition.topic);
    let next = known.iter().find(|(known, _)| known == partition).map(|(_, next)| *next);
    let (next_offset, gap) = match next {
        Some(next) if next < offsets.start => (offsets.start, Some(Gap::OutOfRange { lost: offsets.start - next })),
        Some(next) if is_past_end && next > offsets.end => (offsets.start, Some(Gap::OutOfRange { lost: 0 })),
        Some(next) => (next, None),
        None if of_topic().any(|(known, _)| known.topic_id == partition.topic_id) => (offsets.start, None),
        None if of_topic().next().is_some() => (fresh, Some(Gap::Recreated)),
        None => (fresh, None),
    };
    Place { partition: partition.clone(), next_offset, gap }
}

/// Consecutive records of some partitions.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each with the partition, by its place among those of the writer, that it is of; its `line` is its offset.
    pub messages: Vec<Message>,
    pub partitions: Vec<usize>,
    /// What is no message, and why; its `line` is its offset.
    pub refused: Vec<(usize, Refusal)>,
    /// The offset after the batch, of each partition of the writer.
    pub ends: Vec<i64>,
}

/// A stretch of a partition, with its place among those of the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    partition: usize,
    offsets: Range<i64>,
}

/// Takes batches of a stream in, one after the other.
pub struct Writer {
    stream: String,
    clock: Clock,
    /// Its own: dropped amid a transaction it is closed, and so rolled back.
    session: Leased,
    store: Store,
    places: Vec<(Partition, i64)>,
}

impl Writer {
    /// One that takes these partitions to stand where they are said to.
    ///
    /// # Errors
    /// If the database does not let us in.
    pub async fn new(
        pool: &PgPool,
        clock: &Clock,
        stream: &str,
        rules: &Arc<Rules>,
        places: Vec<(Partition, i64)>,
    ) -> Result<Writer> {
        let session = Leased::open(pool).await?;
        let store = Store::new(rules.clone());
        Ok(Writer { stream: stream.to_owned(), clock: clock.clone(), session, store, places })
    }

    /// Takes a batch in, in one transaction unless Postgres refuses one of its messages: then its neighbours without it. False if a
    /// partition stands elsewhere by now: another instance reads it, and this one must ask anew where to go on.
    ///
    /// # Errors
    /// If the database does not do as asked. What was not stored is to be read again.
    pub async fn write(&mut self, batch: &Batch) -> Result<bool> {
        let mut parts: Vec<Range<usize>> = std::iter::once(0..batch.messages.len()).collect();
        while let Some(part) = parts.pop() {
            let stretches = self.stretches(batch, &part);
            let within = |(partition, refusal): &&(usize, Refusal)| {
                let offset = refusal.line.cast_signed();
                stretches.iter().any(|of| of.partition == *partition && of.offsets.contains(&offset))
            };
            let refused: Vec<&Refusal> = batch.refused.iter().filter(within).map(|(_, refusal)| refusal).collect();
            let messages = &batch.messages[part.clone()];
            let stored = match (self.attempt(messages, &stretches, &refused).await, messages) {
                (Err(error), [message]) if is_about_data(&error) => {
                    let alone = Refusal { line: message.line, field: "line", reason: reason(&error) };
                    let refused: Vec<&Refusal> = refused.into_iter().chain([&alone]).collect();
                    self.attempt(&[], &stretches, &refused).await?
                }
                (Err(error), [_, _, ..]) if is_about_data(&error) => {
                    let middle = part.start + part.len() / 2;
                    // Popped in their order.
                    parts.extend([middle..part.end, part.start..middle]);
                    continue;
                }
                (stored, _) => stored?,
            };
            if !stored {
                return Ok(false);
            }
            for stretch in stretches {
                self.places[stretch.partition].1 = stretch.offsets.end;
            }
        }
        Ok(true)
    }

    /// From where each partition stands to after the last of these messages, or after the whole batch if they are its last.
    fn stretches(&self, batch: &Batch, part: &Range<usize>) -> Vec<Stretch> {
        let mut ends: BTreeMap<usize, i64> = BTreeMap::new();
        if part.end == batch.messages.len() {
            ends = batch.ends.iter().copied().enumerate().collect();
        } else {
            for (partition, message) in batch.partitions[part.clone()].iter().zip(&batch.messages[part.clone()]) {
                ends.insert(*partition, message.line.cast_signed() + 1);
            }
        }
        let stretch = |(partition, end): (usize, i64)| Stretch { partition, offsets: self.places[partition].1..end };
        ends.into_iter().map(stretch).filter(|stretch| !stretch.offsets.is_empty()).collect()
    }

    async fn attempt(&mut self, messages: &[Message], stretches: &[Stretch], refused: &[&Refusal]) -> Result<bool> {
        if stretches.is_empty() {
            return Ok(true);
        }
        fault::point(Point::AfterBatchRead);
        self.store.prepare(&mut self.session, messages, self.clock.now()).await?;
        let mut transaction = self.session.begin().await?;
        if !moved(&mut *transaction, &self.stream, &self.places, stretches).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        let Stored { accepted, suppressed } = match messages {
            [] => Stored::default(),
            messages => self.store.store(&mut transaction, messages).await?,
        };
        let mut causes = refused::count(&self.stream, refused.iter().copied());
        let misdated = messages.iter().filter(|message| message.misdated).count() as i64;
        causes.extend((misdated > 0).then(|| (refused::misdated(Some(&self.stream)), misdated)));
        refused::add(&mut *transaction, &causes).await?;
        fault::point(Point::BeforeTakenIn);
        transaction.commit().await?;
        fault::point(Point::AfterTakenIn);
        for ((source, field, reason), messages) in &causes {
            tracing::warn!(source, field, reason, messages, "messages were refused");
        }
        let repeated = messages.len() as u64 - accepted - suppressed;
        metrics::taken_in(&self.stream, [accepted, repeated, suppressed, refused.len() as u64]);
        Ok(true)
    }
}

/// Moves each partition from the beginning of its stretch to the end, or says that one of them stands elsewhere. Rows are locked in
/// order, so that two writers do not wait for each other in a circle.
async fn moved(
    database: impl PgExecutor<'_>,
    stream: &str,
    places: &[(Partition, i64)],
    stretches: &[Stretch],
) -> Result<bool> {
    let partitions = || stretches.iter().map(|stretch| &places[stretch.partition].0);
    let moved = sqlx::query(
        "with wanted as (
             select * from unnest($2::text[], $3::int[], $4::uuid[], $5::bigint[], $6::bigint[])
                 as wanted (topic, partition, topic_id, was, next)),
         held as (
             select o.topic, o.partition, w.next from stream_offsets o
             join wanted w on w.topic = o.topic and w.partition = o.partition
             where o.stream = $1 and o.topic_id = w.topic_id and (o.next_offset = w.was or $7)
             order by o.topic, o.partition for update of o)
         update stream_offsets o set next_offset = held.next from held
         where o.stream = $1 and o.topic = held.topic and o.partition = held.partition",
    )
    .bind(stream)
    .bind(partitions().map(|partition| &*partition.topic).collect::<Vec<_>>())
    .bind(partitions().map(|partition| partition.number).collect::<Vec<_>>())
    .bind(partitions().map(|partition| partition.topic_id).collect::<Vec<_>>())
    .bind(stretches.iter().map(|stretch| stretch.offsets.start).collect::<Vec<_>>())
    .bind(stretches.iter().map(|stretch| stretch.offsets.end).collect::<Vec<_>>())
    .bind(!Safeguard::OffsetsFromWhere.is_on())
    .execute(database)
    .await?
    .rows_affected();
    Ok(moved == stretches.len() as u64)
}

/// Notes the ends of partitions, as of now.
///
/// # Errors
/// If the database does not do as asked.
pub async fn looked_at(pool: &PgPool, stream: &str, held: &[Held]) -> Result<()> {
    let partitions = || held.iter().map(|held| &held.partition);
    sqlx::query(
        "with seen as (
             select * from unnest($2::text[], $3::int[], $4::uuid[], $5::bigint[]) as seen (topic, partition, topic_id, end_offset)),
         held as (
             select o.topic, o.partition, s.end_offset from stream_offsets o
             join seen s on s.topic = o.topic and s.partition = o.partition and s.topic_id = o.topic_id
             where o.stream = $1 order by o.topic, o.partition for update of o)
         update stream_offsets o set end_offset = held.end_offset, looked_at = now() from held
         where o.stream = $1 and o.topic = held.topic and o.partition = held.partition",
    )
    .bind(stream)
    .bind(partitions().map(|partition| &*partition.topic).collect::<Vec<_>>())
    .bind(partitions().map(|partition| partition.number).collect::<Vec<_>>())
    .bind(partitions().map(|partition| partition.topic_id).collect::<Vec<_>>())
    .bind(held.iter().map(|held| held.offsets.end).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

/// How far a partition is taken in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Progress {
    pub stream: String,
    pub topic: String,
    pub partition: i32,
    /// The first offset that is not taken in.
    pub next_offset: i64,
    /// The end of what can be read, when somebody last looked.
    pub end_offset: i64,
    /// Offsets between the two.
    pub lag: i64,
    pub looked_at: DateTime<Utc>,
    /// Records of the whole stream that were refused and are not forgotten by hand.
    pub refused: i64,
}

/// How far all partitions of all streams are taken in.
///
/// # Errors
/// If the database does not do as asked.
pub async fn progress(pool: &PgPool) -> Result<Vec<Progress>> {
    let all = sqlx::query_as(
        "select stream, topic, partition, next_offset, end_offset, greatest(end_offset - next_offset, 0) as lag, looked_at,
                coalesce((select sum(messages) from refusals where source = stream and not is_stored), 0)::bigint as refused
         from stream_offsets order by stream, topic, partition",
    );
    Ok(all.fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32, topic: u128) -> Partition {
        Partition { topic: "events".into(), number, topic_id: Uuid::from_u128(topic) }
    }

    #[test]
    fn a_partition_goes_on_where_it_stopped_unless_that_is_gone() {
        let held = |number, topic| Held { partition: partition(number, topic), offsets: 10..20 };
        let from = |held: &Held, known: &[(Partition, i64)], start, is_past_end| {
            let place = place(held, known, start, is_past_end);
            (place.next_offset, place.gap)
        };
        let at = |next| [(partition(0, 1), next)];
        for (start, fresh) in [(Start::Earliest, 10), (Start::Latest, 20)] {
            assert_eq!(from(&held(0, 1), &[], start, false), (fresh, None), "never read");
            assert_eq!(from(&held(0, 1), &at(15), start, false), (15, None));
            assert_eq!(from(&held(1, 1), &at(15), start, false), (10, None), "a partition that was added is all new");
            assert_eq!(from(&held(0, 2), &at(15), start, false), (fresh, Some(Gap::Recreated)));
            assert_eq!(from(&held(1, 2), &at(15), start, false), (fresh, Some(Gap::Recreated)));
            let lost = Some(Gap::OutOfRange { lost: 3 });
            assert_eq!(from(&held(0, 1), &at(7), start, false), (10, lost), "retention was faster");
            assert_eq!(from(&held(0, 1), &at(25), start, false), (25, None), "somebody else may have read on");
            let lost = Some(Gap::OutOfRange { lost: 0 });
            assert_eq!(from(&held(0, 1), &at(25), start, true), (10, lost), "a broker has said that it is not there");
        }
    }
}
