//! The model of Postgres: rows, what a statement has seen when it waits for a lock, and servers that come back with less.
//!
//! The guards are those of the SQL; `statements.rs` holds each of them against the real statement.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use rollcall::{
    deliver::claim::Claim,
    delta::{
        Chain, Head,
        lane::{Lane, Places},
    },
    ids::{DestinationId, Position},
};
use uuid::Uuid;

use super::log::{self, AUDIENCES, Delta};

/// A row of `destinations`.
#[derive(Debug, Clone)]
pub struct LaneRow {
    pub stream: Uuid,
    pub next: i64,
    pub chain: Chain,
}

/// A row of `deliveries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub stream: Uuid,
    pub claim: i64,
    pub cursor_from: Option<i64>,
    pub position: i64,
    /// Why it halted, with the detail.
    pub halt: Option<(String, String)>,
}

/// A row of `told`.
#[derive(Debug, Clone)]
pub struct Told {
    pub members: BTreeSet<u32>,
    pub ends: Places,
}

impl Delivery {
    fn of(stream: Uuid, claim: i64) -> Delivery {
        Delivery { stream, claim, cursor_from: None, position: 0, halt: None }
    }

    /// The condition of every statement that writes by a claim.
    pub fn is_claimed_by(&self, claim: &Claim) -> bool {
        self.stream == claim.stream && self.claim == claim.number
    }
}

/// A row of `leases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRow {
    pub holder: usize,
    pub epoch: i64,
    pub expires: Duration,
    /// Somebody waits for it.
    pub asked: bool,
}

/// All that is committed. Lanes are indexed as [`log::index`] has them.
#[derive(Debug, Clone)]
pub struct Rows {
    pub lanes: [LaneRow; 2],
    pub deliveries: [Delivery; 2],
    pub deltas: [Vec<Arc<Delta>>; 2],
    /// Positions put aside.
    pub quarantine: [BTreeSet<i64>; 2],
    /// `retired_streams`.
    pub retired: BTreeSet<Uuid>,
    /// `delivery_topics`.
    pub topics: BTreeMap<(Uuid, String), Uuid>,
    pub members: [BTreeSet<u32>; AUDIENCES],
    pub told: [Told; AUDIENCES],
    pub lease: Option<LeaseRow>,
    pub runs: i64,
}

/// A stream's id says which start of which lane it is: no two are the same, also after a restore.
pub fn stream(start: u64, lane: usize) -> Uuid {
    Uuid::from_u64_pair(start, lane as u64 + 1)
}

/// The start and the lane of a stream.
pub fn of_stream(stream: Uuid) -> (u64, usize) {
    let (start, lane) = stream.as_u64_pair();
    (start, lane as usize - 1)
}

impl Rows {
    fn new() -> Rows {
        let lane = |lane| LaneRow { stream: stream(0, lane), next: 0, chain: Chain::default() };
        Rows {
            lanes: [0, 1].map(lane),
            deliveries: [0, 1].map(|lane| Delivery::of(stream(0, lane), 0)),
            deltas: Default::default(),
            quarantine: Default::default(),
            retired: BTreeSet::new(),
            topics: BTreeMap::new(),
            members: Default::default(),
            told: [(); AUDIENCES].map(|()| Told { members: BTreeSet::new(), ends: Places::START }),
            lease: None,
            runs: 0,
        }
    }

    /// As `delta::chain_at`.
    pub fn chain_at(&self, lane: usize, position: Position) -> Option<Chain> {
        if position == Position(0) {
            return Some(Chain::default());
        }
        let holds = |delta: &&Arc<Delta>| delta.from < position.0 && delta.to >= position.0;
        self.deltas[lane].iter().find(holds).map(|delta| delta.chain.clone())
    }

    /// As `lease::acquire`: the epoch that was granted.
    pub fn acquire(&mut self, now: Duration, holder: usize, epoch: i64, ttl: Duration) -> Option<i64> {
        let free = self.lease.is_none_or(|lease| lease.expires <= now || lease.holder == holder);
        free.then(|| {
            self.lease = Some(LeaseRow { holder, epoch, expires: now + ttl, asked: false });
            epoch
        })
    }

    /// As `lease::renew`: whether somebody waits for it, if it is ours.
    pub fn renew(&mut self, now: Duration, holder: usize, epoch: i64, ttl: Duration) -> Option<bool> {
        let ours = |lease: &&mut LeaseRow| lease.holder == holder && lease.epoch == epoch && lease.expires > now;
        let lease = self.lease.as_mut().filter(ours)?;
        lease.expires = now + ttl;
        Some(lease.asked)
    }

    /// As `lease::release`.
    pub fn release(&mut self, holder: usize, epoch: i64) {
        self.lease = self.lease.filter(|lease| lease.holder != holder || lease.epoch != epoch);
    }

    /// As `unhalt::start_over`, at its commit.
    pub fn start_over(&mut self, start: u64) {
        let mut whole = true;
        for lane in [0, 1] {
            let (old, new) = (self.lanes[lane].stream, stream(start, lane));
            self.retired.insert(old);
            self.topics.retain(|(of, _), _| *of != old);
            self.lanes[lane].stream = new;
            self.deliveries[lane] = Delivery::of(new, self.deliveries[lane].claim);
            self.quarantine[lane].clear();
            let sealed: i64 = self.deltas[lane].iter().map(|delta| delta.to - delta.from).sum();
            whole &= sealed == self.lanes[lane].next;
        }
        if !whole {
            self.forget_log();
        }
    }

    /// As `unhalt::forget_log`: the next runs tell whole memberships.
    fn forget_log(&mut self) {
        for lane in [0, 1] {
            self.deltas[lane].clear();
            (self.lanes[lane].next, self.lanes[lane].chain) = (0, Chain::default());
        }
        for told in &mut self.told {
            (told.members, told.ends) = (BTreeSet::new(), Places::START);
        }
    }

    /// As `runs::prune`: the log's first run goes, if neither the cursor nor what it is recognised by needs it.
    pub fn prune(&mut self) {
        for lane in [0, 1] {
            let cursor = self.deliveries[lane].position;
            let within = self.deltas[lane].iter().find(|delta| delta.from < cursor && delta.to > cursor);
            let place = within.map_or(cursor, |delta| delta.from);
            if self.deltas[lane].first().is_some_and(|first| first.to < place) {
                self.deltas[lane].remove(0);
            }
        }
    }
}

/// Which rows an open transaction has locked, by its number.
#[derive(Debug, Clone, Copy, Default)]
pub struct Locks {
    pub destinations: Option<u64>,
    pub deliveries: [Option<u64>; 2],
}

/// The server, with what a failover or a restore would bring back.
pub struct Database {
    pub now: Rows,
    pub locks: Locks,
    /// Counts servers: whoever spoke to an earlier one is cut off.
    pub server: u32,
    /// A standby that lags.
    standby: Rows,
    /// Mirrors that have reached the disk: they are not waited for.
    on_disk: [i64; 2],
    transactions: u64,
    /// Start-overs ever, also those that a failover has lost.
    pub starts: u64,
    epochs: i64,
}

impl Database {
    pub fn new() -> Database {
        let now = Rows::new();
        Database {
            standby: now.clone(),
            now,
            locks: Locks::default(),
            server: 0,
            on_disk: [0; 2],
            transactions: 0,
            starts: 0,
            epochs: 0,
        }
    }

    pub fn begin(&mut self) -> u64 {
        self.transactions += 1;
        self.transactions
    }

    pub fn end(&mut self, transaction: u64) {
        let Locks { destinations, deliveries: [live, bulk] } = &mut self.locks;
        for lock in [destinations, live, bulk] {
            lock.take_if(|holder| *holder == transaction);
        }
    }

    pub fn next_epoch(&mut self) -> i64 {
        self.epochs += 1;
        self.epochs
    }

    /// What waits for the disk is there: mirrors written before are too.
    pub fn flush(&mut self) {
        self.on_disk = [0, 1].map(|lane| self.now.deliveries[lane].position);
    }

    /// The standby has caught up.
    pub fn replicate(&mut self) {
        self.standby = self.now.clone();
    }

    /// The server dies and comes back: only mirrors may be lost.
    pub fn crash(&mut self) {
        self.cut_off();
        for lane in [0, 1] {
            let position = &mut self.now.deliveries[lane].position;
            *position = (*position).min(self.on_disk[lane]);
        }
    }

    /// The standby takes over, without what it was not sent yet; or an old copy is restored.
    pub fn fail_over(&mut self) {
        self.cut_off();
        self.now = self.standby.clone();
        self.flush();
    }

    fn cut_off(&mut self) {
        self.server += 1;
        self.locks = Locks::default();
    }
}

/// The head of a lane, as `delta::head` reads it.
pub fn head(rows: &Rows, lane: Lane) -> Head {
    let row = &rows.lanes[log::index(lane)];
    let (destination, mirror) = (DestinationId(log::index(lane) as i32 + 1), log::mirrors(rows).of(lane));
    Head { destination, stream: row.stream, end: Position(row.next), mirror }
}
