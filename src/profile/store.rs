//! How is a batch of messages stored? In one transaction: each message once, all of it or none.
//!
//! Two writers never wait for each other in a circle, because every one takes what it locks in the same order: the
//! promotions (shared), message digests in order, the lock on identities, profiles in order, groups in order, the import's
//! own row. Each writer's rows become visible with its commit, marked with its transaction id.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    copy::Rows,
    identity::{Owner, Resolution},
    json::write_member,
    message::{Body, Message},
    number::number_at,
    partition::{self, Month},
    people::{self, People},
    rules::Rules,
};
use crate::Result;

/// What a writer remembers between batches. Nothing in it is ever taken back by the database.
#[derive(Debug, Default)]
pub(super) struct Store {
    names: HashMap<String, i32>,
    /// Those that have a partition.
    months: BTreeSet<Month>,
    /// Those that got events.
    touched: BTreeSet<Month>,
    people: People,
}

/// What became of the messages of a batch; the others were stored before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub accepted: u64,
    /// Dropped, since they are of somebody of whom nothing is taken in.
    pub suppressed: u64,
}

/// By event name: which number of it stands in which column.
type Promotions = HashMap<i32, Vec<(i16, Vec<String>)>>;

impl Store {
    /// One that tells people apart by these rules.
    pub fn new(rules: Arc<Rules>) -> Store {
        Store { people: People::new(rules), ..Store::default() }
    }

    /// Makes what the batch needs and what stays if it fails: event names and partitions. Outside of any transaction.
    pub async fn prepare(
        &mut self,
        connection: &mut PgConnection,
        messages: &[Message],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let events =
            || messages.iter().filter_map(|message| event_name(message).map(|name| (name, message.occurred_at)));
        let unknown: BTreeSet<&str> =
            events().map(|(name, _)| name).filter(|name| !self.names.contains_key(*name)).collect();
        if !unknown.is_empty() {
            let unknown: Vec<&str> = unknown.into_iter().collect();
            // Only names that are really missing draw an id.
            sqlx::query(
                "insert into event_names (name) select name from unnest($1::text[]) as new (name)
                 where not exists (select from event_names e where e.name = new.name) order by name on conflict do nothing",
            )
            .bind(&unknown)
            .execute(&mut *connection)
            .await?;
            let rows: Vec<(String, i32)> = sqlx::query_as("select name, id from event_names where name = any($1)")
                .bind(&unknown)
                .fetch_all(&mut *connection)
                .await?;
            self.names.extend(rows);
        }
        let months = events().map(|(_, at)| Month::of(at)).collect();
        partition::ensure(connection, &mut self.months, &months, now).await?;
        self.touched.extend(months);
        Ok(())
    }

    /// The tables of events that grew with what was prepared. Their names are ours, safe to put into a statement.
    pub fn tables(&self) -> Vec<String> {
        let of = |month: &Month| if self.months.contains(month) { month.table() } else { "events_default".into() };
        self.touched.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Stores those messages that are not stored yet. Inside the caller's transaction.
    pub async fn store(&mut self, connection: &mut PgConnection, messages: &[Message]) -> Result<Stored> {
        let promotions = promotions(connection).await?;
        let mut messages = only_new(connection, messages).await?;
        let new = messages.len();
        let resolution = self.people.identify(connection, &mut messages).await?;
        let ids = people::store(connection, &messages, &resolution).await?;
        let id_of = |owner: Owner| ids.of(resolution.root(owner));
        self.events(connection, &messages, &resolution, id_of, &promotions).await?;
        groups(connection, &messages, &resolution, id_of).await?;
        aliases(connection, &messages).await?;
        Ok(Stored { accepted: messages.len() as u64, suppressed: (new - messages.len()) as u64 })
    }

    async fn events(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
        resolution: &Resolution<'_>,
        id_of: impl Fn(Owner) -> i64,
        promotions: &Promotions,
    ) -> Result<()> {
        let mut events: Vec<_> = messages
            .iter()
            .zip(&resolution.owners)
            .filter_map(|(message, owner)| match (&message.body, owner) {
                (Body::Event { name, properties, context }, owner) => {
                    Some((*self.names.get(name)?, message.occurred_at, id_of(*owner), message, properties, context))
                }
                _ => None,
            })
            .collect();
        // In the order of the larger index: its pages are then filled one after the other.
        events.sort_unstable_by_key(|(name, at, id, ..)| (*name, *at, *id));
        let mut rows = Rows::default();
        for (name, at, id, message, properties, context) in events {
            rows.row(9).bigint(id).int(name).timestamp(at).text(&message.message_id);
            rows.optional(message.source_id.as_deref(), Rows::text).jsonb(properties).jsonb(context);
            for slot in [1, 2] {
                let path = promotions.get(&name).and_then(|paths| paths.iter().find(|(at, _)| *at == slot));
                rows.optional(path.and_then(|(_, path)| number_at(properties, path)), |rows, number| {
                    rows.value(&number)
                });
            }
        }
        rows.send(
            connection,
            "copy events (profile_id, name_id, occurred_at, message_id, source_id, properties, context, number_1, number_2)
             from stdin (format binary)",
        )
        .await
    }
}

fn event_name(message: &Message) -> Option<&str> {
    match &message.body {
        Body::Event { name, .. } => Some(name),
        _ => None,
    }
}

/// Which numbers to keep beside the JSON. The shared lock lets a promotion wait until no writer is unaware of it.
async fn promotions(connection: &mut PgConnection) -> Result<Promotions> {
    sqlx::query("select pg_advisory_xact_lock_shared(hashtextextended('rollcall.promotions', 0))")
        .execute(&mut *connection)
        .await?;
    let rows: Vec<(i32, i16, Vec<String>)> =
        sqlx::query_as("select name_id, slot, path from promotions").fetch_all(connection).await?;
    let mut promotions = Promotions::new();
    for (name, slot, path) in rows {
        promotions.entry(name).or_default().push((slot, path));
    }
    Ok(promotions)
}

/// Leaves the messages whose digest is new, and stores those digests.
///
/// A message that another transaction is storing is waited for: the insert blocks until that one commits or aborts.
async fn only_new<'a>(connection: &mut PgConnection, messages: &'a [Message]) -> Result<Vec<&'a Message>> {
    let mut digests: Vec<Uuid> = messages.iter().map(|message| message.digest).collect();
    digests.sort_unstable();
    digests.dedup();
    let new: Vec<Uuid> =
        sqlx::query_scalar("insert into messages select unnest($1::uuid[]) on conflict do nothing returning digest")
            .bind(&digests)
            .fetch_all(connection)
            .await?;
    let mut new: HashSet<Uuid> = new.into_iter().collect();
    Ok(messages.iter().filter(|message| new.remove(&message.digest)).collect())
}

async fn groups(
    connection: &mut PgConnection,
    messages: &[&Message],
    resolution: &Resolution<'_>,
    id_of: impl Fn(Owner) -> i64,
) -> Result<()> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut members: BTreeSet<(i64, &str)> = BTreeSet::new();
    for (message, owner) in messages.iter().zip(&resolution.owners) {
        if let Body::Group { group_id, traits } = &message.body {
            groups.entry(group_id).or_default().extend(traits.iter().map(|(name, value)| (&**name, &**value)));
            members.insert((id_of(*owner), group_id));
        }
    }
    if groups.is_empty() {
        return Ok(());
    }
    let (ids, traits): (Vec<&str>, Vec<String>) =
        groups.iter().map(|(id, patch)| (*id, object(patch, |_| true))).unzip();
    sqlx::query(
        "insert into groups (group_id, traits) select id, jsonb_strip_nulls(traits::jsonb) from unnest($1::text[], $2::text[]) as new (id, traits)
         order by id collate \"C\"
         on conflict (group_id) do update set traits = groups.traits || excluded.traits",
    )
    .bind(ids)
    .bind(traits)
    .execute(&mut *connection)
    .await?;
    let (profiles, ids): (Vec<i64>, Vec<&str>) = members.into_iter().unzip();
    sqlx::query("insert into group_members (profile_id, group_id) select * from unnest($1::bigint[], $2::text[]) on conflict do nothing")
        .bind(profiles)
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

async fn aliases(connection: &mut PgConnection, messages: &[&Message]) -> Result<()> {
    let mut rows = Rows::default();
    for message in messages {
        if let Body::Alias { previous_id, user_id } = &message.body {
            rows.row(4).text(&message.message_id).text(previous_id).text(user_id).timestamp(message.occurred_at);
        }
    }
    rows.send(connection, "copy aliases (message_id, previous_id, user_id, occurred_at) from stdin (format binary)")
        .await
}

/// Traits as a JSON object, those whose value `keep` accepts.
fn object(patch: &BTreeMap<&str, &str>, keep: impl Fn(&str) -> bool) -> String {
    let mut out = String::from("{");
    for (name, value) in patch.iter().filter(|(_, value)| keep(value)) {
        write_member(&mut out, name, value);
    }
    out.push('}');
    out
}
