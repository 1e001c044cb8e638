//! Who saw what was told? The invariants, looked at with each commit and once more when all has come to rest.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{
    broker::Entry,
    database::{Rows, of_stream},
    log::{AUDIENCES, Said, partition},
};

/// Remembers what was ever committed, whatever Postgres or Kafka have lost since.
#[derive(Debug, Default)]
pub struct Witness {
    /// How far each stream is told.
    reached: HashMap<Uuid, i64>,
    /// The latest start of each lane of which anything was told.
    start: [u64; 2],
    /// The last run of which a person was told in an audience, since that start.
    order: HashMap<(u64, usize, u32), i64>,
    /// The start at which runs were lost last.
    lost: Option<u64>,
    /// Without transactions: the positions that are stored, of each stream.
    stored: HashMap<Uuid, BTreeSet<i64>>,
    /// Every position that was ever put aside, by lane.
    aside: [BTreeSet<i64>; 2],
    /// The first thing that was wrong.
    pub broken: Option<String>,
    pub told: u64,
}

impl Witness {
    pub fn put_aside(&mut self, lane: usize, position: i64) {
        self.aside[lane].insert(position);
    }

    fn wrong(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// I1, I2, I4: a transaction tells the log from where it was told on, without gap or repetition, and says so.
    pub fn committed(&mut self, entries: &[Entry]) {
        let (Some(Entry::Cursor(_, first)), Some(Entry::Cursor(_, last))) = (entries.first(), entries.last()) else {
            return self.wrong(format!("I4: a transaction without its two cursors was committed: {entries:?}"));
        };
        if first.end.is_some() || last.end.is_none() {
            return self.wrong(format!("I4: half a transaction was committed: {entries:?}"));
        }
        let stream = first.stream;
        let (start, lane) = of_stream(stream);
        let from = self.reached.get(&stream).copied().unwrap_or(0);
        if first.next.0 != from {
            return self.wrong(format!("I4: told from {} on, where {from} was reached (lane {lane})", first.next));
        }
        if start < self.start[lane] {
            return self.wrong(format!("I3: stream {start} of lane {lane} speaks after stream {}", self.start[lane]));
        }
        self.start[lane] = start;
        let mut missing: BTreeSet<i64> = (first.next.0..last.next.0).collect();
        let said: Vec<Said> =
            entries.iter().filter_map(|entry| if let Entry::Said(said) = entry { Some(*said) } else { None }).collect();
        for said in said {
            if !missing.remove(&said.position) {
                return self.wrong(format!("I2: {said:?} is told twice, or in the wrong place"));
            }
            self.in_order(&said);
        }
        if let Some(position) = missing.iter().find(|position| !self.aside[lane].contains(position)) {
            return self.wrong(format!("I1: position {position} of lane {lane} is neither told nor put aside"));
        }
        self.reached.insert(stream, last.next.0);
        self.told += 1;
    }

    /// A failover has lost runs that may be told: their numbers are given again, and say nothing of the order until the next start.
    pub fn lose(&mut self, start: u64) {
        self.lost = Some(start);
    }

    /// I3: what a person is told of an audience comes in the order of sealing.
    fn in_order(&mut self, said: &Said) {
        let start = of_stream(said.stream).0;
        if self.lost.is_some_and(|lost| start <= lost) {
            return;
        }
        let last = self.order.entry((start, said.audience, said.person)).or_insert(0);
        if said.run.0 < *last {
            let last = *last;
            return self.wrong(format!("I3: {said:?} comes after run {last}"));
        }
        *last = said.run.0;
    }

    /// At least once: positions may come again, also those of an older stream, which nothing fences.
    pub fn stored(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::Said(said) = entry {
                self.stored.entry(said.stream).or_default().insert(said.position);
            }
        }
        self.told += 1;
    }

    /// What Postgres takes for told is told: of its present stream.
    pub fn mirrored(&mut self, rows: &Rows, at_least_once: bool) {
        for lane in [0, 1] {
            let (stream, mirror) = (rows.lanes[lane].stream, rows.deliveries[lane].position);
            let stored = self.stored.entry(stream).or_default();
            let is_there = |position: &i64| stored.contains(position) || self.aside[lane].contains(position);
            let is_told = match at_least_once {
                true => (0..mirror).all(|position| is_there(&position)),
                false => mirror <= self.reached.get(&stream).copied().unwrap_or(0),
            };
            if !is_told {
                self.wrong(format!("I4: Postgres takes {mirror} of lane {lane} for told, and it is not"));
            }
        }
    }

    /// I1 when all has come to rest: who adds up the present streams has what the log says, and nobody is missing.
    pub fn at_rest(&mut self, rows: &Rows, told: &[Said]) {
        let mut members = [(); AUDIENCES].map(|()| BTreeMap::new());
        for said in told {
            if rows.lanes.iter().any(|lane| lane.stream == said.stream) {
                members[said.audience].insert(said.person, said.entered);
            }
        }
        for (audience, folded) in members.iter().enumerate() {
            let known: BTreeSet<u32> =
                folded.iter().filter(|(_, entered)| **entered).map(|(person, _)| *person).collect();
            let can_be_told = |person: &&u32| !super::log::is_rejected(**person) && !super::log::is_refused(**person);
            let truth: BTreeSet<u32> = rows.told[audience].members.iter().filter(can_be_told).copied().collect();
            if known != truth {
                self.wrong(format!("I1: consumers have {known:?} in audience {audience}, the log says {truth:?}"));
            }
        }
        debug_assert!(told.iter().all(|said| partition(said.person) < super::log::PARTITIONS));
    }
}
