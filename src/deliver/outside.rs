//! What does a session ask of the world outside it? One question or request each, of Postgres or of Kafka.
//!
//! There are two such worlds: the real one, and the model in `tests/protocol`, where the same session meets every fault at
//! every moment. Nothing is decided here: what an answer means is for `session` and `recover`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::types::RDKafkaErrorCode as Code;
use sqlx::PgPool;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    claim::Claim,
    cursor::Read,
    page::Pages,
    producer::Producer,
    quarantine::{self, Quarantined, Skipped},
    recover::Halt,
    target::Target,
    thread::Thread,
    topic_ids, unhalt,
};
use crate::{
    Error, Result,
    delta::{self, Chain, Head},
    ids::{DestinationId, Position},
    kafka::topic::Topic,
};

pub use super::{
    page::{Page, Told},
    producer::Failure,
};

/// An answer that cannot be had leaves it open what Kafka did.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Doubt(error)
    }
}

/// A page was committed.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// So uneventfully that the next transaction may be the same producer's.
    pub sure: bool,
    pub took: Duration,
}

/// One lane of a destination, in Postgres and in Kafka.
///
/// What is written to Postgres goes by a claim, and is not written where another session has one since.
#[expect(
    async_fn_in_trait,
    reason = "a session is spawned only where its world is known, and with it that its futures are Send"
)]
pub trait Outside {
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Where the log ends, of which stream, and how far it is told as Postgres knows.
    async fn head(&self) -> Result<Head>;
    /// The chain that a cursor at `position` must carry; `None` if the log does not reach so far.
    async fn chain_at(&self, position: Position) -> Result<Option<Chain>>;
    /// What is sent for the log from `from` on; `None` at its end, and where the other lane must be told something before.
    async fn page(&self, from: Position, limit: usize, skipped: &HashSet<Skipped>) -> Result<Option<Page>>;
    /// Claims a stream; `None` if the lane has another one by now.
    async fn claim(&self, stream: Uuid) -> Result<Option<Claim>>;
    /// Whether no other session has claimed the stream since.
    async fn holds(&self, claim: &Claim) -> Result<bool>;
    /// Mirrors a committed cursor; false if another session has claimed the stream.
    async fn mirror(&self, claim: &Claim, next: Position) -> Result<bool>;
    /// Notes that the delivery may go on.
    async fn live(&self, claim: &Claim) -> Result<()>;
    /// Notes why the delivery halted; the result is what a person reads.
    async fn halted(&self, claim: &Claim, halt: &Halt) -> Error;
    /// Where the cursor topic ended before the stream's first transaction: `now`, if none was yet.
    async fn cursor_from(&self, claim: &Claim, now: i64) -> Result<i64>;
    /// Stores what of a page can never be delivered; the inner error says that it is too much of one run, and nothing is stored.
    async fn put_aside(&self, claim: &Claim, page: &Page, rows: &[Quarantined]) -> Result<Result<u64, Halt>>;
    /// What to skip from a position on.
    async fn skipped(&self, from: Position) -> Result<HashSet<Skipped>>;
    /// The topics that a stream was told to.
    async fn topics(&self, stream: Uuid) -> Result<Vec<(String, Uuid)>>;
    /// Remembers topics, before anything is told to them.
    async fn remember(&self, stream: Uuid, topics: &[Topic]) -> Result<()>;
    /// The streams that a new one took the place of, and whose producers are not fenced yet.
    async fn retired(&self) -> Result<Vec<Uuid>>;
    /// Notes that retired streams are fenced.
    async fn fenced(&self, streams: &[Uuid]) -> Result<()>;

    /// A new producer, which fences the older ones, and the cursor as it stands then.
    async fn open(&self) -> Result<Read, Failure>;
    /// Fences whoever still has a transaction of another stream under way.
    async fn fence(&self, stream: Uuid) -> Result<(), Failure>;
    /// Tells a page in one transaction with its cursor, by the open producer.
    async fn tell(&self, page: Arc<Page>) -> Result<Committed, Failure>;
    /// Whether Kafka would store a record: asked by a new producer, in a transaction that is never committed.
    async fn probe(&self, page: Arc<Page>, record: usize) -> Result<Option<Code>, Failure>;
    /// What the cluster says of topics, asked by the open producer.
    async fn describe(&self, names: Vec<String>) -> Result<Vec<Topic>>;
}

/// A lane in the real Postgres and the real Kafka.
pub struct Real {
    pool: PgPool,
    destination: DestinationId,
    target: Target,
    thread: Thread,
    /// Pages are made one after the other.
    pages: Mutex<Pages>,
}

impl Real {
    /// Of the lane whose head this is; nothing is connected to Kafka yet.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn new(pool: PgPool, target: Target, head: &Head) -> Result<Real> {
        let producer = Producer::new(
            &target.name,
            target.settings.clone(),
            target.delivery,
            head.stream,
            target.cursor_topic.clone(),
        );
        let producer = if target.in_process { producer.without_administration() } else { producer };
        Ok(Real {
            destination: head.destination,
            thread: Thread::start(producer)?,
            pages: Mutex::new(Pages::new(pool.clone(), head, &target)),
            pool,
            target,
        })
    }
}

impl Outside for Real {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn head(&self) -> Result<Head> {
        delta::head(&self.pool, &self.target.name, self.target.lane).await
    }

    async fn chain_at(&self, position: Position) -> Result<Option<Chain>> {
        delta::chain_at(&self.pool, self.destination, position).await
    }

    async fn page(&self, from: Position, limit: usize, skipped: &HashSet<Skipped>) -> Result<Option<Page>> {
        self.pages.lock().await.page(from, limit, skipped).await
    }

    async fn claim(&self, stream: Uuid) -> Result<Option<Claim>> {
        Claim::take(&self.pool, self.destination, stream).await
    }

    async fn holds(&self, claim: &Claim) -> Result<bool> {
        claim.holds(&self.pool).await
    }

    async fn mirror(&self, claim: &Claim, next: Position) -> Result<bool> {
        claim.mirror(&self.pool, next).await
    }

    async fn live(&self, claim: &Claim) -> Result<()> {
        claim.live(&self.pool).await
    }

    async fn halted(&self, claim: &Claim, halt: &Halt) -> Error {
        claim.halted(&self.pool, &self.target.title(), halt).await
    }

    async fn cursor_from(&self, claim: &Claim, now: i64) -> Result<i64> {
        claim.cursor_from(&self.pool, now).await
    }

    async fn put_aside(&self, claim: &Claim, page: &Page, rows: &[Quarantined]) -> Result<Result<u64, Halt>> {
        quarantine::store(&self.pool, claim, (page.to, &page.chain), rows).await
    }

    async fn skipped(&self, from: Position) -> Result<HashSet<Skipped>> {
        quarantine::load(&self.pool, self.destination, from).await
    }

    async fn topics(&self, stream: Uuid) -> Result<Vec<(String, Uuid)>> {
        topic_ids::known(&self.pool, stream).await
    }

    async fn remember(&self, stream: Uuid, topics: &[Topic]) -> Result<()> {
        topic_ids::remember(&self.pool, stream, topics).await
    }

    async fn retired(&self) -> Result<Vec<Uuid>> {
        unhalt::retired(&self.pool, &self.target.name).await
    }

    async fn fenced(&self, streams: &[Uuid]) -> Result<()> {
        unhalt::fenced(&self.pool, streams).await
    }

    async fn open(&self) -> Result<Read, Failure> {
        self.thread.run(Producer::open).await?
    }

    async fn fence(&self, stream: Uuid) -> Result<(), Failure> {
        self.thread.run(move |producer| producer.fence(stream)).await?
    }

    async fn tell(&self, page: Arc<Page>) -> Result<Committed, Failure> {
        let told = self.thread.run(move |producer| {
            let began = Instant::now();
            producer.tell(&page).map(|()| Committed { sure: producer.is_open(), took: began.elapsed() })
        });
        told.await?
    }

    async fn probe(&self, page: Arc<Page>, record: usize) -> Result<Option<Code>, Failure> {
        let tried = self.thread.run(move |producer| {
            producer.open()?;
            producer.probe(&page, record)
        });
        tried.await?
    }

    async fn describe(&self, names: Vec<String>) -> Result<Vec<Topic>> {
        self.thread.run(move |producer| producer.describe(&names)).await?
    }
}
