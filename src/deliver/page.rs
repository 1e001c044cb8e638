//! What exactly is sent for a stretch of the log? Ids become people, Identify events, and records of every mapping.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    people::{People, people},
    quarantine::{self, Quarantined, Retried, Skipped},
    target::Target,
};
use crate::{
    Result,
    delta::{self, Chain, Now, SealedRun},
    identify::{Envelope, Identify, Person},
    ids::{DestinationId, Position, ProfileId, RunId},
    js::Json,
    limits,
    mapping::{Event, Known, Mapping, Outcome, Reads, Record},
};

/// A stretch of the log as records, in its order.
#[derive(Debug)]
pub struct Page {
    pub from: Position,
    pub to: Position,
    /// The log's chain at `from`, as it was when the page was made.
    pub follows: Chain,
    /// The run of the last change.
    pub run: RunId,
    /// The log's chain after that run.
    pub chain: Chain,
    /// The stream, as it stands in headers.
    pub stream_text: String,
    pub records: Vec<Told>,
    /// Identify events that the records were made of.
    pub events: usize,
    /// What no record can be made of.
    pub rejected: Vec<Quarantined>,
}

/// A record, and what it is about.
#[derive(Debug)]
pub struct Told {
    pub position: Position,
    /// See [`Quarantined::identity`].
    pub identity: i64,
    /// Index among the destination's mappings.
    pub mapping: usize,
    pub run: RunId,
    pub profile: ProfileId,
    pub message_id: String,
    pub record: Record,
}

/// Makes pages of one destination's log.
pub struct Pages {
    pool: PgPool,
    destination: DestinationId,
    /// The name under `integrations`.
    name: String,
    space_id: String,
    stream: Uuid,
    mappings: Arc<[Mapping]>,
    /// What they read of an event.
    reads: Reads,
    reader: delta::Reader,
    /// The bytes of text of the page before: a buffer that is used again.
    text: String,
}

impl Pages {
    /// Of the destination whose head this is.
    pub fn new(pool: PgPool, head: &delta::Head, target: &Target) -> Pages {
        Pages {
            pool,
            destination: head.destination,
            name: target.name.clone(),
            space_id: target.space_id.clone(),
            stream: head.stream,
            reads: Reads::of(&target.mappings),
            mappings: target.mappings.clone(),
            reader: delta::Reader::new(head.destination),
            text: String::new(),
        }
    }

    /// Takes the other lane for told: for a look at a log that is not told here.
    pub fn take_as_told(&mut self) {
        self.reader.take_as_told(Position(i64::MAX));
    }

    /// The changes from `from` on, at most `limit`, fewer if they are big; `None` at the end of the log, and where the other lane
    /// must be told something before.
    ///
    /// # Errors
    /// If the database cannot be asked, or the log has a gap.
    pub async fn page(&mut self, from: Position, limit: usize, skipped: &HashSet<Skipped>) -> Result<Option<Page>> {
        let mut limit = limit.max(1);
        loop {
            let changes = self.changes(from, limit).await?;
            let Some(last) = changes.last() else { return Ok(None) };
            let (run, chain) = (last.run.run, last.run.chain.clone());
            let people = people(&self.pool, &changes).await?;
            let retried = match changes.iter().any(|part| part.run.is_retry) {
                true => quarantine::retried(&self.pool, self.destination, from, last.to()).await?,
                false => HashSet::new(),
            };
            let which = Which { skipped, retried };
            let page = self.records(from, &changes, &people, &which, (run, chain));
            if page.to > from {
                return Ok(Some(page));
            }
            // What is known of these profiles is too much for one page: fewer of them. One is always taken.
            limit = (limit / 2).max(1);
        }
    }

    /// What would be told today of some people as of a run, at places counted from zero; fewer of them if they are big. For a look
    /// that tells nothing.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn of(&mut self, run: &Arc<SealedRun>, changes: &[(ProfileId, Now)]) -> Result<Page> {
        let part = delta::Page { run: run.clone(), from: Position(0), changes: changes.to_vec() };
        let people = people(&self.pool, std::slice::from_ref(&part)).await?;
        let which = Which { skipped: &HashSet::new(), retried: HashSet::new() };
        Ok(self.records(Position(0), &[part], &people, &which, (run.run, run.chain.clone())))
    }

    /// Small runs share a page.
    async fn changes(&mut self, from: Position, limit: usize) -> Result<Vec<delta::Page>> {
        let (mut changes, mut next, mut count) = (Vec::new(), from, 0);
        while count < limit {
            let Some(more) = self.reader.page(&self.pool, next, limit - count).await? else { break };
            // Postgres may go back between two reads. What comes then is of another history: it begins a page, which is not told.
            if changes.last().is_some_and(|last: &delta::Page| last.run.chain != *more.follows()) {
                break;
            }
            next = more.to();
            count += more.changes.len();
            changes.push(more);
        }
        Ok(changes)
    }

    fn records(
        &mut self,
        from: Position,
        changes: &[delta::Page],
        people: &People,
        which: &Which<'_>,
        (run, chain): (RunId, Chain),
    ) -> Page {
        let mut page = Page {
            from,
            to: from,
            follows: changes.first().map(|first| first.follows().clone()).unwrap_or_default(),
            run,
            chain,
            stream_text: self.stream.to_string(),
            records: Vec::new(),
            events: 0,
            rejected: Vec::new(),
        };
        let mut bytes = 0;
        for part in changes {
            let run = &part.run;
            let envelope = Envelope::new(run, &self.space_id, &self.name, self.stream);
            // Parsed here once, not with every event.
            let context = Json::read(envelope.context());
            let shared = Shared { run, envelope: &envelope, context: context.as_ref(), people, which };
            for (index, (profile, now)) in part.changes.iter().enumerate() {
                let change = Sealed { position: Position(part.from.0 + index as i64), profile: *profile, now };
                let person = people.hears(*profile, run);
                let is_cut = people.cut.is_some_and(|cut| person.is_some_and(|person| person >= cut));
                if is_cut || bytes > limits::PAGE_BYTES {
                    return page;
                }
                if run.is_retry {
                    page.rejected.extend(shared.of_unknown_mappings(&change, &self.mappings));
                }
                bytes += self.add_change(&mut page, &shared, &change, person);
                page.to = Position(change.position.0 + 1);
                page.run = run.run;
                if page.chain != run.chain {
                    page.chain = run.chain.clone();
                }
            }
        }
        page
    }

    /// Adds the records of one change: for each identity of the person, those of every mapping. Answers the bytes of their values.
    fn add_change(
        &mut self,
        page: &mut Page,
        shared: &Shared<'_>,
        change: &Sealed<'_>,
        person: Option<ProfileId>,
    ) -> usize {
        let Shared { run, envelope, people, .. } = *shared;
        let nobody = Person::default();
        let identities = person.map(|person| people.identities(person, run)).unwrap_or_default();
        let person = person.and_then(|person| people.get(person)).unwrap_or(&nobody);
        let traits = enrichment(person, &run.options.include_traits);
        let mut bytes = 0;
        for identity in &identities {
            page.events += 1;
            self.text.clear();
            let written = envelope.write(&mut self.text, change.profile, identity, &traits, change.now);
            let known = known(&self.text, &written, envelope, shared.context, change.now);
            let event = Event::known(&self.text, known).read_by(&self.reads);
            let told = Identified { digest: identity.digest(), message_id: &written.message_id };
            bytes += shared.add_records(page, &self.mappings, &event, change, &told);
        }
        bytes
    }
}

/// What the changes of one run have in common.
struct Shared<'a> {
    run: &'a SealedRun,
    envelope: &'a Envelope,
    context: Option<&'a Json<'static>>,
    people: &'a People,
    which: &'a Which<'a>,
}

/// One change of the log.
struct Sealed<'a> {
    position: Position,
    profile: ProfileId,
    now: &'a Now,
}

/// Under which identity a change is told.
struct Identified<'a> {
    /// See [`Quarantined::identity`].
    digest: i64,
    message_id: &'a str,
}

impl Shared<'_> {
    /// What was asked for again and no mapping in force is there for.
    fn of_unknown_mappings(&self, change: &Sealed<'_>, mappings: &[Mapping]) -> impl Iterator<Item = Quarantined> {
        self.which.unknown(change.position, mappings).map(move |asked| Quarantined {
            position: change.position,
            identity: asked.identity,
            mapping: asked.mapping.clone(),
            run: self.run.run,
            profile: change.profile,
            reason: "unknown_mapping".into(),
            detail: "the destination has no such mapping, or it is disabled".into(),
        })
    }

    /// Adds what each mapping makes of one event. Answers the bytes of their values.
    fn add_records(
        &self,
        page: &mut Page,
        mappings: &[Mapping],
        event: &Event<'_>,
        change: &Sealed<'_>,
        told: &Identified<'_>,
    ) -> usize {
        let Sealed { position, profile, .. } = *change;
        let run = self.run.run;
        let mut bytes = 0;
        for (mapping, how) in mappings.iter().enumerate() {
            if self.which.skips(position, told.digest, how.name())
                || self.run.is_retry && !self.which.retries(position, told.digest, how.name())
            {
                continue;
            }
            match how.apply(event) {
                Outcome::Unsubscribed => {}
                Outcome::Rejected(why) => page.rejected.push(Quarantined {
                    position,
                    identity: told.digest,
                    mapping: how.name().to_owned(),
                    run,
                    profile,
                    reason: why.code.to_owned(),
                    detail: why.detail,
                }),
                // Without a key there is nothing that a topic could forget.
                Outcome::Record(record) if self.run.tombstone && record.key.is_none() => {}
                Outcome::Record(mut record) => {
                    if self.run.tombstone {
                        record.value = None;
                    }
                    bytes += record.value.as_ref().map_or(0, Vec::len);
                    let message_id = told.message_id.to_owned();
                    page.records.push(Told {
                        position,
                        identity: told.digest,
                        mapping,
                        run,
                        profile,
                        message_id,
                        record,
                    });
                }
            }
        }
        bytes
    }
}

/// What is known of a written event, so that no mapping needs to parse it.
pub(super) fn known<'a>(
    text: &'a str,
    written: &'a Identify<'_>,
    envelope: &'a Envelope,
    context: Option<&'a Json<'static>>,
    now: &Now,
) -> Known<'a> {
    Known {
        kind: Some("identify"),
        user_id: written.user_id,
        anonymous_id: written.anonymous_id,
        message_id: Some(&written.message_id),
        timestamp: Some(envelope.timestamp()),
        event: None,
        context,
        traits: Some(&text[written.traits.clone()]),
        member: match now {
            Now::In => Some(true),
            Now::Out => Some(false),
            Now::Value(_) | Now::Nothing => None,
        },
    }
}

/// The traits that go along with this run's events; other runs of the page may ask for others.
pub(super) fn enrichment<'p>(person: &'p Person, wanted: &[String]) -> Cow<'p, [(String, Value)]> {
    let is_wanted = |(name, _): &&(String, Value)| wanted.contains(name);
    match person.traits.iter().all(|member| is_wanted(&member)) {
        true => Cow::Borrowed(&person.traits),
        false => Cow::Owned(person.traits.iter().filter(is_wanted).cloned().collect()),
    }
}

/// Which records of the log are told: all but those that were put aside, and where some are told again, those alone.
struct Which<'a> {
    skipped: &'a HashSet<Skipped>,
    retried: HashSet<Retried>,
}

impl Which<'_> {
    fn skips(&self, position: Position, identity: i64, mapping: &str) -> bool {
        // Nearly always nothing is, and then nothing is compared.
        !self.skipped.is_empty() && self.skipped.contains(&Skipped { position, identity, mapping: mapping.to_owned() })
    }

    fn retries(&self, position: Position, identity: i64, mapping: &str) -> bool {
        self.retried.contains(&Retried { position, identity, mapping: mapping.to_owned() })
    }

    /// What no mapping in force is there for: it was renamed, or is disabled, since somebody asked.
    fn unknown(&self, position: Position, mappings: &[Mapping]) -> impl Iterator<Item = &Retried> {
        self.retried.iter().filter(move |asked| {
            asked.position == position
                && !mappings.iter().any(|mapping| mapping.name() == asked.mapping)
                && !self.skips(position, asked.identity, &asked.mapping)
        })
    }
}
