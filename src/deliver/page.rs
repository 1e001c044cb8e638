//! What exactly is sent for a stretch of the log? Ids become people, Identify events, and records of every mapping.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::{
    quarantine::{Quarantined, Skipped},
    target::Target,
};
use crate::{
    Result,
    audience::identities::identities,
    config::Strategy,
    delta::{self, Chain, Now, SealedRun},
    identify::{Envelope, Person},
    ids::{AudienceId, Position, ProfileId, RunId},
    limits,
    mapping::{Event, Json, Known, Mapping, Outcome, Reads, Record},
    membership::{merges::Merges, values},
    profile::merges,
};

/// A stretch of the log as records, in its order.
#[derive(Debug)]
pub struct Page {
    pub from: Position,
    pub to: Position,
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
    /// Which Identify of the change, from 0.
    pub identify: i16,
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
            name: target.name.clone(),
            space_id: target.space_id.clone(),
            stream: head.stream,
            reads: Reads::of(&target.mappings),
            mappings: target.mappings.clone(),
            reader: delta::Reader::new(head.destination),
            text: String::new(),
        }
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
            let page = self.records(from, &changes, &people, skipped, (run, chain));
            if page.to > from {
                return Ok(Some(page));
            }
            // What is known of these profiles is too much for one page: fewer of them. One is always taken.
            limit = (limit / 2).max(1);
        }
    }

    /// Small runs share a page.
    async fn changes(&mut self, from: Position, limit: usize) -> Result<Vec<delta::Page>> {
        let (mut changes, mut next, mut count) = (Vec::new(), from, 0);
        while count < limit {
            let Some(more) = self.reader.page(&self.pool, next, limit - count).await? else { break };
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
        skipped: &HashSet<Skipped>,
        (run, chain): (RunId, Chain),
    ) -> Page {
        let stream_text = self.stream.to_string();
        let mut page =
            Page { from, to: from, run, chain, stream_text, records: Vec::new(), events: 0, rejected: Vec::new() };
        let mut bytes = 0;
        let nobody = Person::default();
        for part in changes {
            let envelope = Envelope::new(&part.run, &self.space_id, &self.name, self.stream);
            // Parsed here once, not with every event.
            let context = Json::read(envelope.context());
            for (index, (profile, now)) in part.changes.iter().enumerate() {
                let position = Position(part.from.0 + index as i64);
                let person = people.hears(*profile, &part.run);
                if people.cut.is_some_and(|cut| person.is_some_and(|person| person >= cut))
                    || bytes > limits::PAGE_BYTES
                {
                    return page;
                }
                let person = person.and_then(|person| people.get(person)).unwrap_or(&nobody);
                let traits = enrichment(person, &part.run.options.include_traits);
                for (nth, identity) in identities(&person.identifiers, &part.run.options).iter().enumerate() {
                    page.events += 1;
                    self.text.clear();
                    let written = envelope.write(&mut self.text, *profile, identity, &traits, now);
                    let known = Known {
                        kind: Some("identify"),
                        user_id: written.user_id,
                        anonymous_id: written.anonymous_id,
                        message_id: Some(&written.message_id),
                        timestamp: Some(envelope.timestamp()),
                        event: None,
                        context: context.as_ref(),
                        traits: Some(&self.text[written.traits.clone()]),
                        member: match now {
                            Now::In => Some(true),
                            Now::Out => Some(false),
                            Now::Value(_) | Now::Nothing => None,
                        },
                    };
                    let event = Event::known(&self.text, known).read_by(&self.reads);
                    for (mapping, how) in self.mappings.iter().enumerate() {
                        let identify = nth as i16;
                        if is_skipped(skipped, position, identify, how.name()) {
                            continue;
                        }
                        match how.apply(&event) {
                            Outcome::Unsubscribed => {}
                            Outcome::Rejected(why) => page.rejected.push(Quarantined {
                                position,
                                identify,
                                mapping: how.name().to_owned(),
                                run: part.run.run,
                                profile: *profile,
                                reason: why.code.to_owned(),
                                detail: why.detail,
                            }),
                            // Without a key there is nothing that a topic could forget.
                            Outcome::Record(record) if part.run.tombstone && record.key.is_none() => {}
                            Outcome::Record(mut record) => {
                                if part.run.tombstone {
                                    record.value = None;
                                }
                                bytes += record.value.as_ref().map_or(0, Vec::len);
                                page.records.push(Told {
                                    position,
                                    identify,
                                    mapping,
                                    run: part.run.run,
                                    profile: *profile,
                                    message_id: written.message_id.clone(),
                                    record,
                                });
                            }
                        }
                    }
                }
                page.to = Position(position.0 + 1);
                page.run = part.run.run;
                if page.chain != part.run.chain {
                    page.chain = part.run.chain.clone();
                }
            }
        }
        page
    }
}

/// The traits that go along with this run's events; other runs of the page may ask for others.
fn enrichment<'p>(person: &'p Person, wanted: &[String]) -> Cow<'p, [(String, Value)]> {
    let is_wanted = |(name, _): &&(String, Value)| wanted.contains(name);
    match person.traits.iter().all(|member| is_wanted(&member)) {
        true => Cow::Borrowed(&person.traits),
        false => Cow::Owned(person.traits.iter().filter(is_wanted).cloned().collect()),
    }
}

fn is_skipped(skipped: &HashSet<Skipped>, position: Position, identify: i16, mapping: &str) -> bool {
    // Nearly always nothing is, and then nothing is compared.
    !skipped.is_empty() && skipped.contains(&Skipped { position, identify, mapping: mapping.to_owned() })
}

/// What is known of a page's profiles, as far as was asked for and fits.
struct People {
    /// Ascending by id.
    known: Vec<(ProfileId, Person)>,
    /// Profiles from this id on were too much to read.
    cut: Option<ProfileId>,
    /// Those since the runs were sealed.
    merges: Merges,
    /// Profiles that any of them is about.
    merged: RoaringBitmap,
}

impl People {
    /// Whom a change of that run is told to: its profile, or the one that this was merged into since.
    fn hears(&self, profile: ProfileId, run: &SealedRun) -> Option<ProfileId> {
        match self.merged.contains(profile.0) {
            false => Some(profile),
            true => self.merges.hears(profile, run.last_merge, &run.options),
        }
    }

    fn get(&self, profile: ProfileId) -> Option<&Person> {
        let found = self.known.binary_search_by_key(&profile, |(id, _)| *id).ok()?;
        Some(&self.known[found].1)
    }
}

/// Reads identifiers and traits, and only those that the runs' options ask for: where no trait is, the identifiers'
/// covering index alone is touched.
async fn people(pool: &PgPool, changes: &[delta::Page]) -> Result<People> {
    let mut ids: Vec<i64> = changes.iter().flat_map(|part| &part.changes).map(|(id, _)| i64::from(id.0)).collect();
    let runs: Vec<&SealedRun> = changes.iter().map(|part| &*part.run).collect();
    // One snapshot: between two of them a merge could move the identifiers of a profile that was just looked up.
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let sealed_as_of = runs.iter().map(|run| run.last_merge).min().unwrap_or(0);
    let merges = Merges(merges::concerning(&mut tx, sealed_as_of, &ids).await?);
    let merged = merges.0.iter().flat_map(|merge| [Some(merge.from), merge.into]).flatten().map(|id| id.0).collect();
    ids.extend(merges.0.iter().filter_map(|merge| merge.into).map(|id| i64::from(id.0)));
    ids.sort_unstable();
    ids.dedup();
    let (types, history) = identifier_types(&runs);
    let mut people = People { known: Vec::with_capacity(ids.len()), cut: None, merges, merged };
    let mut bytes = 0;
    {
        // Oldest first, as `Person` has them.
        let sql = if history {
            "select profile_id, type, value from identifiers where profile_id = any($1) and type = any($2)
             order by profile_id, type, added_at, value"
        } else {
            "select distinct on (profile_id, type) profile_id, type, value from identifiers
             where profile_id = any($1) and type = any($2) order by profile_id, type, added_at desc, value desc"
        };
        let mut rows = sqlx::query(sql).bind(&ids).bind(&types).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            let id = ProfileId(row.try_get::<i64, _>(0)? as u32);
            let (kind, value): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            bytes += kind.len() + value.len() + size_of::<Person>();
            match people.known.last_mut() {
                Some((last, person)) if *last == id => person.identifiers.push((kind, value)),
                // Of one profile all is read, so that a page always gets on.
                Some(_) if bytes > limits::PAGE_BYTES => {
                    people.cut = Some(id);
                    break;
                }
                _ => people.known.push((id, Person { identifiers: vec![(kind, value)], traits: Vec::new() })),
            }
        }
    }
    traits(&mut tx, &runs, &mut people).await?;
    tx.commit().await?;
    Ok(people)
}

/// The types that any of the runs tells, and whether more than the latest of each is told.
fn identifier_types(runs: &[&SealedRun]) -> (Vec<String>, bool) {
    let mut types = vec!["user_id".to_owned()];
    let mut history = false;
    for run in runs {
        if run.options.include_anonymous || !run.options.id_sync.is_empty() {
            types.push("anonymous_id".to_owned());
        }
        types.extend(run.options.id_sync.iter().map(|sync| sync.id.clone()));
        history |= run.options.id_sync.iter().any(|sync| sync.strategy != Strategy::Last);
    }
    types.sort_unstable();
    types.dedup();
    (types, history)
}

async fn traits(conn: &mut PgConnection, runs: &[&SealedRun], people: &mut People) -> Result<()> {
    let mut names: Vec<&str> = runs.iter().flat_map(|run| &run.options.include_traits).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = people.known.iter().map(|(id, _)| i64::from(id.0)).collect();
    let mut rows = sqlx::query(
        "select id, (select jsonb_object_agg(name, traits -> name) from unnest($2::text[]) name where traits ? name)
         from profiles where id = any($1) order by id",
    )
    .bind(&ids)
    .bind(&names)
    .fetch(&mut *conn);
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let id = ProfileId(row.try_get::<i64, _>(0)? as u32);
        let Some(found) = row.try_get::<Option<&sqlx::types::JsonRawValue>, _>(1)? else { continue };
        if bytes > limits::PAGE_BYTES {
            people.cut = Some(people.cut.map_or(id, |cut| cut.min(id)));
            break;
        }
        bytes += found.get().len();
        let Ok(Value::Object(found)) = serde_json::from_str(found.get()) else { continue };
        if let Ok(at) = people.known.binary_search_by_key(&id, |(id, _)| *id) {
            people.known[at].1.traits = found.into_iter().collect();
        }
    }
    drop(rows);
    computed(conn, &names, people).await
}

/// Computed traits as of their last run. They go before imported ones of the same name.
async fn computed(conn: &mut PgConnection, names: &[&str], people: &mut People) -> Result<()> {
    let keys: Vec<(AudienceId, String)> = sqlx::query_as(
        "select id, key from audiences where class = 'trait' and state <> 'deleted' and (key = any($1) or columns && $1)
         order by key",
    )
    .bind(names)
    .fetch_all(&mut *conn)
    .await?;
    if keys.is_empty() {
        return Ok(());
    }
    let ids: Vec<ProfileId> = people.known.iter().map(|(id, _)| *id).collect();
    for (audience, key) in keys {
        for (id, value) in values::of(conn, audience, &ids).await? {
            let (Ok(at), Ok(value)) =
                (people.known.binary_search_by_key(&id, |(id, _)| *id), serde_json::from_str::<Value>(&value))
            else {
                continue;
            };
            let told = match value {
                Value::Object(members) if !names.contains(&key.as_str()) => members.into_iter().collect(),
                value => vec![(key.clone(), value)],
            };
            let traits = &mut people.known[at].1.traits;
            for (key, value) in told.into_iter().filter(|(key, _)| names.contains(&key.as_str())) {
                traits.retain(|(name, _)| *name != key);
                traits.push((key, value));
            }
        }
    }
    Ok(())
}
