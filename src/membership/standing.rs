//! Which audiences is one person in, and since when? From the memberships and the runs that made them.

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use serde::Serialize;
use sqlx::{PgConnection, Row};

use super::{diff, stored};
use crate::{
    Result,
    ids::{ProfileId, RunId},
    profile::merges,
};

/// Runs read at a time when looking for the one by which somebody entered.
const RUNS: i64 = 50;

/// A person and an audience that they are in, as of its last run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub key: String,
    /// When the run was evaluated by which they entered, and which it was; unknown if it is no longer kept.
    pub since: Option<DateTime<Utc>>,
    pub run: Option<RunId>,
}

/// The audiences that a profile is in, by key.
///
/// # Errors
/// The database's own.
pub async fn audiences(conn: &mut PgConnection, profile: ProfileId) -> Result<Vec<String>> {
    // Whoever has a value of a computed trait is a member of it too, but in no audience.
    let traits: Vec<String> =
        sqlx::query_scalar("select key from audiences where class = 'trait'").fetch_all(&mut *conn).await?;
    let memberships = stored::memberships(conn).await?.into_iter();
    let mut keys: Vec<String> = memberships
        .filter(|(key, members)| members.contains(profile.0) && !traits.contains(key))
        .map(|(key, _)| key)
        .collect();
    keys.sort_unstable();
    Ok(keys)
}

/// The same, each with its beginning.
///
/// # Errors
/// The database's own.
pub async fn standings(conn: &mut PgConnection, profile: ProfileId) -> Result<Vec<Standing>> {
    // They may have entered as one that was merged into them since.
    let mut ids: RoaringBitmap = merges::of(conn, profile).await?.iter().map(|merge| merge.from.0).collect();
    ids.insert(profile.0);
    let mut standings = Vec::new();
    for key in audiences(conn, profile).await? {
        let entered = entered(conn, &key, &ids).await?;
        let (run, since) = entered.unzip();
        standings.push(Standing { key, since, run });
    }
    Ok(standings)
}

/// The latest run by which one of these entered.
async fn entered(conn: &mut PgConnection, key: &str, ids: &RoaringBitmap) -> Result<Option<(RunId, DateTime<Utc>)>> {
    let mut before = i64::MAX;
    loop {
        let rows = sqlx::query(
            "select r.id, r.evaluated_at, r.entered from runs r join audiences a on a.id = r.audience_id
             where a.key = $1 and r.id < $2 and r.entered_count > 0 and r.state in ('sealed', 'released')
             order by r.id desc limit $3",
        )
        .bind(key)
        .bind(before)
        .bind(RUNS)
        .fetch_all(&mut *conn)
        .await?;
        for row in &rows {
            before = row.try_get("id")?;
            if !diff::decode(row.try_get::<&[u8], _>("entered")?)?.is_disjoint(ids) {
                return Ok(Some((RunId(before), row.try_get("evaluated_at")?)));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
    }
}
