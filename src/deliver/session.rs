//! One destination, told what it must be told: recover, then page by page until the log's end.
//!
//! Where it goes on is found in [`super::resume`], what becomes of refused records in [`super::isolate`].

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::PgPool;
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

use super::{
    claim::{self, Claim},
    outside::{Failure, Outside, Page, Real},
    quarantine::{Quarantined, Skipped},
    recover::{Halt, Reason},
    target::Target,
    topic_ids::{Amiss, TopicIds},
};
use crate::{
    Error, Kind, Result,
    delta::{self, Chain, lane::Lane},
    fault::{self, Point},
    ids::Position,
    limits,
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
pub struct Session<O = Real> {
    pub(super) outside: O,
    pub(super) stream: Uuid,
    pub(super) target: Target,
    /// The right to write what it finds; `None` before its first recovery.
    pub(super) claim: Option<Claim>,
    /// Where the destination is, and the log's chain there. `None`: unknown, recover first.
    pub(super) at: Option<(Position, Chain)>,
    /// Changes in the next transaction: fewer while a record is looked for that Kafka refuses.
    pub(super) limit: usize,
    pub(super) skipped: Arc<HashSet<Skipped>>,
    pub(super) topics: TopicIds,
}

/// Why an attempt ended early.
pub(super) enum Stop {
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

impl Session {
    /// Reads the destination's row; nothing is connected to Kafka yet.
    ///
    /// # Errors
    /// If the database cannot be asked, or knows no such destination.
    pub async fn start(pool: PgPool, target: Target) -> Result<Session> {
        let head = delta::head(&pool, &target.name, target.lane).await?;
        Ok(Session::within(Real::new(pool, target.clone(), &head)?, target, head.stream))
    }
}

impl<O: Outside> Session<O> {
    /// A session about `stream` that has done nothing yet.
    pub fn within(outside: O, target: Target, stream: Uuid) -> Session<O> {
        Session {
            outside,
            stream,
            topics: TopicIds::of(stream, &target.cursor_topic),
            limit: target.pace.page(target.page_changes),
            target,
            claim: None,
            at: None,
            skipped: Arc::default(),
        }
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
        let going_on = self.at.is_some();
        let mut position = self.position(told, go_on).await?;
        // Librdkafka looks at topics every five minutes: of a new producer alone it is known that it has just looked.
        let mut fresh = !(going_on && self.at.is_some());
        told.from = *began.get_or_insert(position);
        told.to = position;
        let claim = self.claim()?;
        // At the log's end there is nothing to be read: an idle lane costs one look at its head.
        let mut ready = if position < told.end { self.page(position).await? } else { None };
        let mut committed = None;
        if ready.is_none() {
            self.look_while_idle().await?;
        }
        while let Some(page) = ready {
            let page = Arc::new(page);
            self.continues(&page)?;
            self.put_aside(&page, &page.rejected, told).await?;
            self.look_at_topics(&page).await?;
            if !self.target.pace.wait(self.target.lane, page.events, || go_on(told)).await {
                return Err(Stop::Asked);
            }
            let telling = self.outside.tell(page.clone());
            let Page { run, from, to, records, .. } = &*page;
            let (destination, records) = (&*self.target.name, records.len());
            let telling = telling.instrument(info_span!("transaction", destination, %run, %from, %to, records));
            // While this page is on its way, the next one is made and the one before is mirrored.
            let (result, next, mirrored) = tokio::join!(
                telling,
                self.outside.page(page.to, self.limit, &self.skipped),
                mirror(&self.outside, &claim, committed),
            );
            mirrored?;
            let sure = match result {
                Ok(committed) => {
                    let changes = (page.to.0 - page.from.0) as u64;
                    metrics::told(&self.target.name, changes, page.records.len() as u64, committed.took);
                    committed.sure
                }
                Err(Failure::Refused { records, certain }) => {
                    return Err(self.isolate(&page, records, certain, fresh, told).await);
                }
                Err(failure) => return Err(self.failed(failure).await),
            };
            fresh = false;
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
                mirror(&self.outside, &claim, committed).await?;
                return Err(stop);
            }
            ready = match next {
                Err(error) if error.kind == Kind::Halted => {
                    mirror(&self.outside, &claim, committed).await?;
                    return Err(self.damaged(error).await);
                }
                next => next?,
            };
        }
        Ok(mirror(&self.outside, &claim, committed).await?)
    }

    /// Postgres may have gone back since the page before was made, and on in another way: then the next one continues a history
    /// that was not told, and its cursor would hide that. The recovery looks at the facts.
    fn continues(&self, page: &Page) -> Result<(), Stop> {
        match &self.at {
            Some((position, chain)) if *position == page.from && *chain == page.follows => Ok(()),
            _ => Err(Stop::Again),
        }
    }

    async fn page(&mut self, from: Position) -> Result<Option<Page>, Stop> {
        match self.outside.page(from, self.limit, &self.skipped).await {
            Err(error) if error.kind == Kind::Halted => Err(self.damaged(error).await),
            page => Ok(page?),
        }
    }

    /// The log cannot be read as it was sealed.
    async fn damaged(&self, error: Error) -> Stop {
        self.halt(&Halt::new(Reason::LogDamaged, error.message)).await
    }

    pub(super) fn claim(&self) -> Result<Claim> {
        self.claim.ok_or_else(|| Error::internal("a delivery goes on without a claim"))
    }

    /// What a failure of the producer asks for. Kafka calls a producer fenced whose transaction took too long as well: if no other
    /// session has claimed the stream, nobody took over, and the cursor says where to go on.
    pub(super) async fn failed(&self, failure: Failure) -> Stop {
        match failure {
            Failure::Fenced(error) => {
                let held = match &self.claim {
                    Some(claim) => self.outside.holds(claim).await,
                    None => Ok(false),
                };
                match held {
                    Ok(true) => Stop::Doubt(given_up(error)),
                    Ok(false) => Stop::Error(error),
                    Err(error) => Stop::Error(error),
                }
            }
            // Wrong settings do not get better by trying again.
            Failure::Doubt(error) if error.kind == Kind::Settings => Stop::Error(error),
            Failure::Doubt(error) => Stop::Doubt(error),
            Failure::Refused { .. } => Stop::Again,
        }
    }

    /// Where to go on: known from the last call if nothing happened since, else recovered.
    async fn position(
        &mut self,
        told: &mut Delivered,
        go_on: &(dyn Fn(&Delivered) -> bool + Sync),
    ) -> Result<Position, Stop> {
        if let Some((position, chain)) = &self.at {
            let head = self.outside.head().await?;
            // The database may have been restored under a session that lives on.
            let same = self.outside.chain_at(*position).await?.as_ref() == Some(chain);
            if same && head.stream == self.stream && head.end >= *position {
                told.end = head.end;
                return Ok(*position);
            }
        }
        self.recover(told, go_on).await
    }

    /// Makes sure that the page's topics exist, and, every now and then, that all topics are those that were told to before.
    async fn look_at_topics(&mut self, page: &Page) -> Result<(), Stop> {
        let names = page.records.iter().map(|told| told.record.topic.as_str());
        let every = Duration::from_millis(limits::TOPICS_TELLING_MS);
        let amiss = self.topics.look(&self.outside, names, every).await?;
        self.judge(amiss).await
    }

    /// The same where there is nothing to tell: then a broker that does not answer is no trouble yet.
    async fn look_while_idle(&mut self) -> Result<(), Stop> {
        let every = Duration::from_millis(limits::TOPICS_IDLE_MS);
        match self.topics.look(&self.outside, std::iter::empty(), every).await {
            Err(error) if error.kind == Kind::Wait => {
                tracing::debug!(%error, "the topics could not be looked at");
                Ok(())
            }
            amiss => self.judge(amiss?).await,
        }
    }

    async fn judge(&self, amiss: Option<Amiss>) -> Result<(), Stop> {
        match amiss {
            None => Ok(()),
            Some(Amiss::Recreated(topic)) => Err(self.halt(&Halt::new(Reason::TopicRecreated, topic)).await),
            // The recovery reads what is there now, and decides.
            Some(Amiss::Cursors) => Err(Stop::Again),
        }
    }

    /// Quarantines rows before the transaction that passes them.
    pub(super) async fn put_aside(
        &mut self,
        page: &Page,
        rows: &[Quarantined],
        told: &mut Delivered,
    ) -> Result<(), Stop> {
        match self.outside.put_aside(&self.claim()?, page, rows).await? {
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

    pub(super) async fn halt(&self, halt: &Halt) -> Stop {
        match self.claim() {
            Ok(claim) => Stop::Error(self.outside.halted(&claim, halt).await),
            Err(error) => Stop::Error(error),
        }
    }
}

/// The error of a transaction that the brokers ended by themselves.
fn given_up(fenced: Error) -> Error {
    Error::wait("Kafka gave the transaction up: it took longer than transaction.timeout.ms, and no other instance has taken over")
        .help(
            "Nothing of it was told; it is told again. If this comes back, look for what stops this machine for so long, or raise \
             transaction.timeout.ms under the destination's properties.",
        )
        .because(fenced)
}

/// Mirrors a commit, if there is one to mirror.
async fn mirror(outside: &impl Outside, claim: &Claim, committed: Option<Position>) -> Result<()> {
    let Some(position) = committed else { return Ok(()) };
    let mine = outside.mirror(claim, position).await?;
    fault::point(Point::AfterMirror);
    if mine { Ok(()) } else { Err(claim::taken_over("go on telling")) }
}
