//! Which profiles are no more, and who are they now? The id graph's log, read by whoever keeps something per profile.
//!
//! A merge is final: no profile id is ever given again. Merges are numbered in the order of their commits, so what was
//! brought up to date with merge n needs only those after n.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{Error, Result, ids::ProfileId};

/// A profile that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Its place in the order of commits, from 1.
    pub id: i64,
    pub from: ProfileId,
    /// Who it is now; nobody, if it was forgotten.
    pub into: Option<ProfileId>,
    pub merged_at: DateTime<Utc>,
    /// `shared_identifier`, `alias` or `forgotten`.
    pub reason: String,
    /// The identifier types that it had before.
    pub from_types: HashSet<String>,
    /// Those that the surviving one had before.
    pub into_types: HashSet<String>,
}

/// The merges after the one with that id, in their order, as the transaction's snapshot sees them.
///
/// # Errors
/// The database's own.
pub async fn after(conn: &mut PgConnection, id: i64) -> Result<Vec<Merge>> {
    let rows = sqlx::query("select * from merges where id > $1 order by id").bind(id).fetch_all(conn).await?;
    rows.iter().map(merge).collect()
}

/// Those after the one with that id that have to do with any of `profiles`, directly or through others, in their order.
///
/// # Errors
/// The database's own.
pub async fn concerning(conn: &mut PgConnection, id: i64, profiles: &[i64]) -> Result<Vec<Merge>> {
    // Nearly always there is none, and then nothing is looked up profile by profile.
    let any: bool =
        sqlx::query_scalar("select exists (select from merges where id > $1)").bind(id).fetch_one(&mut *conn).await?;
    if !any {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "with recursive known (id) as (
             select * from unnest($2::bigint[])
             union select m.into_id from known k join merges m on m.from_id = k.id where m.id > $1)
         select * from merges m where m.id > $1
             and (m.from_id in (select k.id from known k) or m.into_id in (select k.id from known k)) order by m.id",
    )
    .bind(id)
    .bind(profiles)
    .fetch_all(conn)
    .await?;
    rows.iter().map(merge).collect()
}

/// The profiles that were merged into this one, directly or through others; oldest first.
///
/// # Errors
/// The database's own.
pub async fn of(conn: &mut PgConnection, profile: ProfileId) -> Result<Vec<Merge>> {
    let rows = sqlx::query(
        "with recursive parts as (
             select * from merges where into_id = $1 union all select m.* from merges m join parts p on m.into_id = p.from_id)
         select * from parts order by id",
    )
    .bind(i64::from(profile.0))
    .fetch_all(conn)
    .await?;
    rows.iter().map(merge).collect()
}

/// Who those of `profiles` that were merged away are now, by their old ids. Forgotten ones are nobody, and not among them.
///
/// # Errors
/// The database's own.
pub async fn survivors(conn: &mut PgConnection, profiles: &[i64]) -> Result<HashMap<ProfileId, ProfileId>> {
    let rows: Vec<(i64, Option<i64>)> = sqlx::query_as(
        "with recursive step as (
             select from_id, into_id from merges where from_id = any($1)
             union all
             select s.from_id, m.into_id from step s join merges m on m.from_id = s.into_id)
         select from_id, into_id from step s where not exists (select from merges m where m.from_id = s.into_id)",
    )
    .bind(profiles)
    .fetch_all(conn)
    .await?;
    let mut survivors = HashMap::with_capacity(rows.len());
    for (from, into) in rows {
        if let Some(into) = into {
            survivors.insert(profile_id(from)?, profile_id(into)?);
        }
    }
    Ok(survivors)
}

fn merge(row: &PgRow) -> Result<Merge> {
    let types = |name: &str| Ok::<_, Error>(row.try_get::<Vec<String>, _>(name)?.into_iter().collect());
    Ok(Merge {
        id: row.try_get("id")?,
        from: profile_id(row.try_get("from_id")?)?,
        into: row.try_get::<Option<i64>, _>("into_id")?.map(profile_id).transpose()?,
        merged_at: row.try_get("merged_at")?,
        reason: row.try_get("reason")?,
        from_types: types("from_types")?,
        into_types: types("into_types")?,
    })
}

fn profile_id(id: i64) -> Result<ProfileId> {
    u32::try_from(id).map(ProfileId).map_err(|error| Error::halted("a profile id is out of range").because(error))
}
