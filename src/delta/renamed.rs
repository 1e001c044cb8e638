//! Who is told under another identifier than before? A visitor who was told by anonymousId, say, and has become known since.
//!
//! What was told stays with the identifier under which it was told. So when a member gets another one under which people are told, he
//! is told again, once, under that one: `true`, or his value. The peer does the same. The log's entry says since when, and delivery
//! takes those identifiers alone that came since.
//!
//! A merge is none of this: its identifiers are no newer for having moved, and what was told moves along (`merges`). Nor is it a change:
//! no count of a run and no guard knows of it.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use sqlx::PgConnection;

use crate::{
    Result,
    ids::RunId,
    membership::{diff::Change, merges},
};

/// Identifiers `i` that came after the snapshot `$1`. One from beyond the present is of another cluster, whose dump was restored
/// here: it says nothing.
const CAME: &str =
    "i.xid >= pg_snapshot_xmin($1::text::pg_snapshot) and not pg_visible_in_snapshot(i.xid, $1::text::pg_snapshot)
    and pg_visible_in_snapshot(i.xid, (select pg_current_snapshot()))";

/// Who got identifiers since a moment, as the transaction's snapshot sees it. Read once for all audiences that were last told as of
/// the same moment.
#[derive(Debug, Default)]
pub(crate) struct Came(HashMap<String, RoaringBitmap>);

impl Came {
    async fn since(&mut self, tx: &mut PgConnection, moment: &str) -> Result<&RoaringBitmap> {
        if !self.0.contains_key(moment) {
            let sql = format!("select distinct i.profile_id from identifiers i where {CAME}");
            let ids: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(moment).fetch_all(tx).await?;
            let ids = ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect();
            self.0.insert(moment.to_owned(), ids);
        }
        Ok(&self.0[moment])
    }
}

/// Those who are told again, and since when their identifiers must have come.
#[derive(Debug, Default)]
pub(crate) struct Renamed {
    pub change: Change,
    pub since: String,
}

/// Which of `told`, who are members and were told so as of the snapshot `since`, are told of `run` by an identifier that came after it.
///
/// # Errors
/// The database's own.
pub(crate) async fn after(
    tx: &mut PgConnection,
    came: &mut Came,
    since: String,
    run: RunId,
    told: &RoaringBitmap,
) -> Result<Renamed> {
    let mut ids = if told.is_empty() { RoaringBitmap::new() } else { told & came.since(tx, &since).await? };
    if !ids.is_empty() {
        let options = merges::options(tx, run).await?;
        // One of several is found out by delivery, which knows them all.
        if options.id_sync.is_empty() {
            ids = named(tx, &since, &ids, &options.counting_types()).await?;
        }
    }
    Ok(Renamed { change: Change { entered: ids, exited: RoaringBitmap::new() }, since })
}

/// Those who are told by an identifier that came since: the latest `user_id`, or where there is none the latest `anonymous_id`.
async fn named(tx: &mut PgConnection, since: &str, ids: &RoaringBitmap, types: &[&str]) -> Result<RoaringBitmap> {
    let sql = format!(
        "select i.profile_id from identifiers i where i.profile_id = any($2) and i.type = any($3) and {CAME} and not exists (
             select from identifiers other where other.profile_id = i.profile_id
             and (other.type = i.type and (other.added_at, other.value) > (i.added_at, i.value)
                  or other.type = 'user_id' and i.type <> 'user_id'))"
    );
    let found: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(since)
        .bind(ids.iter().map(i64::from).collect::<Vec<_>>())
        .bind(types)
        .fetch_all(tx)
        .await?;
    Ok(found.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}
