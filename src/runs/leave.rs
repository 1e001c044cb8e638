//! Who may not be a member, and is told so? People who are to be forgotten leave every audience at once, by runs of their own.
//!
//! A run that nobody evaluated: the last membership without them. What was told `true` is told `false` by the log like any
//! other change, once; a second run may follow whose records are tombstones.

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::held;
use crate::{
    Result,
    audience::Class,
    delta::{log, turn::Turn},
    ids::{AudienceId, DestinationId, RunId},
    membership::{
        diff::{self, Change},
        merges,
    },
    profile::leaving,
    registry::register::Listener,
    values,
};

/// Seals the leaving of everybody who asked for it, and notes how far each destination has then to be told. Returns how
/// many requests it sealed.
///
/// # Errors
/// The database's own: then nothing was sealed.
pub async fn seal(pool: &PgPool, t: DateTime<Utc>) -> Result<u64> {
    let any: bool =
        sqlx::query_scalar("select exists (select from forgets where state = 'requested')").fetch_one(pool).await?;
    if !any {
        return Ok(0);
    }
    let mut turn = Turn::wait(pool, None).await?;
    let mut tx = turn.conn.begin_with("begin isolation level repeatable read").await?;
    let requests: Vec<(i64, i64, bool)> = sqlx::query_as(
        "select id, profile_id, tombstone from forgets where state = 'requested' order by id for update",
    )
    .fetch_all(&mut *tx)
    .await?;
    let bitmap = |tombstone: bool| -> RoaringBitmap {
        requests
            .iter()
            .filter(|(.., wanted)| *wanted || !tombstone)
            .filter_map(|(_, id, _)| u32::try_from(*id).ok())
            .collect()
    };
    let (leaving, buried) = (bitmap(false), bitmap(true));
    for audience in audiences(&mut tx).await? {
        leave(&mut tx, &audience, &leaving, t).await?;
        if !buried.is_empty() {
            bury(&mut tx, &audience, &buried, t).await?;
        }
    }
    let requests: Vec<i64> = requests.iter().map(|(id, ..)| *id).collect();
    sqlx::query(
        "insert into forget_positions (forget_id, destination_id, position)
         select forget, d.id, d.next_position from unnest($1::bigint[]) forget, destinations d where d.next_position > 0",
    )
    .bind(&requests)
    .execute(&mut *tx)
    .await?;
    sqlx::query("update forgets set state = 'sealed' where id = any($1)").bind(&requests).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(requests.len() as u64)
}

/// Takes the computed values of whoever is to be erased now out of what is kept of them.
///
/// # Errors
/// The database's own: then nothing was taken out.
pub async fn scrub(pool: &PgPool) -> Result<()> {
    let any: bool =
        sqlx::query_scalar("select exists (select from forgets where state = 'told')").fetch_one(pool).await?;
    if !any {
        return Ok(());
    }
    let mut turn = Turn::wait(pool, None).await?;
    let mut tx = turn.conn.begin().await?;
    let erased = leaving::told(&mut tx).await?;
    values::scrub(&mut tx, &erased).await?;
    Ok(tx.commit().await?)
}

/// An audience that was ever computed, and those who are told of it.
struct Told {
    id: AudienceId,
    class: Class,
    version: i32,
    snapshot: String,
    members: RoaringBitmap,
    destinations: Vec<Listener>,
}

async fn audiences(tx: &mut PgConnection) -> Result<Vec<Told>> {
    let rows = sqlx::query(
        "select a.id, a.class, r.definition_version, m.members, r.last_merge, pg_current_snapshot()::text as snapshot
         from memberships m join audiences a on a.id = m.audience_id join runs r on r.id = m.run_id order by a.id",
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let id = AudienceId(row.try_get("id")?);
        let mut members = diff::decode(row.try_get::<&[u8], _>("members")?)?;
        merges::follow(tx, [(&mut members, row.try_get("last_merge")?)]).await?;
        let told: Vec<(DestinationId, String)> = sqlx::query_as(
            "select t.destination_id, coalesce((select mapping_version from deltas d where d.destination_id = t.destination_id
                 order by from_position desc limit 1), '')
             from told t where t.audience_id = $1 order by 1",
        )
        .bind(id)
        .fetch_all(&mut *tx)
        .await?;
        all.push(Told {
            id,
            class: Class::of(row.try_get("class")?),
            version: row.try_get("definition_version")?,
            snapshot: row.try_get("snapshot")?,
            members,
            destinations: told
                .into_iter()
                .map(|(id, mapping_version)| Listener { id, mapping_version, backfill_above: u32::MAX })
                .collect(),
        });
    }
    Ok(all)
}

/// Takes them out of one audience, and tells those who were told otherwise.
async fn leave(tx: &mut PgConnection, audience: &Told, leaving: &RoaringBitmap, t: DateTime<Utc>) -> Result<()> {
    let mut concerned = Vec::new();
    for destination in &audience.destinations {
        let (bytes, last, run): (Vec<u8>, i64, RunId) = sqlx::query_as(
            "select members, last_merge, run_id from told where destination_id = $1 and audience_id = $2",
        )
        .bind(destination.id)
        .bind(audience.id)
        .fetch_one(&mut *tx)
        .await?;
        let mut told = diff::decode(&bytes)?;
        let unsure = match audience.class {
            Class::Audience => merges::follow_told(tx, &mut told, last, run).await?,
            Class::Trait => RoaringBitmap::new(),
        };
        if !(&told | &unsure).is_disjoint(leaving) {
            concerned.push(destination);
        }
    }
    let members = &audience.members - leaving;
    let change = Change::between(&audience.members, &members);
    if concerned.is_empty() && change.is_empty() {
        return Ok(());
    }
    let run = record(tx, audience, &change, members.len(), false, t).await?;
    held::store(tx, audience.id, run, &members).await?;
    for destination in concerned {
        log::leave(tx, destination, audience.of(), run, leaving, &members).await?;
    }
    Ok(())
}

/// The last word on them, wherever they may ever have been told of.
async fn bury(tx: &mut PgConnection, audience: &Told, buried: &RoaringBitmap, t: DateTime<Utc>) -> Result<()> {
    let change = Change { entered: RoaringBitmap::new(), exited: buried.clone() };
    if audience.destinations.is_empty() {
        return Ok(());
    }
    let members = &audience.members - buried;
    // Of the membership nothing changes: they have left it.
    let run = record(tx, audience, &Change::default(), members.len(), true, t).await?;
    for destination in &audience.destinations {
        log::bury(tx, destination, audience.of(), run, &change).await?;
    }
    Ok(())
}

impl Told {
    /// What the log calls it. Leaving waits for no turn, so it has no rate.
    fn of(&self) -> log::Of {
        log::Of { id: self.id, class: self.class, rate_limit: None }
    }
}

async fn record(
    tx: &mut PgConnection,
    audience: &Told,
    change: &Change,
    members: u64,
    tombstone: bool,
    t: DateTime<Utc>,
) -> Result<RunId> {
    Ok(sqlx::query_scalar(
        "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count, exited_count,
                           entered, exited, evaluate_ms, tombstone)
         values ($1, $2, $3, $4, $5, 0, $6, $7, $8, 0, $9) returning id",
    )
    .bind(audience.id)
    .bind(audience.version)
    .bind(t)
    .bind(&audience.snapshot)
    .bind(members.cast_signed())
    .bind(change.exited.len().cast_signed())
    .bind(diff::encode(&change.entered))
    .bind(diff::encode(&change.exited))
    .bind(tombstone)
    .fetch_one(tx)
    .await?)
}
