//! The outside of a real session, in the model: each statement travels, may be lost, and is answered by the rows.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::types::RDKafkaErrorCode as Code;
use rollcall::{
    Error, Result,
    deliver::{
        claim::{self, Claim},
        cursor::Read,
        outside::{Committed, Failure, Outside, Page},
        quarantine::{Quarantined, Skipped},
        recover::Halt,
    },
    delta::{Chain, Head, lane::Lane},
    ids::Position,
    kafka::topic::Topic,
};
use uuid::Uuid;

use super::{
    client::{self, Producer},
    database::{Delivery, head},
    log::{self, IDENTITY, MAPPING, Reader, index},
    steps::Steps,
    world::{Open, Safeguard, Shared, ask, lock, travel},
};

pub struct Model {
    world: Shared,
    lane: Lane,
    stream: Uuid,
    reader: RefCell<Reader>,
    producer: Cell<Option<Producer>>,
    /// The chain that the session has last heard of.
    heard: RefCell<Chain>,
}

impl Model {
    pub fn new(world: &Shared, lane: Lane, stream: Uuid) -> Model {
        Model {
            world: world.clone(),
            lane,
            stream,
            reader: RefCell::default(),
            producer: Cell::new(None),
            heard: RefCell::default(),
        }
    }

    /// An update of the lane's delivery where `guard` holds: of the row as it is once nobody has it locked.
    async fn update<T>(
        &self,
        guard: impl Fn(&Delivery) -> bool,
        set: impl FnOnce(&mut Delivery) -> T,
    ) -> Result<Option<T>> {
        let lane = index(self.lane);
        travel(&self.world).await;
        let (seen, server) = {
            let world = self.world.borrow();
            (guard(&world.db.now.deliveries[lane]), world.db.server)
        };
        while self.world.borrow().db.locks.deliveries[lane].is_some() {
            Steps(1).await;
        }
        ask(&self.world, |world| {
            if world.db.server != server {
                return Err(Error::wait("the database was cut off"));
            }
            let holds = if world.has(Safeguard::Guard) { guard(&world.db.now.deliveries[lane]) } else { seen };
            Ok(holds.then(|| set(&mut world.db.now.deliveries[lane])))
        })
        .await?
    }
}

impl Outside for Model {
    fn now(&self) -> Instant {
        self.world.borrow().clock.monotonic()
    }

    async fn head(&self) -> Result<Head> {
        ask(&self.world, |world| head(&world.db.now, self.lane)).await
    }

    async fn chain_at(&self, position: Position) -> Result<Option<Chain>> {
        let chain = ask(&self.world, |world| world.db.now.chain_at(index(self.lane), position)).await?;
        *self.heard.borrow_mut() = chain.clone().unwrap_or_default();
        Ok(chain)
    }

    async fn page(&self, from: Position, limit: usize, skipped: &HashSet<Skipped>) -> Result<Option<Page>> {
        ask(&self.world, |world| {
            let mut reader = self.reader.borrow_mut();
            if !world.has(Safeguard::OtherLane) {
                reader.take_as_told(Position(i64::MAX));
            }
            let mut page = reader.page(&world.db.now, (self.lane, self.stream), (from, limit), skipped)?;
            if let Some(page) = &mut page {
                let heard = self.heard.replace(page.chain.clone());
                if !world.has(Safeguard::History) {
                    page.follows = heard;
                }
            }
            Ok(page)
        })
        .await?
    }

    async fn claim(&self, stream: Uuid) -> Result<Option<Claim>> {
        let head = self.head().await?;
        if head.stream != stream {
            return Ok(None);
        }
        let number = self.update(
            |row| row.stream == stream,
            |row| {
                row.claim += 1;
                row.claim
            },
        );
        Ok(number.await?.map(|number| Claim { destination: head.destination, stream, number }))
    }

    async fn holds(&self, claim: &Claim) -> Result<bool> {
        ask(&self.world, |world| world.db.now.deliveries[index(self.lane)].is_claimed_by(claim)).await
    }

    async fn mirror(&self, claim: &Claim, next: Position) -> Result<bool> {
        let mine = self.update(
            |row| row.stream == claim.stream,
            |row| {
                row.position = row.position.max(next.0);
                row.claim == claim.number
            },
        );
        let mine = mine.await?;
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        world.witness.mirrored(&world.db.now, world.at_least_once);
        Ok(mine == Some(true))
    }

    async fn live(&self, claim: &Claim) -> Result<()> {
        self.update(|row| row.is_claimed_by(claim), |row| row.halt = None).await.map(drop)
    }

    async fn halted(&self, claim: &Claim, halt: &Halt) -> Error {
        let (reason, detail) = (halt.reason.name().to_owned(), halt.detail.clone());
        self.world.borrow_mut().tell(|| format!("  lane {} halts: {reason} ({detail})", self.lane));
        match self.update(|row| row.is_claimed_by(claim), |row| row.halt = Some((reason, detail))).await {
            Ok(Some(())) => Error::halted("halted"),
            Ok(None) => claim::taken_over("say why it halted"),
            Err(error) => error,
        }
    }

    async fn cursor_from(&self, claim: &Claim, now: i64) -> Result<i64> {
        let from = self.update(|row| row.is_claimed_by(claim), |row| *row.cursor_from.get_or_insert(now)).await?;
        self.world.borrow_mut().db.flush();
        from.ok_or_else(|| claim::taken_over("begin the stream"))
    }

    async fn put_aside(&self, claim: &Claim, page: &Page, rows: &[Quarantined]) -> Result<Result<u64, Halt>> {
        if rows.is_empty() {
            return Ok(Ok(0));
        }
        let lane = index(self.lane);
        let open = Open::begin(&self.world);
        lock(&self.world, &open, |locks| &mut locks.deliveries[lane]).await;
        travel(&self.world).await;
        if !self.holds(claim).await? {
            return Err(claim::taken_over("put records aside"));
        }
        ask(&self.world, |world| {
            let same = world.db.now.chain_at(lane, page.to).as_ref() == Some(&page.chain);
            if open.is_lost(world) || !same {
                return Err(Error::wait("the database was cut off, or went back before"));
            }
            for row in rows {
                world.db.now.quarantine[lane].insert(row.position.0);
                world.witness.put_aside(lane, row.position.0);
            }
            world.db.flush();
            Ok(Ok(rows.len() as u64))
        })
        .await?
    }

    async fn skipped(&self, from: Position) -> Result<HashSet<Skipped>> {
        let skip = |at: &i64| Skipped { position: Position(*at), identity: IDENTITY, mapping: MAPPING.into() };
        ask(&self.world, |world| world.db.now.quarantine[index(self.lane)].range(from.0..).map(skip).collect()).await
    }

    async fn topics(&self, stream: Uuid) -> Result<Vec<(String, Uuid)>> {
        ask(&self.world, |world| {
            let of_it = world.db.now.topics.iter().filter(|((of, _), _)| *of == stream);
            of_it.map(|((_, topic), id)| (topic.clone(), *id)).collect()
        })
        .await
    }

    async fn remember(&self, stream: Uuid, topics: &[Topic]) -> Result<()> {
        ask(&self.world, |world| {
            for (topic, id) in topics.iter().filter_map(|topic| Some((topic.name.clone(), topic.id?))) {
                world.db.now.topics.entry((stream, topic)).or_insert(id);
            }
            world.db.flush();
        })
        .await
    }

    async fn retired(&self) -> Result<Vec<Uuid>> {
        ask(&self.world, |world| world.db.now.retired.iter().copied().collect()).await
    }

    async fn fenced(&self, streams: &[Uuid]) -> Result<()> {
        ask(&self.world, |world| world.db.now.retired.retain(|stream| !streams.contains(stream))).await
    }

    async fn open(&self) -> Result<Read, Failure> {
        self.producer.set(None);
        *self.heard.borrow_mut() = Chain::default();
        let (producer, read) = client::open(&self.world, self.stream).await?;
        self.producer.set(Some(producer));
        Ok(read)
    }

    async fn fence(&self, stream: Uuid) -> Result<(), Failure> {
        if self.world.borrow().has(Safeguard::RetiredFenced) {
            client::initialize(&self.world, stream).await?;
        }
        Ok(())
    }

    async fn tell(&self, page: Arc<Page>) -> Result<Committed, Failure> {
        let producer = self.producer.take().ok_or_else(|| Failure::Doubt(Error::internal("no producer is open")))?;
        let at_least_once = self.world.borrow().at_least_once;
        let uneventful = match at_least_once {
            true => producer.store(&self.world, &page).await?,
            false => producer.transact(&self.world, &page).await?,
        };
        let sure = uneventful || !self.world.borrow().has(Safeguard::NewProducer);
        if sure {
            self.producer.set(Some(producer));
        }
        Ok(Committed { sure, took: Duration::ZERO })
    }

    async fn probe(&self, page: Arc<Page>, record: usize) -> Result<Option<Code>, Failure> {
        self.open().await?;
        self.producer.set(None);
        travel(&self.world).await;
        Ok(log::is_refused(page.records[record].profile.0).then_some(Code::MessageSizeTooLarge))
    }

    async fn describe(&self, names: Vec<String>) -> Result<Vec<Topic>> {
        ask(&self.world, |world| {
            let describe = |name: String| {
                let id = world.kafka.topics.get(&name).map(|topic| topic.id);
                let error = id.is_none().then_some(Code::UnknownTopicOrPartition);
                Topic { name, id, error, permitted: None }
            };
            names.into_iter().map(describe).collect()
        })
        .await
    }
}
