//! Of whom is nothing taken in? Whoever was forgotten, or asked for it: known by a salted digest of each identifier.
//!
//! A message that carries any suppressed identifier is dropped as a whole: what else it says is theirs too.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::{
    identity::{Key, keys},
    message::Message,
};
use crate::Result;

/// The places of messages that are to be dropped.
pub(super) async fn dropped(connection: &mut PgConnection, messages: &[&Message]) -> Result<HashSet<usize>> {
    let any: bool = sqlx::query_scalar("select exists (select from suppressions)").fetch_one(&mut *connection).await?;
    if !any {
        return Ok(HashSet::new());
    }
    let salt = salt(connection).await?;
    let mut digests: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
    for (place, message) in messages.iter().enumerate() {
        for key in keys(message) {
            digests.entry(digest(&salt, key)).or_default().push(place);
        }
    }
    let asked: Vec<&[u8]> = digests.keys().map(<[u8; 32]>::as_slice).collect();
    let found: Vec<Vec<u8>> = sqlx::query_scalar("select digest from suppressions where digest = any($1)")
        .bind(&asked)
        .fetch_all(connection)
        .await?;
    let places =
        |digest: &Vec<u8>| <[u8; 32]>::try_from(digest.as_slice()).ok().and_then(|digest| digests.get(&digest));
    Ok(found.iter().filter_map(places).flatten().copied().collect())
}

/// Suppresses identifiers; `profile` is who has them.
pub(super) async fn add(connection: &mut PgConnection, keys: &[Key<'_>], profile: Option<i64>) -> Result<()> {
    let salt = salt(connection).await?;
    let digests: Vec<Vec<u8>> = keys.iter().map(|key| digest(&salt, *key).to_vec()).collect();
    sqlx::query(
        "insert into suppressions (digest, profile_id) select digest, $2 from unnest($1::bytea[]) as new (digest)
         on conflict (digest) do update set profile_id = excluded.profile_id",
    )
    .bind(digests)
    .bind(profile)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes identifiers in again; returns how many were suppressed.
pub(super) async fn remove(connection: &mut PgConnection, keys: &[Key<'_>]) -> Result<u64> {
    let salt = salt(connection).await?;
    let digests: Vec<Vec<u8>> = keys.iter().map(|key| digest(&salt, *key).to_vec()).collect();
    let removed =
        sqlx::query("delete from suppressions where digest = any($1)").bind(digests).execute(connection).await?;
    Ok(removed.rows_affected())
}

/// The store's own: digests of two stores cannot be compared.
async fn salt(connection: &mut PgConnection) -> Result<Vec<u8>> {
    Ok(sqlx::query_scalar("select salt from suppression_salt").fetch_one(connection).await?)
}

fn digest(salt: &[u8], (kind, value): Key<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update((kind.len() as u64).to_be_bytes());
    hash.update(kind);
    hash.update(value);
    hash.finalize().into()
}
