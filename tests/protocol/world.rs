//! The whole model: one Postgres, one Kafka, one clock, and the chance by which things go wrong.

use std::{cell::RefCell, rc::Rc, time::Duration};

use chrono::DateTime;
use rollcall::{Error, clock::Clock};

use super::{
    broker::{Broker, Committed, Refusal, Request},
    database::{Database, Locks},
    log::{PARTITIONS, TOPIC},
    steps::Steps,
    witness::Witness,
};
use crate::support::dice::Dice;

pub const CURSORS: &str = "cursors";

/// What keeps the protocol safe, each of which can be taken out to see that the simulation misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// The guard of what is written holds in the update itself, not in what the statement saw before it waited.
    Guard,
    /// Streams that a new one took the place of are fenced before that is told.
    RetiredFenced,
    /// A new producer follows each doubt.
    NewProducer,
    /// A new producer fences the older ones.
    Fencing,
    /// The cursor is read after fencing.
    CursorAfterFence,
    /// A change waits for the other lane.
    OtherLane,
    /// A page continues the history that was told, and not that of a database that went back meanwhile.
    History,
}

pub struct World {
    pub dice: Dice,
    pub db: Database,
    pub kafka: Broker,
    pub witness: Witness,
    pub clock: Clock,
    began: std::time::Instant,
    /// Nothing goes wrong any more.
    pub calm: bool,
    pub at_least_once: bool,
    /// Everybody has the lease: safety does not rest on it.
    pub leaseless: bool,
    /// The operator gives commands as often as he can.
    pub busy: bool,
    without: Option<Safeguard>,
    /// What happened, if somebody wants to read it.
    story: Option<Vec<String>>,
}

pub type Shared = Rc<RefCell<World>>;

impl World {
    pub fn new(seed: u64, without: Option<Safeguard>, story: bool) -> World {
        let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
        let mut kafka = Broker::default();
        kafka.unfenced = without == Some(Safeguard::Fencing);
        kafka.create(TOPIC, PARTITIONS);
        kafka.create(CURSORS, 1);
        World {
            dice: Dice::of(seed),
            db: Database::new(),
            kafka,
            witness: Witness::default(),
            began: clock.monotonic(),
            clock,
            calm: false,
            at_least_once: false,
            leaseless: false,
            busy: false,
            without,
            story: story.then(Vec::new),
        }
    }

    pub fn has(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }

    /// The safeguard that is taken out.
    pub fn without(&self) -> Option<Safeguard> {
        self.without
    }

    /// Grants the lease to whoever may have it.
    pub fn acquire(&mut self, holder: usize, ttl: Duration) -> Option<i64> {
        let (now, epoch) = (self.time(), self.db.next_epoch());
        if self.leaseless { Some(epoch) } else { self.db.now.acquire(now, holder, epoch, ttl) }
    }

    /// Whether somebody waits for the lease, if it is still ours.
    pub fn renew(&mut self, holder: usize, epoch: i64, ttl: Duration) -> Option<bool> {
        let now = self.time();
        if self.leaseless { Some(false) } else { self.db.now.renew(now, holder, epoch, ttl) }
    }

    /// The time on every clock.
    pub fn time(&self) -> Duration {
        self.clock.monotonic() - self.began
    }

    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(what());
        }
    }

    pub fn story(&self) -> String {
        self.story.as_deref().unwrap_or_default().join("\n")
    }

    /// Whether something goes wrong that does so once in `count` times.
    pub fn goes_wrong(&mut self, count: usize) -> bool {
        !self.calm && self.dice.one_in(count)
    }

    /// Kafka does what a request asks for; what it commits is looked at.
    pub fn handle(&mut self, request: &Request) -> Result<(), Refusal> {
        let done = self.kafka.handle(request);
        self.tell(|| format!("    {request:?}: {}", if done.is_ok() { "done" } else { "refused" }));
        if let Some(Committed(transaction)) = done? {
            self.witness.committed(&self.kafka.transactions[transaction].entries);
        }
        Ok(())
    }

    /// A request arrives whose sender has given up on it.
    pub fn late_request(&mut self) {
        if !self.kafka.late.is_empty() {
            let which = self.dice.below(self.kafka.late.len());
            let request = self.kafka.late.swap_remove(which);
            self.tell(|| "  late:".into());
            drop(self.handle(&request));
        }
    }
}

/// What something takes on its way: others go on meanwhile.
pub async fn travel(world: &Shared) {
    let steps = world.borrow_mut().dice.below(3);
    Steps(steps).await;
}

/// A statement, as one: it may fail before it is done, or its answer may be lost after.
pub async fn ask<T>(world: &Shared, statement: impl FnOnce(&mut World) -> T) -> Result<T, Error> {
    travel(world).await;
    let answer = {
        let mut world = world.borrow_mut();
        if world.goes_wrong(150) {
            return Err(Error::wait("the database does not answer"));
        }
        statement(&mut world)
    };
    travel(world).await;
    if world.borrow_mut().goes_wrong(150) {
        return Err(Error::wait("the database's answer is lost"));
    }
    Ok(answer)
}

/// An open transaction; what it has locked is free when it ends, however it does.
pub struct Open {
    world: Shared,
    pub number: u64,
    server: u32,
}

impl Open {
    pub fn begin(world: &Shared) -> Open {
        let mut within = world.borrow_mut();
        let (number, server) = (within.db.begin(), within.db.server);
        drop(within);
        Open { world: world.clone(), number, server }
    }

    /// Whether its server is gone.
    pub fn is_lost(&self, world: &World) -> bool {
        world.db.server != self.server
    }
}

/// Waits until a row is free, and has it.
pub async fn lock(world: &Shared, open: &Open, row: impl Fn(&mut Locks) -> &mut Option<u64>) {
    while !is_locked(&mut world.borrow_mut().db.locks, open, &row) {
        Steps(1).await;
    }
}

fn is_locked(locks: &mut Locks, open: &Open, row: impl Fn(&mut Locks) -> &mut Option<u64>) -> bool {
    row(locks).get_or_insert(open.number) == &open.number
}

impl Drop for Open {
    fn drop(&mut self) {
        // The story may be over: then nobody waits for its locks.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.db.end(self.number);
        }
    }
}
