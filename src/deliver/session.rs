//! One destination, told what it must be told: recover, then page by page until the log's end.

use std::{collections::HashSet, sync::Arc, time::Instant};

use rdkafka::types::RDKafkaErrorCode as Code;
use sqlx::PgPool;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use super::{
    cursor::{Cursor, End},
    page::{Page, Pages},
    producer::{Failure, Producer},
    quarantine::{self, Quarantined, Skipped},
    recover::{self, Decision, Facts, Found, Halt, Reason},
    state,
    target::Target,
    thread::Thread,
    topic_ids::TopicIds,
};
use crate::{
    Error, Result,
    config::Delivery,
    delta::{self, Chain},
    fault::{self, Point},
    ids::{DestinationId, Position},
    limits,
    membership::lane::Lane,
    telemetry::metrics,
};

/// What was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    pub lane: Lane,
    /// Where it began.
    pub from: Position,
    /// How far the destination is told now.
    pub to: Position,
    /// The log's end when it was last looked at; `to` is less if delivery was asked to stop, or waits for the other lane.
    pub end: Position,
    pub records: u64,
    /// Records newly put aside.
    pub quarantined: u64,
}

/// A delivery with its producer, kept from one call to the next as long as there is no doubt about it.
pub struct Session {
    pool: PgPool,
    destination: DestinationId,
    stream: Uuid,
    target: Target,
    pages: Pages,
    thread: Thread,
    /// Where the destination is, and the log's chain there. `None`: unknown, recover first.
    at: Option<(Position, Chain)>,
    /// Changes in the next transaction: fewer while a record is looked for that Kafka refuses.
    limit: usize,
    skipped: Arc<HashSet<Skipped>>,
    topics: TopicIds,
}

/// Why an attempt ended early.
enum Stop {
    /// Something was put right (a record put aside, a page made shorter): begin again from the cursor.
    Again,
    /// Only the cursor knows what was committed: begin again from it.
    Doubt(Error),
    /// Nothing that another attempt would change.
    Error(Error),
    /// The caller said so.
    Asked,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fenced(error) => Stop::Error(error),
            // Wrong settings do not get better by trying again.
            Failure::Doubt(error) if error.kind == crate::Kind::Settings => Stop::Error(error),
            Failure::Doubt(error) => Stop::Doubt(error),
            Failure::Refused { .. } => Stop::Again,
        }
    }
}

impl Session {
    /// Reads the destination's row; nothing is connected to Kafka yet.
    ///
    /// # Errors
    /// If the database cannot be asked, or knows no such destination.
    pub async fn start(pool: PgPool, target: Target) -> Result<Session> {
        let head = delta::head(&pool, &target.name, target.lane).await?;
        let producer = Producer::new(
            &target.name,
            target.settings.clone(),
            target.delivery,
            head.stream,
            target.cursor_topic.clone(),
        );
        let producer = if target.in_process { producer.without_administration() } else { producer };
        let pages = Pages::new(pool.clone(), &head, &target);
        Ok(Session {
            pool,
            destination: head.destination,
            stream: head.stream,
            topics: TopicIds::of(head.stream),
            thread: Thread::start(producer)?,
            pages,
            limit: target.pace.page(target.page_changes),
            target,
            at: None,
            skipped: Arc::default(),
        })
    }

    /// Tells the destination everything up to the log's end.
    ///
    /// `go_on` is asked after fencing and after each transaction, with what was told so far: it says false when the
    /// lease is lost or the caller is to stop. Safety does not depend on its answer.
    ///
    /// # Errors
    /// [`crate::Kind::Halted`] with a named reason where a person must decide; [`crate::Kind::Settings`] for a missing topic, or
    /// credentials that are refused; [`crate::Kind::Wait`] if Kafka or the database does not answer. After any of them what was told
    /// stays told, once, and a later call goes on from there.
    pub async fn deliver(&mut self, go_on: &(dyn Fn(&Delivered) -> bool + Sync)) -> Result<Delivered> {
        let zero = Position(0);
        let mut told =
            Delivered { lane: self.target.lane, from: zero, to: zero, end: zero, records: 0, quarantined: 0 };
        let mut began = None;
        let mut doubts = 0;
        loop {
            let before = told.to;
            let stop = match self.attempt(&mut told, &mut began, go_on).await {
                Ok(()) | Err(Stop::Asked) => return Ok(told),
                Err(stop) => stop,
            };
            self.at = None;
            match stop {
                Stop::Doubt(error) => {
                    metrics::doubted(&self.target.name);
                    doubts = if told.to > before { 1 } else { doubts + 1 };
                    tracing::warn!(%error, doubts, "delivery in doubt; recovering");
                    if doubts >= limits::DOUBTS_IN_A_ROW {
                        return Err(error);
                    }
                }
                Stop::Error(error) => return Err(error),
                Stop::Again | Stop::Asked => {}
            }
        }
    }

    async fn attempt(
        &mut self,
        told: &mut Delivered,
        began: &mut Option<Position>,
        go_on: &(dyn Fn(&Delivered) -> bool + Sync),
    ) -> Result<(), Stop> {
        let mut position = self.position(told, go_on).await?;
        told.from = *began.get_or_insert(position);
        told.to = position;
        let mut ready = self.pages.page(position, self.limit, &self.skipped).await?;
        let mut committed = None;
        while let Some(page) = ready {
            let page = Arc::new(page);
            self.put_aside(&page.rejected, told).await?;
            self.look_at_topics(&page).await?;
            if !self.target.pace.wait(self.target.lane, page.events, || go_on(told)).await {
                return Err(Stop::Asked);
            }
            let telling = {
                let page = page.clone();
                self.thread.run(move |producer| {
                    let began = Instant::now();
                    producer.tell(&page).map(|()| (producer.is_open(), began.elapsed()))
                })
            };
            let Page { run, from, to, records, .. } = &*page;
            let (destination, records) = (&*self.target.name, records.len());
            let telling = telling.instrument(info_span!("transaction", destination, %run, %from, %to, records));
            // While this page is on its way, the next one is made and the one before is mirrored.
            let (result, next, mirrored) = tokio::join!(
                telling,
                self.pages.page(page.to, self.limit, &self.skipped),
                mirror(&self.pool, self.destination, self.stream, committed),
            );
            mirrored?;
            let sure = match result? {
                Ok((sure, took)) => {
                    let changes = (page.to.0 - page.from.0) as u64;
                    metrics::told(&self.target.name, changes, page.records.len() as u64, took);
                    sure
                }
                Err(Failure::Refused { records, certain }) => {
                    return Err(self.isolate(&page, records, certain, told).await);
                }
                Err(failure) => return Err(failure.into()),
            };
            position = page.to;
            self.at = Some((position, page.chain.clone()));
            committed = Some(position);
            told.to = position;
            told.end = told.end.max(position);
            told.records += page.records.len() as u64;
            self.limit = (self.limit * 2).min(self.target.pace.page(self.target.page_changes));
            if !sure {
                // Committed, but not uneventfully: the next transaction is a new producer's.
                self.at = None;
            }
            let stop = if go_on(told) { (!sure).then_some(Stop::Again) } else { Some(Stop::Asked) };
            if let Some(stop) = stop {
                mirror(&self.pool, self.destination, self.stream, committed).await?;
                return Err(stop);
            }
            ready = next?;
        }
        Ok(mirror(&self.pool, self.destination, self.stream, committed).await?)
    }

    /// Where to go on: known from the last call if nothing happened since, else recovered.
    async fn position(
        &mut self,
        told: &mut Delivered,
        go_on: &(dyn Fn(&Delivered) -> bool + Sync),
    ) -> Result<Position, Stop> {
        if let Some((position, chain)) = &self.at {
            let head = delta::head(&self.pool, &self.target.name, self.target.lane).await?;
            // The database may have been restored under a session that lives on.
            let same = delta::chain_at(&self.pool, self.destination, *position).await?.as_ref() == Some(chain);
            if same && head.stream == self.stream && head.end >= *position {
                told.end = head.end;
                return Ok(*position);
            }
        }
        self.recover(told, go_on).await
    }

    async fn recover(
        &mut self,
        told: &mut Delivered,
        go_on: &(dyn Fn(&Delivered) -> bool + Sync),
    ) -> Result<Position, Stop> {
        tracing::debug!("recovering");
        // What must be behind the cursor is read before it, what must be ahead of it after: then only a true contradiction
        // looks like one, even if another instance takes over and goes on while we read.
        let mirror = delta::head(&self.pool, &self.target.name, self.target.lane).await?.mirror;
        // Nothing is under way yet: who cannot even begin tells the caller, who knows when to try again.
        let found = match self.thread.run(Producer::open).await? {
            Ok(found) => found,
            Err(Failure::Doubt(error) | Failure::Fenced(error)) => return Err(Stop::Error(error)),
            Err(Failure::Refused { .. }) => return Err(Stop::Again),
        };
        let head = delta::head(&self.pool, &self.target.name, self.target.lane).await?;
        told.end = head.end;
        if head.stream != self.stream {
            return Err(Stop::Error(Error::wait("the destination was given a new stream").help("Sync again.")));
        }
        if !go_on(told) {
            return Err(Stop::Asked);
        }
        let (cursor, chain) = match (self.target.delivery, found) {
            // Without transactions the cursor is what Postgres mirrors; it can only be behind what was sent.
            (Delivery::AtLeastOnce, _) if head.mirror > Position(0) => {
                let chain = delta::chain_at(&self.pool, self.destination, head.mirror).await?;
                let end = End { run: crate::ids::RunId(0), chain: chain.clone().unwrap_or_default().to_hex() };
                (Found::Cursor(Cursor { stream: self.stream, next: head.mirror, end: Some(end) }), chain)
            }
            (_, Found::Cursor(cursor)) => {
                let chain = delta::chain_at(&self.pool, self.destination, cursor.next).await?;
                (Found::Cursor(cursor), chain)
            }
            (_, found) => (found, None),
        };
        let cursor_topic = (self.target.delivery == Delivery::ExactlyOnce).then_some(&*self.target.cursor_topic);
        let recreated = self.topics.recreated(&self.pool, &self.thread, cursor_topic).await?;
        let facts = Facts { stream: self.stream, log_end: head.end, mirror, cursor, chain: chain.clone(), recreated };
        let position = match recover::decide(&facts) {
            Decision::Halt(halt) => return Err(self.halt(&halt).await),
            Decision::Resume(position) | Decision::Idle(position) => position,
        };
        state::live(&self.pool, self.destination).await?;
        state::mirror(&self.pool, self.destination, self.stream, position).await?;
        tracing::debug!(%position, end = %head.end, "delivery recovered");
        self.skipped = Arc::new(quarantine::load(&self.pool, self.destination, position).await?);
        self.at = Some((position, chain.unwrap_or_default()));
        Ok(position)
    }

    /// Makes sure that the page's topics exist, and are those that were told to before.
    async fn look_at_topics(&mut self, page: &Page) -> Result<(), Stop> {
        let names = page.records.iter().map(|told| told.record.topic.as_str());
        match self.topics.look(&self.pool, &self.thread, names).await? {
            None => Ok(()),
            Some(topic) => Err(self.halt(&Halt::new(Reason::TopicRecreated, &topic)).await),
        }
    }

    /// Quarantines rows before the transaction that passes them.
    async fn put_aside(&mut self, rows: &[Quarantined], told: &mut Delivered) -> Result<(), Stop> {
        match quarantine::store(&self.pool, self.destination, rows).await? {
            Ok(stored) => {
                told.quarantined += stored;
                metrics::quarantined(&self.target.name, stored);
            }
            Err(halt) => return Err(self.halt(&halt).await),
        }
        if !rows.is_empty() {
            fault::point(Point::AfterQuarantine);
        }
        Ok(())
    }

    /// Kafka refused the page. Records that are known to be at fault are put aside; else the page is cut so that the next
    /// one ends before the first suspect, or is half as long, until the suspect is alone.
    async fn isolate(
        &mut self,
        page: &Arc<Page>,
        records: Vec<(usize, Code)>,
        certain: bool,
        told: &mut Delivered,
    ) -> Stop {
        let mut guilty = records;
        if !certain {
            let first = guilty.iter().map(|(index, _)| page.records[*index].position).min().unwrap_or(page.from);
            let (before, all) = ((first.0 - page.from.0) as usize, (page.to.0 - page.from.0) as usize);
            if all > 1 {
                self.limit = if before > 0 { before } else { all / 2 };
                return Stop::Again;
            }
            // One change, several records in one batch: each is tried by itself, in a transaction that is not committed.
            let suspects = std::mem::take(&mut guilty);
            for (index, _) in suspects {
                let page = page.clone();
                let tried = self.thread.run(move |producer| {
                    producer.open()?;
                    producer.probe(&page, index)
                });
                match tried.await {
                    Ok(Ok(Some(code))) => guilty.push((index, code)),
                    Ok(Ok(None)) => {}
                    Ok(Err(failure)) => return failure.into(),
                    Err(error) => return error.into(),
                }
            }
        }
        let rows: Vec<Quarantined> = guilty.iter().map(|(index, code)| self.quarantined(page, *index, *code)).collect();
        if rows.is_empty() {
            return Stop::Doubt(Error::wait("Kafka refused records together, and each alone is accepted"));
        }
        match self.put_aside(&rows, told).await {
            Ok(()) => Stop::Again,
            Err(stop) => stop,
        }
    }

    fn quarantined(&self, page: &Page, index: usize, code: Code) -> Quarantined {
        let told = &page.records[index];
        let reason = match code {
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => "too_large",
            Code::UnknownPartition => "unknown_partition",
            Code::InvalidTopic => "invalid_topic",
            _ => "refused_by_broker",
        };
        let bytes = told.record.value.as_ref().map_or(0, Vec::len);
        Quarantined {
            position: told.position,
            identify: told.identify,
            identity: told.identity,
            mapping: self.target.mappings[told.mapping].name().to_owned(),
            run: told.run,
            profile: told.profile,
            reason: reason.to_owned(),
            detail: format!("{code}; topic '{}', {bytes} bytes", told.record.topic),
        }
    }

    async fn halt(&self, halt: &Halt) -> Stop {
        Stop::Error(state::halted(&self.pool, self.destination, &self.target.title(), halt).await)
    }
}

/// Mirrors a commit, if there is one to mirror.
async fn mirror(pool: &PgPool, destination: DestinationId, stream: Uuid, committed: Option<Position>) -> Result<()> {
    let Some(position) = committed else { return Ok(()) };
    state::mirror(pool, destination, stream, position).await?;
    fault::point(Point::AfterMirror);
    Ok(())
}
