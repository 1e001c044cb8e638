//! The model's log: what is sealed, in which lane, and the page that follows from it. Lanes and chains are the real ones.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rollcall::{
    Error, Result,
    deliver::{
        outside::{Page, Told},
        quarantine::{Quarantined, Skipped},
    },
    delta::{
        Chain, Link,
        lane::{self, Lane, Places},
    },
    ids::{Position, ProfileId, RunId},
    mapping::Record,
};
use uuid::Uuid;

use super::database::Rows;
use crate::support::dice::Dice;

pub const AUDIENCES: usize = 2;
pub const PEOPLE: u32 = 9;
pub const PARTITIONS: usize = 2;
pub const TOPIC: &str = "audiences";
/// Each person is known by one identifier.
pub const IDENTITY: i64 = 0;
/// The one mapping's name, as the test's target has it.
pub const MAPPING: &str = "everything";

/// A run's changes for one lane.
#[derive(Debug)]
pub struct Delta {
    pub run: RunId,
    pub from: i64,
    pub to: i64,
    /// Before it, and after.
    pub before: Chain,
    pub chain: Chain,
    /// Not before the other lane is told so far.
    pub after: Position,
    pub audience: usize,
    /// Who entered, then who exited.
    pub changes: Vec<(u32, bool)>,
}

/// What a person is told by a record: the value is read back by the witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub stream: Uuid,
    pub position: i64,
    pub run: RunId,
    pub audience: usize,
    pub person: u32,
    pub entered: bool,
}

pub fn index(lane: Lane) -> usize {
    match lane {
        Lane::Live => 0,
        Lane::Bulk => 1,
    }
}

pub fn partition(person: u32) -> usize {
    person as usize % PARTITIONS
}

/// People whom the mapping can make no record of, and those whose records Kafka refuses.
pub fn is_rejected(person: u32) -> bool {
    person == 3
}

pub fn is_refused(person: u32) -> bool {
    person == 7
}

pub fn mirrors(rows: &Rows) -> Places {
    Places { live: Position(rows.deliveries[0].position), bulk: Position(rows.deliveries[1].position) }
}

/// A run of an audience: some people change, and what was not told of them is appended to a log.
pub fn seal(rows: &mut Rows, told: &Places, dice: &mut Dice, audience: usize) {
    rows.runs += 1;
    for _ in 0..1 + dice.below(4) {
        let person = dice.below(PEOPLE as usize) as u32;
        if !rows.members[audience].insert(person) {
            rows.members[audience].remove(&person);
        }
    }
    tell(rows, told, dice, audience);
}

/// Appends the difference between who is in and who was told to be, in the lane that keeps the audience's order.
pub fn tell(rows: &mut Rows, told: &Places, dice: &mut Dice, audience: usize) {
    let (members, known) = (&rows.members[audience], &rows.told[audience].members);
    let change = |from: &BTreeSet<u32>, to: &BTreeSet<u32>| to.difference(from).copied().collect::<Vec<_>>();
    let (entered, exited) = (change(known, members), change(members, known));
    let lane = lane::lane(&rows.told[audience].ends, told);
    append(rows, dice, (lane, audience), &entered, &exited);
}

/// Tells all members again by the bulk lane, if nobody has to wait for it there.
pub fn resync(rows: &mut Rows, told: &Places, dice: &mut Dice, audience: usize) {
    if lane::may_slice(&rows.told[audience].ends, told) {
        rows.runs += 1;
        let all: Vec<u32> = rows.told[audience].members.iter().copied().collect();
        append(rows, dice, (Lane::Bulk, audience), &all, &[]);
    }
}

fn append(rows: &mut Rows, dice: &mut Dice, (lane, audience): (Lane, usize), entered: &[u32], exited: &[u32]) {
    let count = (entered.len() + exited.len()) as i64;
    if count == 0 {
        return;
    }
    let row = &mut rows.lanes[index(lane)];
    let (from, to, run) = (row.next, row.next + count, RunId(rows.runs));
    let bytes = |people: &[u32]| people.iter().map(|person| *person as u8).collect::<Vec<_>>();
    let before = row.chain.clone();
    let (ins, outs) = (bytes(entered), bytes(exited));
    let random = Uuid::from_u64_pair(dice.next(), dice.next());
    row.chain = row.chain.link(&Link::of(run, Position(from)..Position(to), &ins, &outs, random));
    row.next = to;
    let told = &mut rows.told[audience];
    let changes = entered.iter().map(|person| (*person, true)).chain(exited.iter().map(|person| (*person, false)));
    let changes: Vec<_> = changes.collect();
    let after = told.ends.of(lane.other());
    told.members.extend(entered);
    told.members.retain(|person| !exited.contains(person));
    told.ends.set(lane, Position(to));
    let chain = row.chain.clone();
    rows.deltas[index(lane)].push(Arc::new(Delta { run, from, to, before, chain, after, audience, changes }));
}

/// A reader that keeps the run it is in, and how far the other lane is told, as the real one does.
pub struct Reader {
    current: Option<Arc<Delta>>,
    other_told: Position,
}

impl Default for Reader {
    fn default() -> Self {
        Reader { current: None, other_told: Position(0) }
    }
}

impl Reader {
    /// Waits for nothing any more.
    pub fn take_as_told(&mut self, other: Position) {
        self.other_told = other;
    }

    /// As `delta::Reader::page` and `Pages::page`: small runs share a page, until one must wait for the other lane.
    pub fn page(
        &mut self,
        rows: &Rows,
        (lane, stream): (Lane, Uuid),
        (from, limit): (Position, usize),
        skipped: &HashSet<Skipped>,
    ) -> Result<Option<Page>> {
        let mut page = None;
        let mut next = from.0;
        while ((next - from.0) as usize) < limit {
            let Some(delta) = self.seek(rows, lane, next)? else { break };
            let follows = if next == delta.from { &delta.before } else { &delta.chain };
            if page.as_ref().is_some_and(|page: &Page| page.chain != *follows) {
                break;
            }
            let all = &delta.changes[(next - delta.from) as usize..];
            let take = all.len().min(limit - (next - from.0) as usize);
            let page = page.get_or_insert_with(|| empty(from, stream, follows));
            for (person, entered) in &all[..take] {
                let said = Said {
                    stream,
                    position: next,
                    run: delta.run,
                    audience: delta.audience,
                    person: *person,
                    entered: *entered,
                };
                tell_one(page, &said, skipped);
                next += 1;
            }
            (page.to, page.run, page.chain) = (Position(next), delta.run, delta.chain.clone());
        }
        Ok(page)
    }

    fn seek(&mut self, rows: &Rows, lane: Lane, from: i64) -> Result<Option<Arc<Delta>>> {
        let is_in = |delta: &Arc<Delta>| (delta.from..delta.to).contains(&from);
        if !self.current.as_ref().is_some_and(is_in) {
            let Some(delta) = rows.deltas[index(lane)].iter().find(|delta| delta.to > from) else { return Ok(None) };
            if !is_in(delta) {
                return Err(Error::halted("the log does not fit its place"));
            }
            self.current = Some(delta.clone());
        }
        let Some(delta) = self.current.clone() else { return Ok(None) };
        if delta.after > self.other_told {
            self.other_told = mirrors(rows).of(lane.other());
        }
        Ok((delta.after <= self.other_told).then_some(delta))
    }
}

fn empty(from: Position, stream: Uuid, follows: &Chain) -> Page {
    Page {
        from,
        to: from,
        follows: follows.clone(),
        run: RunId(0),
        chain: Chain::default(),
        stream_text: stream.to_string(),
        records: Vec::new(),
        events: 0,
        rejected: Vec::new(),
    }
}

fn tell_one(page: &mut Page, said: &Said, skipped: &HashSet<Skipped>) {
    let (position, identity, mapping) = (Position(said.position), IDENTITY, MAPPING.to_owned());
    let (profile, message_id) = (ProfileId(said.person), said.position.to_string());
    page.events += 1;
    if skipped.contains(&Skipped { position, identity, mapping: mapping.clone() }) {
        return;
    }
    if is_rejected(said.person) {
        let (reason, detail) = ("rejected".to_owned(), String::new());
        page.rejected.push(Quarantined { position, identity, mapping, run: said.run, profile, reason, detail });
        return;
    }
    let value = vec![said.audience as u8, u8::from(said.entered)];
    let record = Record {
        topic: TOPIC.to_owned(),
        partition: None,
        key: None,
        headers: Vec::new(),
        value: Some(value),
        timestamp_ms: None,
    };
    page.records.push(Told { position, identity, mapping: 0, run: said.run, profile, message_id, record });
}

/// What a record of the model says.
pub fn said(stream: Uuid, told: &Told) -> Said {
    let value = told.record.value.as_deref().unwrap_or(&[0, 0]);
    Said {
        stream,
        position: told.position.0,
        run: told.run,
        audience: usize::from(value[0]),
        person: told.profile.0,
        entered: value[1] == 1,
    }
}
