//! Does each record say what the log says at its position? One batch after the other, beside the reading.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    hash::BuildHasher as _,
};

use foldhash::fast::FixedState;
use sqlx::PgPool;

use super::{
    super::crc,
    event::Said,
    log::{Log, Part, profile_at},
    people::People,
    report::{Difference, Findings, Kind, TopicReport},
    seen::{Place, Seen},
    topic::{Batch, Raw, Topic},
};
use crate::{
    Result,
    audience::{Class, identities::Identity},
    config::Delivery,
    delta::Now,
    identify::{self, MessageIds},
    ids::{Position, ProfileId},
    membership::diff::Change,
    values,
};

/// Parts of the log that are kept in memory for the batches to come.
const KEPT: usize = 64;

/// How the destination is told.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub delivery: Delivery,
    /// Whether each value is a whole Identify.
    pub whole_events: bool,
    /// Whether a change may have several records on a topic.
    pub several: bool,
}

/// Looks at batches of records.
pub struct Checker<'l> {
    pool: &'l PgPool,
    pub log: &'l Log,
    pub topics: &'l [Topic],
    pub terms: Terms,
    /// The lanes' streams, as they stand in headers.
    streams: Vec<String>,
    /// Streams from before the last start-over.
    earlier: Vec<String>,
    pub seen: Vec<Seen>,
    pub tallies: Vec<TopicReport>,
    /// Where the digest was asked for.
    pub people: Option<Vec<People>>,
    /// By lane and part, the sum of the terms of its records.
    pub runs: HashMap<(usize, usize), u128, FixedState>,
    /// On compacted topics, by a hash of each key, the last position told under it, by lane.
    pub keys: Vec<HashMap<u64, [Option<u64>; 2], FixedState>>,
    loaded: HashMap<(usize, usize), Loaded, FixedState>,
}

/// The values that parts of the log tell, by lane and part.
type Values = HashMap<(usize, usize), BTreeMap<ProfileId, String>, FixedState>;

/// A part of the log, in memory.
struct Loaded {
    /// `None` if its bitmaps cannot be read.
    change: Option<Change>,
    ids: MessageIds,
}

/// A record of ours, with what the log has at its position.
struct Ours<'b> {
    raw: &'b Raw,
    batch: &'b Batch,
    lane: usize,
    part: usize,
    position: i64,
    /// What it says, where that can be read.
    said: Option<Said<'b>>,
}

impl<'l> Checker<'l> {
    pub fn new(
        pool: &'l PgPool,
        log: &'l Log,
        topics: &'l [Topic],
        terms: Terms,
        earlier: Vec<String>,
        people: Option<Vec<People>>,
    ) -> Self {
        let tally = |topic: &Topic| TopicReport {
            topic: topic.name.clone(),
            records: 0,
            earlier: 0,
            strangers: 0,
            unreadable: 0,
            unchecked: 0,
            digest: None,
        };
        Checker {
            pool,
            log,
            topics,
            terms,
            streams: log.lanes.iter().map(|lane| lane.stream.to_string()).collect(),
            earlier,
            seen: topics.iter().map(|topic| Seen::of(topic.stretches.len())).collect(),
            tallies: topics.iter().map(tally).collect(),
            people,
            runs: HashMap::default(),
            keys: vec![HashMap::default(); topics.len()],
            loaded: HashMap::default(),
        }
    }

    /// Looks at a batch.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn take(&mut self, batch: &Batch, found: &mut Findings) -> Result<()> {
        let mut ours = Vec::with_capacity(batch.records.len());
        for raw in &batch.records {
            self.tallies[raw.topic].records += 1;
            ours.extend(self.place(batch, raw, found));
        }
        self.load(&ours).await?;
        let values = self.sealed_values(&ours).await?;
        for record in &ours {
            self.look(record, &values, found);
        }
        Ok(())
    }

    /// Whose record it is, and where it belongs; `None` if it is not ours, or beyond what the log has.
    fn place<'b>(&mut self, batch: &'b Batch, raw: &'b Raw, found: &mut Findings) -> Option<Ours<'b>> {
        let stream = batch.at(&raw.stream);
        let lane = self.streams.iter().position(|known| Some(known.as_bytes()) == stream);
        let position = batch.at(&raw.position).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
        let tally = &mut self.tallies[raw.topic];
        let (Some(lane), Some(position)) = (lane, position) else {
            if self.earlier.iter().any(|known| Some(known.as_bytes()) == stream) {
                tally.earlier += 1;
                self.fold(batch, raw, None);
            } else {
                tally.strangers += 1;
                found.add(self.about(
                    Kind::Stranger,
                    raw,
                    "the record is not Rollcall's: it names no stream of this destination",
                ));
            }
            return None;
        };
        let value = batch.at(&raw.value);
        let said = value.filter(|_| self.terms.whole_events).and_then(Said::read);
        match self.log.lanes[lane].part(position) {
            Some(part) => Some(Ours { raw, batch, lane, part, position, said }),
            None if position < self.log.lanes[lane].from().0 => {
                self.fold(batch, raw, None);
                None
            }
            None => {
                let about = self.about(Kind::Cursor, raw, "Kafka was told a change that the log does not have");
                let (lane, position) = (Some(self.log.lanes[lane].lane), Some(Position(position)));
                found.add(Difference { lane, position, ..about });
                None
            }
        }
    }

    /// Brings the parts of the log that these records are of into memory.
    async fn load(&mut self, ours: &[Ours<'_>]) -> Result<()> {
        if self.loaded.len() > KEPT {
            self.loaded.clear();
        }
        let mut wanted: Vec<(usize, usize)> = ours.iter().map(|record| (record.lane, record.part)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|part| !self.loaded.contains_key(part));
        let changes = self.log.changes(self.pool, &wanted).await?;
        for ((lane, part), change) in wanted.into_iter().zip(changes) {
            let (lane_log, of) = (&self.log.lanes[lane], &self.log.lanes[lane].parts[part]);
            let audience = self.log.audiences[of.audience].id;
            let ids = MessageIds::new(lane_log.stream, audience, of.run, of.backfill, of.evaluated_at);
            self.loaded.insert((lane, part), Loaded { change, ids });
        }
        Ok(())
    }

    /// The values that traits' records must say.
    async fn sealed_values(&self, ours: &[Ours<'_>]) -> Result<Values> {
        let mut wanted: BTreeMap<(usize, usize), Vec<ProfileId>> = BTreeMap::new();
        for record in ours {
            if self.tells_values(self.part(record))
                && let Some(profile) = self.profile(record)
            {
                wanted.entry((record.lane, record.part)).or_default().push(ProfileId(profile));
            }
        }
        let mut sealed = Values::default();
        for ((lane, part), mut profiles) in wanted {
            profiles.sort_unstable();
            profiles.dedup();
            let of = &self.log.lanes[lane].parts[part];
            let values = values::sealed(&mut *self.pool.acquire().await?, of.run, of.values_through, &profiles).await?;
            sealed.insert((lane, part), values);
        }
        Ok(sealed)
    }

    /// Whether a part tells values, which are those that were sealed.
    fn tells_values(&self, part: &Part) -> bool {
        self.log.audiences[part.audience].class == Class::Trait && !self.log.damaged.contains(&part.run)
    }

    fn look(&mut self, record: &Ours<'_>, values: &Values, found: &mut Findings) {
        let Ours { raw, batch, lane, position, .. } = *record;
        let part = self.part(record);
        let (id, key, value) = (batch.at(&raw.message_id), batch.at(&raw.key), batch.at(&raw.value));
        let (stream, place) = (batch.at(&raw.stream), batch.at(&raw.position));
        let sum = crc::of(stream.unwrap_or_default(), place.unwrap_or_default(), id.unwrap_or_default(), key, value);
        let told = batch.at(&raw.crc).and_then(|text| u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok());
        match (told, batch.at(&raw.crc)) {
            (_, None) => self.tallies[raw.topic].unchecked += 1,
            (Some(told), _) if told == sum => {}
            _ => found.add(self.of(record, Kind::Changed, "the record is not what was told: its checksum is another")),
        }
        let several = (part.several || self.terms.several).then(|| FixedState::default().hash_one((position, id, sum)));
        let (audience, after) = (part.audience, part.after as u64);
        let seen = Place { lane, position: position as u64, audience, after, several };
        let wrong = self.seen[raw.topic].take(raw.partition as usize, seen);
        // A retelling after a crash is what `at_least_once` allows; so is its way back.
        if self.terms.delivery == Delivery::ExactlyOnce {
            if wrong.repeated {
                found.add(self.of(record, Kind::Repeated, "the change was told before"));
            }
            if wrong.out_of_order {
                found.add(self.of(record, Kind::Order, "it comes after a change that follows it in the log"));
            }
        }
        if let Some(detail) = self.contradicts(record, values) {
            found.add(self.of(record, Kind::Says, detail));
        }
        if self.is_about_another(record) {
            found.add(self.of(record, Kind::Person, "the message id is not that of this person and change"));
        }
        if self.topics[raw.topic].compacted {
            let last = &mut self.keys[raw.topic].entry(FixedState::default().hash_one(key)).or_default()[lane];
            *last = (*last).max(Some(position as u64));
        }
        self.fold(batch, raw, Some((record.lane, record.part, record.said.as_ref())));
    }

    /// Adds a record up as a consumer does; of one that the log has, its term is also its run's.
    fn fold(&mut self, batch: &Batch, raw: &Raw, ours: Option<(usize, usize, Option<&Said<'_>>)>) {
        let Some(people) = &mut self.people else { return };
        let people = &mut people[raw.topic];
        let Some(value) = batch.at(&raw.value) else { return people.bury(batch.at(&raw.key)) };
        let read;
        let said = match &ours {
            Some((.., said)) => *said,
            None => {
                read = Said::read(value);
                read.as_ref()
            }
        };
        let Some(said) = said else { return };
        let term = people.take(batch.at(&raw.key), raw.partition, said);
        if let Some((lane, part, _)) = ours {
            let sum = self.runs.entry((lane, part)).or_default();
            *sum = sum.wrapping_add(term);
        }
    }

    /// How what a record says contradicts the log.
    fn contradicts(&mut self, record: &Ours<'_>, values: &Values) -> Option<&'static str> {
        let part = self.part(record);
        let audience = &self.log.audiences[part.audience];
        let offset = (record.position - part.range.start) as u64;
        let enters = offset < part.entered;
        if record.raw.value.is_none() {
            return (enters && !part.tombstone)
                .then_some("the record has no value; the log says that somebody entered");
        }
        if part.tombstone {
            return Some("the record has a value; the log says that it is the last word on somebody forgotten");
        }
        let Some(said) = &record.said else {
            self.tallies[record.raw.topic].unreadable += 1;
            return None;
        };
        if said.key().as_deref() != Some(&audience.key) {
            return Some("the record is about another audience or trait");
        }
        let agrees = match audience.class {
            Class::Audience => said.value(&audience.key) == Some(if enters { "true" } else { "false" }),
            // Their values were erased with them.
            Class::Trait if self.profile(record).is_none_or(|profile| self.log.forgotten.contains(profile)) => true,
            Class::Trait if !self.tells_values(part) => true,
            Class::Trait => {
                let sealed = values.get(&(record.lane, record.part));
                let now = match self.profile(record).and_then(|profile| sealed?.get(&ProfileId(profile))) {
                    Some(value) => Now::Value(value.clone()),
                    None if enters => return Some("the log has no value for this change"),
                    None => Now::Nothing,
                };
                identify::said(&audience.key, &now).iter().all(|(name, value)| said.value(name) == Some(value))
            }
        };
        (!agrees).then_some("the record says another value than the log")
    }

    /// Whether the message id is not that of the person whom the record names and of the change at its position.
    fn is_about_another(&self, record: &Ours<'_>) -> bool {
        let part = self.part(record);
        // Under several names further identifiers, which stand among the traits, belong to it.
        let (Some(said), false) = (&record.said, part.several) else { return false };
        let Some(profile) = self.profile(record) else { return false };
        let (user_id, anonymous_id): (Option<Cow<'_, str>>, _) = (said.user_id(), said.anonymous_id());
        let identity =
            Identity { user_id: user_id.as_deref(), anonymous_id: anonymous_id.as_deref(), traits: Vec::new() };
        let loaded = self.loaded.get(&(record.lane, record.part));
        let id = loaded.map(|loaded| loaded.ids.of(ProfileId(profile), &identity));
        id.as_deref().map(str::as_bytes) != record.batch.at(&record.raw.message_id)
    }

    fn part(&self, record: &Ours<'_>) -> &'l Part {
        &self.log.lanes[record.lane].parts[record.part]
    }

    fn profile(&self, record: &Ours<'_>) -> Option<u32> {
        let change = self.loaded.get(&(record.lane, record.part))?.change.as_ref()?;
        profile_at(change, (record.position - self.part(record).range.start) as u64)
    }

    fn about(&self, kind: Kind, raw: &Raw, detail: &str) -> Difference {
        let topic = Some(self.topics[raw.topic].name.clone());
        let (partition, offset) = (Some(raw.partition), Some(raw.offset));
        Difference { kind, detail: detail.to_owned(), topic, partition, offset, ..Default::default() }
    }

    fn of(&self, record: &Ours<'_>, kind: Kind, detail: &str) -> Difference {
        let part = self.part(record);
        Difference {
            lane: Some(self.log.lanes[record.lane].lane),
            position: Some(Position(record.position)),
            run: Some(part.run),
            audience: Some(self.log.audiences[part.audience].key.clone()),
            profile: self.profile(record),
            ..self.about(kind, record.raw, detail)
        }
    }
}
