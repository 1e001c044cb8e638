//! Who of a batch is known, who is new, who turns out to be one person? The reading and the writing around `identity`.
//!
//! Every batch holds the lock on identities until it commits: shared where it only looks people up, exclusive where it makes,
//! joins or gives identifiers to profiles. So what was looked up stays true, and nothing is written for a profile that
//! another transaction is merging away. One lock, taken once: nobody waits in a circle.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::DateTime;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    copy::Rows,
    identity::{self, Holding, Key, Known, Owner, Resolution},
    merge,
    message::{Body, Message},
    rules::Rules,
    suppression,
    traits::Traits,
};
use crate::Result;

/// Tells the people of batches apart.
#[derive(Debug, Default)]
pub(super) struct People {
    rules: Arc<Rules>,
    /// Whether the batch before changed identities: then the next one probably does, and asks for the exclusive lock at once.
    changing: bool,
}

impl People {
    pub fn new(rules: Arc<Rules>) -> People {
        People { rules, changing: false }
    }

    /// Decides whose each message is, and takes those out that are suppressed. The lock it takes is held until the transaction
    /// ends.
    pub async fn identify<'a>(
        &mut self,
        connection: &mut PgConnection,
        messages: &mut Vec<&'a Message>,
    ) -> Result<Resolution<'a>> {
        if !self.changing {
            sqlx::raw_sql("savepoint identities").execute(&mut *connection).await?;
            lock_shared(connection).await?;
            drop_suppressed(connection, messages).await?;
            let resolution = resolve(connection, messages, &self.rules).await?;
            if !resolution.changes() {
                sqlx::raw_sql("release savepoint identities").execute(connection).await?;
                return Ok(resolution);
            }
            // Gives the lock back: two who held it and both wanted it alone would wait for each other for ever.
            sqlx::raw_sql("rollback to savepoint identities").execute(&mut *connection).await?;
        }
        lock(connection).await?;
        drop_suppressed(connection, messages).await?;
        let resolution = resolve(connection, messages, &self.rules).await?;
        self.changing = resolution.changes();
        Ok(resolution)
    }
}

async fn drop_suppressed(connection: &mut PgConnection, messages: &mut Vec<&Message>) -> Result<()> {
    let dropped = suppression::dropped(connection, messages).await?;
    if !dropped.is_empty() {
        let mut place = 0..;
        messages.retain(|_| place.next().is_some_and(|place| !dropped.contains(&place)));
    }
    Ok(())
}

/// Keeps everybody else from reading or changing who is who until the transaction ends.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('rollcall.identities', 0))").execute(connection).await?;
    Ok(())
}

/// Keeps everybody else from changing who is who until the transaction ends.
pub(super) async fn lock_shared(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock_shared(hashtextextended('rollcall.identities', 0))")
        .execute(connection)
        .await?;
    Ok(())
}

async fn resolve<'a>(connection: &mut PgConnection, messages: &[&'a Message], rules: &Rules) -> Result<Resolution<'a>> {
    let keys: BTreeSet<Key> = messages.iter().copied().flat_map(identity::keys).collect();
    let owners = owners(connection, keys.into_iter().collect()).await?;
    let holdings = holdings(connection, &identity::may_change(messages, &owners)).await?;
    Ok(identity::resolve(messages, Known { owners, holdings }, rules))
}

async fn owners<'a>(connection: &mut PgConnection, keys: Vec<Key<'a>>) -> Result<HashMap<Key<'a>, i64>> {
    let (types, values): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        // Looked up one by one, whatever the statistics say: a join would read all identifiers there are for each batch.
        "select key.n, i.profile_id from unnest($1::text[], $2::text[]) with ordinality as key (type, value, n)
         cross join lateral (select profile_id from identifiers i where i.type = key.type and i.value = key.value limit 1) i",
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

async fn holdings(connection: &mut PgConnection, profiles: &HashSet<i64>) -> Result<HashMap<i64, Holding>> {
    let mut holdings: HashMap<i64, Holding> = HashMap::new();
    if profiles.is_empty() {
        return Ok(holdings);
    }
    let ids: Vec<i64> = profiles.iter().copied().collect();
    let rows = sqlx::query(
        // As in `owners`; `offset 0` keeps what is within from being joined as a whole.
        "select p.id, i.type, i.added_at, p.merges from unnest($1::bigint[]) as of (id)
         cross join lateral (select id, merges from profiles where id = of.id limit 1) p
         cross join lateral (select type, added_at from identifiers where profile_id = p.id offset 0) i",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let holding = holdings.entry(row.try_get(0)?).or_default();
        holding.identifiers.push((row.try_get(1)?, row.try_get(2)?));
        holding.merges = row.try_get(3)?;
    }
    Ok(holdings)
}

/// The ids of a batch's profiles.
#[derive(Debug)]
pub(super) struct Ids(HashMap<usize, i64>);

impl Ids {
    /// Of a profile that was not merged away within the batch.
    pub fn of(&self, owner: Owner) -> i64 {
        match owner {
            Owner::Stored(id) => id,
            // Each new one that is left has an id: `store` gave it one.
            Owner::New(n) => self.0.get(&n).copied().unwrap_or_default(),
        }
    }
}

/// Stores new profiles, merges, attached identifiers and traits.
pub(super) async fn store(
    connection: &mut PgConnection,
    messages: &[&Message],
    resolution: &Resolution<'_>,
) -> Result<Ids> {
    let left: Vec<usize> =
        (0..resolution.new_profiles).filter(|n| resolution.root(Owner::New(*n)) == Owner::New(*n)).collect();
    let ids = Ids(left.iter().copied().zip(new_ids(connection, left.len()).await?).collect());
    traits(connection, messages, resolution, &left, &ids).await?;
    merge::store(connection, resolution).await?;

    let mut attached: Vec<_> = resolution.attached.iter().collect();
    attached.sort_unstable_by_key(|(key, ..)| *key);
    let mut rows = Rows::default();
    for ((kind, value), owner, added_at) in attached {
        rows.row(4).text(kind).text(value).bigint(ids.of(resolution.root(*owner))).timestamp(*added_at);
    }
    rows.send(connection, "copy identifiers (type, value, profile_id, added_at) from stdin (format binary)").await?;
    Ok(ids)
}

/// Ids for new profiles: one sequence value each, drawn under the lock on identities, so none is wasted on a conflict.
async fn new_ids(connection: &mut PgConnection, count: usize) -> Result<Vec<i64>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let rows: Vec<PgRow> = sqlx::query("select nextval('profile_ids') from generate_series(1, $1)")
        .bind(count)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Tells traits to their profiles and merges them, in the order of the messages; then writes what changed.
async fn traits(
    connection: &mut PgConnection,
    messages: &[&Message],
    resolution: &Resolution<'_>,
    left: &[usize],
    ids: &Ids,
) -> Result<()> {
    let told = |place: usize| matches!(messages[place].body, Body::Identify { .. });
    let merged = resolution.merges.iter().flat_map(|merge| [merge.from, merge.into]);
    let concerned = (0..messages.len()).filter(|place| told(*place)).map(|place| resolution.owners[place]);
    let stored: BTreeSet<i64> = merged
        .chain(concerned)
        .filter_map(|owner| match owner {
            Owner::Stored(id) => Some(id),
            Owner::New(_) => None,
        })
        .collect();
    let rows = read(connection, stored.into_iter().collect()).await?;
    let mut states: HashMap<Owner, Traits> = HashMap::with_capacity(rows.len() + left.len());
    for (id, traits, at, times) in &rows {
        states.insert(Owner::Stored(*id), Traits::stored(traits, *at, times.as_deref()));
    }
    let mut changed: BTreeSet<i64> = BTreeSet::new();
    let mut merges = resolution.merges.iter().peekable();
    for (place, message) in messages.iter().enumerate() {
        while let Some(merge) = merges.next_if(|merge| merge.message == place) {
            let from = states.remove(&merge.from).unwrap_or_default();
            states.entry(merge.into).or_default().absorb(from);
            if let Owner::Stored(id) = merge.into {
                changed.insert(id);
            }
        }
        if let Body::Identify { traits } = &message.body {
            let owner = resolution.owners[place];
            let state = states.entry(owner).or_default();
            let at = message.occurred_at.timestamp_micros();
            let new = traits.iter().fold(false, |new, (name, value)| state.tell(name, value, at) || new);
            if let (true, Owner::Stored(id)) = (new, owner) {
                changed.insert(id);
            }
        }
    }
    let mut rows = Rows::default();
    let none = Traits::default();
    for n in left {
        let columns = states.get(&Owner::New(*n)).unwrap_or(&none).columns();
        let merges = resolution.merges_of(Owner::New(*n)).unwrap_or(0);
        rows.row(5).bigint(ids.of(Owner::New(*n))).jsonb(&columns.traits);
        rows.optional(columns.at.and_then(DateTime::from_timestamp_micros), Rows::timestamp);
        rows.optional(columns.times.as_deref(), Rows::jsonb).int(merges);
    }
    rows.send(connection, "copy profiles (id, traits, traits_at, trait_times, merges) from stdin (format binary)")
        .await?;
    let changed: Vec<_> = changed.into_iter().filter_map(|id| Some((id, states.get(&Owner::Stored(id))?))).collect();
    write(connection, &changed, resolution).await
}

type Row4 = (i64, String, Option<i64>, Option<String>);

/// Locks profiles, in order, and reads their traits.
async fn read(connection: &mut PgConnection, ids: Vec<i64>) -> Result<Vec<Row4>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(
        "select id, traits::text, (extract(epoch from traits_at) * 1000000)::bigint, trait_times::text
         from profiles where id = any($1) order by id for update",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?)
}

/// Writes stored profiles anew; one whose traits are the same as before keeps its xid.
async fn write(
    connection: &mut PgConnection,
    changed: &[(i64, &Traits<'_>)],
    resolution: &Resolution<'_>,
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let columns: Vec<_> = changed.iter().map(|(_, traits)| traits.columns()).collect();
    sqlx::query(
        "update profiles p set traits = new.traits::jsonb, traits_at = new.traits_at, trait_times = new.trait_times::jsonb,
             merges = coalesce(new.merges, p.merges),
             xid = case when p.traits <> new.traits::jsonb or new.merges is not null then pg_current_xact_id() else p.xid end
         from unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[], $5::int[])
              as new (id, traits, traits_at, trait_times, merges)
         where p.id = new.id",
    )
    .bind(changed.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind(columns.iter().map(|columns| columns.traits.as_str()).collect::<Vec<_>>())
    .bind(columns.iter().map(|columns| columns.at.and_then(DateTime::from_timestamp_micros)).collect::<Vec<_>>())
    .bind(columns.iter().map(|columns| columns.times.as_deref()).collect::<Vec<_>>())
    .bind(changed.iter().map(|(id, _)| resolution.merges_of(Owner::Stored(*id))).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
