//! Who is on the way out, and who is left alone? People who asked to be forgotten, and those who are suppressed.
//!
//! Must never say of somebody that they stay once they asked to leave: forgetting outweighs suppression.

use roaring::RoaringBitmap;
use sqlx::PgConnection;

use crate::Result;

/// Profiles that are no member of anything: they are being forgotten.
///
/// # Errors
/// The database's own.
pub async fn leaving(connection: &mut PgConnection) -> Result<RoaringBitmap> {
    ids(connection, "select profile_id from forgets where state <> 'erased'").await
}

/// The same, and whoever was erased since: of an older answer, who must not be told of any more.
///
/// # Errors
/// The database's own.
pub async fn ever(connection: &mut PgConnection) -> Result<RoaringBitmap> {
    ids(connection, "select distinct profile_id from forgets").await
}

/// Profiles to be erased now: every destination was told.
///
/// # Errors
/// The database's own.
pub async fn told(connection: &mut PgConnection) -> Result<RoaringBitmap> {
    ids(connection, "select profile_id from forgets where state = 'told'").await
}

/// Profiles that stay as they are, told nothing: suppressed, and not to be forgotten.
///
/// # Errors
/// The database's own.
pub async fn suppressed(connection: &mut PgConnection) -> Result<RoaringBitmap> {
    ids(
        connection,
        "select distinct profile_id from suppressions s where profile_id is not null
         and not exists (select from forgets f where f.profile_id = s.profile_id)",
    )
    .await
}

async fn ids(connection: &mut PgConnection, sql: &'static str) -> Result<RoaringBitmap> {
    let ids: Vec<i64> = sqlx::query_scalar(sql).fetch_all(connection).await?;
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}
