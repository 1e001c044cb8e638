//! Who is in each audience, as it was last computed? Read with the merges since, so that each person is there once.
//!
//! Must never compute anything.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{diff, merges};
use crate::Result;

/// Every audience's membership as last computed, by key.
///
/// # Errors
/// The database's own, and a stored membership that cannot be read.
pub async fn memberships(tx: &mut PgConnection) -> Result<HashMap<String, RoaringBitmap>> {
    let rows = sqlx::query(
        "select a.key, m.members, r.last_merge from memberships m join audiences a on a.id = m.audience_id
         join runs r on r.id = m.run_id",
    )
    .fetch_all(&mut *tx)
    .await?;
    let decode = |row: &PgRow| Ok((row.try_get("key")?, diff::decode(row.try_get::<&[u8], _>("members")?)?));
    let mut memberships: Vec<(String, RoaringBitmap)> = rows.iter().map(decode).collect::<Result<_>>()?;
    let last: Vec<i64> = rows.iter().map(|row| row.try_get("last_merge")).collect::<Result<_, sqlx::Error>>()?;
    merges::follow(tx, memberships.iter_mut().map(|(_, members)| members).zip(last)).await?;
    Ok(memberships.into_iter().collect())
}
