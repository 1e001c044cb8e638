//! Which value has each profile? The values of a computed trait, in chunks of consecutive ids, and where they are kept.
//!
//! A value is JSON text in one canonical form, so that values are equal exactly if their texts are. A trait of several
//! columns has an object of them. Nobody's value is ever half written: a chunk is replaced as a whole, in the seal.

mod column;
pub mod columns;
pub(crate) mod current;
mod found;
pub mod settle;
pub(crate) mod table;
pub(crate) mod unordered;

use std::{borrow::Cow, collections::BTreeMap};

use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, Row as _};

pub use self::{column::Column, found::Values};
use crate::{
    Error, Result,
    fault::Safeguard,
    ids::{AudienceId, ProfileId, RunId},
    membership::diff::{self, Change},
};

/// The chunk of an id, and its place there.
pub(crate) fn split(id: u32) -> (u16, u16) {
    ((id >> 16) as u16, id as u16)
}

/// The id at a place of a chunk.
pub(crate) fn join(chunk: u16, at: u16) -> u32 {
    u32::from(chunk) << 16 | u32::from(at)
}

/// A trait's values as last computed, by chunk, each compressed.
pub(crate) async fn stored(conn: &mut PgConnection, key: &str) -> Result<BTreeMap<u16, Vec<u8>>> {
    let chunks: Vec<(i32, Vec<u8>)> = sqlx::query_as(
        "select v.chunk, v.values from trait_values v join audiences a on a.id = v.audience_id where a.key = $1",
    )
    .bind(key)
    .fetch_all(conn)
    .await?;
    Ok(chunks.into_iter().map(|(chunk, bytes)| (chunk as u16, bytes)).collect())
}

/// The values of some profiles as last computed, as JSON text; those without one are left out.
///
/// # Errors
/// The database's own, or damage.
pub async fn of(conn: &mut PgConnection, audience: AudienceId, ids: &[ProfileId]) -> Result<Vec<(ProfileId, String)>> {
    let wanted = by_chunk(ids);
    let chunks: Vec<i32> = wanted.keys().map(|chunk| i32::from(*chunk)).collect();
    let rows = sqlx::query(LATEST).bind(audience).bind(&chunks).fetch_all(conn).await?;
    let mut found = Vec::with_capacity(ids.len());
    for row in rows {
        let chunk = row.try_get::<i32, _>(0)? as u16;
        let column = Column::decode(row.try_get(1)?)?;
        let of = |at: &u16| Some((ProfileId(join(chunk, *at)), column.get(*at)?.to_owned()));
        found.extend(wanted[&chunk].iter().filter_map(of));
    }
    Ok(found)
}

/// Who has a value of a trait, as last computed.
///
/// # Errors
/// The database's own, or damage.
pub async fn whose(conn: &mut PgConnection, audience: AudienceId) -> Result<RoaringBitmap> {
    let sql = "select chunk, values from trait_values where audience_id = $1 order by chunk";
    let mut rows = sqlx::query(sql).bind(audience).fetch(conn);
    let mut whose = RoaringBitmap::new();
    while let Some(row) = rows.try_next().await? {
        let chunk = row.try_get::<i32, _>(0)? as u16;
        whose.extend(Column::decode(row.try_get(1)?)?.ids().iter().map(|at| join(chunk, *at)));
    }
    Ok(whose)
}

/// All values of one profile as last computed, as JSON text by key; those told together also each by its own.
///
/// # Errors
/// The database's own, or damage.
pub async fn of_person(conn: &mut PgConnection, profile: ProfileId) -> Result<BTreeMap<String, String>> {
    let (chunk, at) = split(profile.0);
    let rows = sqlx::query(
        "select a.key, v.values from trait_values v join audiences a on a.id = v.audience_id where v.chunk = $1",
    )
    .bind(i32::from(chunk))
    .fetch_all(conn)
    .await?;
    let mut values = BTreeMap::new();
    for row in rows {
        if let Some(value) = Column::decode(row.try_get(1)?)?.get(at) {
            if value.starts_with('{') {
                let members = columns::read(value).into_iter();
                values.extend(members.map(|(key, value)| (key, value.to_owned())));
            }
            values.insert(row.try_get(0)?, value.to_owned());
        }
    }
    Ok(values)
}

/// What a run tells of some profiles, by the rows that were sealed up to `through`.
///
/// # Errors
/// The database's own; [`crate::Kind::Halted`] if the values are not those that were sealed.
pub async fn sealed(
    conn: &mut PgConnection,
    run: RunId,
    through: Option<i64>,
    ids: &[ProfileId],
) -> Result<BTreeMap<ProfileId, String>> {
    let wanted = by_chunk(ids);
    let chunks: Vec<i32> = wanted.keys().map(|chunk| i32::from(*chunk)).collect();
    let sql = "select chunk, values, coalesce(rewritten, digest) from run_values
               where run_id = $1 and chunk = any($2) and id <= $3 order by id";
    let rows = sqlx::query(sql).bind(run).bind(&chunks).bind(through).fetch_all(conn).await?;
    let mut found = BTreeMap::new();
    for row in rows {
        let (chunk, bytes) = (row.try_get::<i32, _>(0)? as u16, row.try_get::<&[u8], _>(1)?);
        // The dangerous line: without it a person is told whatever somebody wrote over the value.
        if Sha256::digest(bytes)[..] != *row.try_get::<&[u8], _>(2)? && Safeguard::ChainComputedAnew.is_on() {
            return Err(Error::halted(format!(
                "the log was damaged: the values of run {run} are not as they were sealed"
            ))
            .help("The database was edited, damaged or partly restored: restore it from one backup."));
        }
        let column = Column::decode(bytes)?;
        let of = |at: &u16| Some((ProfileId(join(chunk, *at)), column.get(*at)?.to_owned()));
        // Of two rows that name somebody the later one counts.
        found.extend(wanted[&chunk].iter().filter_map(of));
    }
    Ok(found)
}

/// Places by chunk.
fn by_chunk(ids: &[ProfileId]) -> BTreeMap<u16, Vec<u16>> {
    let mut chunks: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    for (chunk, at) in ids.iter().map(|id| split(id.0)) {
        chunks.entry(chunk).or_default().push(at);
    }
    chunks
}

/// Replaces chunks of a trait's values, or removes those in which nothing is left.
pub(crate) async fn store(
    conn: &mut PgConnection,
    audience: AudienceId,
    chunks: &BTreeMap<u16, Vec<u8>>,
) -> Result<()> {
    let (kept, gone): (Vec<_>, Vec<_>) = chunks.iter().partition(|(_, column)| !column.is_empty());
    if !gone.is_empty() {
        sqlx::query("delete from trait_values where audience_id = $1 and chunk = any($2)")
            .bind(audience)
            .bind(gone.iter().map(|(chunk, _)| i32::from(**chunk)).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
    }
    put_all(
        conn,
        "insert into trait_values (audience_id, chunk, values) select $1, * from unnest($2::int[], $3::bytea[])
         on conflict (audience_id, chunk) do update set values = excluded.values",
        audience.0,
        &kept,
    )
    .await
}

/// Several chunks in one statement: as many as make a message of a moderate size.
async fn put_all(conn: &mut PgConnection, insert: &'static str, of: i64, chunks: &[(&u16, &Vec<u8>)]) -> Result<()> {
    let (mut from, mut bytes) = (0, 0);
    for (at, (_, column)) in chunks.iter().enumerate() {
        bytes += column.len();
        if bytes < STATEMENT_BYTES && at + 1 < chunks.len() {
            continue;
        }
        let (numbers, columns): (Vec<_>, Vec<_>) =
            chunks[from..=at].iter().map(|(chunk, column)| (i32::from(**chunk), &column[..])).unzip();
        sqlx::query(insert).bind(of).bind(numbers).bind(columns).execute(&mut *conn).await?;
        (from, bytes) = (at + 1, 0);
    }
    Ok(())
}

/// Bytes of chunks that travel together.
const STATEMENT_BYTES: usize = 512 << 10;

/// Whose value changed in the runs after `run`, and how many runs those were: they must be told to whoever was last told of
/// that run.
pub(crate) async fn changed_since(
    conn: &mut PgConnection,
    audience: AudienceId,
    run: RunId,
) -> Result<(RoaringBitmap, usize)> {
    let bitmaps: Vec<Vec<u8>> = sqlx::query_scalar(
        "select entered from runs where audience_id = $1 and id > $2 and state in ('sealed', 'released')",
    )
    .bind(audience)
    .bind(run)
    .fetch_all(conn)
    .await?;
    let all =
        bitmaps.iter().try_fold(RoaringBitmap::new(), |all, bytes| Ok::<_, crate::Error>(all | diff::decode(bytes)?));
    Ok((all?, bitmaps.len()))
}

/// Remembers under which keys a trait of several values tells.
pub(crate) async fn name(conn: &mut PgConnection, audience: AudienceId, columns: &[String]) -> Result<()> {
    if columns.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update audiences set columns = (select array_agg(distinct c order by c) from unnest(coalesce(columns, '{}') || $2) c)
         where id = $1 and not coalesce(columns, '{}') @> $2",
    )
    .bind(audience)
    .bind(columns)
    .execute(conn)
    .await?;
    Ok(())
}

/// Seals what a run itself tells of several values: those that changed.
pub(crate) async fn seal_patches(conn: &mut PgConnection, run: RunId, patches: &BTreeMap<u16, Vec<u8>>) -> Result<()> {
    put_all(conn, PUT, run.0, &patches.iter().collect::<Vec<_>>()).await
}

/// Seals the values of a change with the run that tells them: **they must be those of the run**, so it is the latest one of
/// its trait, and the lock of the log's writers is held. What is sealed already stays; of several values, what the run itself
/// tells is what changed in it, so all of them come after it for whoever `missed` earlier runs; and whoever was told values
/// `before` is told null for those that he has no more.
pub(crate) async fn seal(
    conn: &mut PgConnection,
    run: RunId,
    audience: AudienceId,
    change: &Change,
    before: &RoaringBitmap,
    missed: bool,
) -> Result<()> {
    let columns: Option<Vec<String>> =
        sqlx::query_scalar("select columns from audiences where id = $1").bind(audience).fetch_one(&mut *conn).await?;
    let mut wanted: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
    // That one value ceased needs no word beside the log's; of several, their keys must be said.
    let told = if columns.is_some() { &change.entered | &change.exited } else { change.entered.clone() };
    for id in &told {
        let (chunk, at) = split(id);
        wanted.entry(chunk).or_default().push(at);
    }
    for (chunk, wanted) in wanted {
        let known = sealed_chunk(conn, run, chunk).await?;
        let missed = missed && columns.is_some();
        if !missed && wanted.iter().all(|at| known.contains_key(at)) {
            continue;
        }
        let state = latest_chunk(conn, audience, chunk).await?;
        let mut column = Column::default();
        for at in wanted {
            // Who leaves has no value for the destination, even where one is stored still.
            let value = state.get(at).filter(|_| !change.exited.contains(join(chunk, at)));
            let known = known.get(&at).map(String::as_str);
            let value = match &columns {
                Some(columns) if missed || known.is_none() => {
                    let gone = if before.contains(join(chunk, at)) { &columns[..] } else { &[] };
                    Some(Cow::from(columns::whole(value, gone)))
                }
                None if known.is_none() => value.map(Cow::from),
                _ => None,
            };
            if let Some(value) = value.filter(|value| known != Some(value)) {
                column.push(at, &value);
            }
        }
        if !column.is_empty() {
            put_all(conn, PUT, run.0, &[(&chunk, &column.encode())]).await?;
        }
    }
    Ok(())
}

/// What is sealed with a run so far of one chunk, by place.
async fn sealed_chunk(conn: &mut PgConnection, run: RunId, chunk: u16) -> Result<BTreeMap<u16, String>> {
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("select values from run_values where run_id = $1 and chunk = $2 order by id")
            .bind(run)
            .bind(i32::from(chunk))
            .fetch_all(conn)
            .await?;
    let mut known = BTreeMap::new();
    for row in rows {
        known.extend(Column::decode(&row)?.iter().map(|(at, value)| (at, value.to_owned())));
    }
    Ok(known)
}

/// A trait's values as last computed, of one chunk.
async fn latest_chunk(conn: &mut PgConnection, audience: AudienceId, chunk: u16) -> Result<Column> {
    let row = sqlx::query(LATEST).bind(audience).bind(vec![i32::from(chunk)]).fetch_optional(conn).await?;
    row.map_or_else(|| Ok(Column::default()), |row| Column::decode(row.try_get(1)?))
}

/// Keeps what a held run found, until a person has decided.
pub(crate) async fn hold(conn: &mut PgConnection, run: RunId, chunks: &BTreeMap<u16, Vec<u8>>) -> Result<()> {
    let insert = "insert into held_values (run_id, chunk, values) select $1, * from unnest($2::int[], $3::bytea[])";
    put_all(conn, insert, run.0, &chunks.iter().collect::<Vec<_>>()).await
}

/// Makes what a held run found the trait's values.
pub(crate) async fn release(conn: &mut PgConnection, audience: AudienceId, run: RunId) -> Result<()> {
    let held: Vec<(i32, Vec<u8>)> = sqlx::query_as("delete from held_values where run_id = $1 returning chunk, values")
        .bind(run)
        .fetch_all(&mut *conn)
        .await?;
    let held = held.into_iter().map(|(chunk, column)| (chunk as u16, column)).collect();
    store(conn, audience, &held).await
}

/// Forgets what runs found that are held no more.
pub(crate) async fn let_go(conn: &mut PgConnection, runs: &[RunId]) -> Result<()> {
    let runs: Vec<i64> = runs.iter().map(|run| run.0).collect();
    sqlx::query("delete from held_values where run_id = any($1)").bind(runs).execute(conn).await?;
    Ok(())
}

/// Takes the values of profiles out of all that is stored; in what runs told, which counts its changes, they become null.
pub(crate) async fn scrub(conn: &mut PgConnection, profiles: &RoaringBitmap) -> Result<()> {
    let mut chunks: Vec<i32> = profiles.iter().map(|id| i32::from(split(id).0)).collect();
    chunks.dedup();
    for (select, update, keeps_place) in [
        (
            "select audience_id, chunk, values from trait_values where chunk = any($1) for update",
            "update trait_values set values = $3 where audience_id = $1 and chunk = $2",
            false,
        ),
        (
            "select run_id, chunk, values from held_values where chunk = any($1) and values <> '' for update",
            "update held_values set values = $3 where run_id = $1 and chunk = $2",
            false,
        ),
        (
            "select id, chunk, values from run_values where chunk = any($1) for update",
            "update run_values set values = $3, rewritten = sha256($3) where id = $1 and chunk = $2",
            true,
        ),
    ] {
        // A chunk at a time: all of a trait may be more than is wanted in memory.
        for chunk in &chunks {
            let rows: Vec<(i64, i32, Vec<u8>)> =
                sqlx::query_as(select).bind([*chunk].as_slice()).fetch_all(&mut *conn).await?;
            for (of, chunk, bytes) in rows {
                let old = Column::decode(&bytes)?;
                let mut new = Column::default();
                for (at, value) in old.iter() {
                    match profiles.contains(join(chunk as u16, at)) {
                        false => new.push(at, value),
                        true if keeps_place => new.push(at, "null"),
                        true => {}
                    }
                }
                if new != old {
                    sqlx::query(update).bind(of).bind(chunk).bind(new.encode()).execute(&mut *conn).await?;
                }
            }
        }
    }
    Ok(())
}

const PUT: &str = "insert into run_values (run_id, chunk, values, digest)
     select $1, chunk, sealed, sha256(sealed) from unnest($2::int[], $3::bytea[]) as told (chunk, sealed)";
const LATEST: &str = "select chunk, values from trait_values where audience_id = $1 and chunk = any($2)";
