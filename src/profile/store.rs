//! How is a batch of messages stored? In one transaction: each message once, all of it or none.
//!
//! Two writers never wait for each other in a circle, because every one takes what it locks in the same order: the
//! promotions (shared), message digests in order, the lock on new identities, event names, profiles in order, groups
//! in order, the import's own row. Each writer's rows become visible with its commit, marked with its transaction id.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    copy::Rows,
    identity::{self, Key, Known, Owner, Resolution},
    json::write_member,
    message::{Body, Message},
    number::number_at,
    partition::{self, Month},
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
}

/// By event name: which number of it stands in which column.
type Promotions = HashMap<i32, Vec<(i16, Vec<String>)>>;
/// Traits as last told, by owner; null removes one.
type Patches<'a> = BTreeMap<Owner, BTreeMap<&'a str, &'a str>>;

impl Store {
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

    /// Stores those messages that are not stored yet; returns how many those were. Inside the caller's transaction.
    pub async fn store(&self, connection: &mut PgConnection, messages: &[Message]) -> Result<u64> {
        let promotions = promotions(connection).await?;
        let messages = only_new(connection, messages).await?;
        let (known, ids) = identify(connection, &messages).await?;
        let resolution = identity::resolve(&messages, &known);
        let ids = match ids {
            true => new_ids(connection, resolution.new_profiles).await?,
            false => Vec::new(),
        };
        let id_of = |owner: Owner| match owner {
            Owner::Stored(id) => id,
            Owner::New(n) => ids[n],
        };
        self.profiles(connection, &messages, &resolution, id_of).await?;
        self.events(connection, &messages, &resolution, id_of, &promotions).await?;
        groups(connection, &messages, &resolution, id_of).await?;
        aliases(connection, &messages).await?;
        Ok(messages.len() as u64)
    }

    async fn profiles(
        &self,
        connection: &mut PgConnection,
        messages: &[&Message],
        resolution: &Resolution<'_>,
        id_of: impl Fn(Owner) -> i64,
    ) -> Result<()> {
        let mut patches: Patches = Patches::new();
        for (message, owner) in messages.iter().zip(&resolution.owners) {
            if let (Body::Identify { traits }, Some(owner)) = (&message.body, owner) {
                patches.entry(*owner).or_default().extend(traits.iter().map(|(name, value)| (&**name, &**value)));
            }
        }
        let mut rows = Rows::default();
        for n in 0..resolution.new_profiles {
            let traits =
                patches.get(&Owner::New(n)).map_or_else(|| "{}".into(), |patch| object(patch, |value| value != "null"));
            rows.row(2).bigint(id_of(Owner::New(n))).jsonb(&traits);
        }
        rows.send(connection, "copy profiles (id, traits) from stdin (format binary)").await?;

        // Sorted by the map's order: Stored(id) ascending.
        let stored: Vec<_> = patches
            .iter()
            .filter_map(|(owner, patch)| match owner {
                Owner::Stored(id) => Some((*id, patch)),
                Owner::New(_) => None,
            })
            .collect();
        if !stored.is_empty() {
            update_traits(connection, &stored).await?;
        }

        let mut attached: Vec<_> = resolution.attached.iter().collect();
        attached.sort_unstable_by_key(|(key, ..)| *key);
        let mut rows = Rows::default();
        for ((kind, value), owner, added_at) in attached {
            rows.row(4).text(kind).text(value).bigint(id_of(*owner)).timestamp(*added_at);
        }
        rows.send(connection, "copy identifiers (type, value, profile_id, added_at) from stdin (format binary)").await
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
                (Body::Event { name, properties, context }, Some(owner)) => {
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

/// Looks the identifiers of a batch up. If some are new, this transaction holds the lock on new identities afterwards
/// (true), so that what was looked up stays true until it commits.
async fn identify<'a>(connection: &mut PgConnection, messages: &[&'a Message]) -> Result<(Known<'a>, bool)> {
    let keys: BTreeSet<Key> = messages.iter().copied().flat_map(identity::keys).collect();
    let mut known = Known { owners: owners(connection, keys.iter().copied().collect()).await?, ..Known::default() };
    let missing: Vec<Key> = keys.into_iter().filter(|key| !known.owners.contains_key(key)).collect();
    let creates = !missing.is_empty();
    if creates {
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('rollcall.identities', 0))")
            .execute(&mut *connection)
            .await?;
        known.owners.extend(owners(connection, missing).await?);
    }
    // A user id may be attached to an anonymous profile only if that has none.
    let joining: BTreeSet<i64> = messages
        .iter()
        .filter(|message| message.user_id.as_deref().is_some_and(|id| !known.owners.contains_key(&("user_id", id))))
        .filter_map(|message| known.owners.get(&("anonymous_id", message.anonymous_id.as_deref()?)).copied())
        .collect();
    if !joining.is_empty() {
        let joining: Vec<i64> = joining.into_iter().collect();
        let rows: Vec<i64> =
            sqlx::query_scalar("select profile_id from identifiers where profile_id = any($1) and type = 'user_id'")
                .bind(joining)
                .fetch_all(connection)
                .await?;
        known.with_user_id.extend(rows);
    }
    Ok((known, creates))
}

async fn owners<'a>(connection: &mut PgConnection, keys: Vec<Key<'a>>) -> Result<HashMap<Key<'a>, i64>> {
    let (types, values): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "select key.n, i.profile_id from unnest($1::text[], $2::text[]) with ordinality as key (type, value, n)
         join identifiers i on i.type = key.type and i.value = key.value",
    )
    .bind(types)
    .bind(values)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(n, id)| Some((*keys.get(usize::try_from(n).ok()?.checked_sub(1)?)?, id)))
        .collect())
}

/// Ids for new profiles: one sequence value each, drawn under the lock on new identities, so none is wasted on a conflict.
async fn new_ids(connection: &mut PgConnection, count: usize) -> Result<Vec<i64>> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows: Vec<PgRow> = sqlx::query("select nextval('profile_ids') from generate_series(1, $1)")
        .bind(count)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Merges traits into stored profiles; a profile that does not change keeps its xid.
async fn update_traits(connection: &mut PgConnection, patches: &[(i64, &BTreeMap<&str, &str>)]) -> Result<()> {
    let ids: Vec<i64> = patches.iter().map(|(id, _)| *id).collect();
    let set: Vec<String> = patches.iter().map(|(_, patch)| object(patch, |value| value != "null")).collect();
    let removed: Vec<Option<String>> = patches
        .iter()
        .map(|(_, patch)| patch.values().any(|value| *value == "null").then(|| object(patch, |value| value == "null")))
        .collect();
    // An update alone would lock in the order of its plan.
    sqlx::query("select count(*) from (select from profiles where id = any($1) order by id for update) locked")
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "update profiles p set traits = merged.traits, xid = pg_current_xact_id()
         from unnest($1::bigint[], $2::text[], $3::text[]) as patch (id, set, removed)
         join profiles old using (id)
         cross join lateral (select case when patch.removed is null then old.traits || patch.set::jsonb
             else (old.traits || patch.set::jsonb) - array(select jsonb_object_keys(patch.removed::jsonb)) end) as merged (traits)
         where p.id = patch.id and merged.traits <> old.traits",
    )
    .bind(&ids)
    .bind(set)
    .bind(removed)
    .execute(connection)
    .await?;
    Ok(())
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
        if let (Body::Group { group_id, traits }, Some(owner)) = (&message.body, owner) {
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
