//! Which numbers of events have a column of their own? Those that the configuration names, for events past and to come.
//!
//! ```text
//!  set: stored, not ready ──► importers fill it ──► partition after partition is filled ──► ready: evaluation reads it
//! ```
//!
//! A promotion is never ready while an event exists whose column was not filled from its path.
//!
//! A table is filled piece by piece, each in a transaction of its own that holds the lock on identities, shared: so no merge, which
//! gives events to others, runs beside it. Neither can wait for the other's rows in a circle, and nobody waits for long.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::people;
use crate::{Error, Result, lease::Leased, limits::PROMOTED_PER_EVENT};

/// Blocks of a table that are filled in one transaction: 16 MiB.
const PIECE_BLOCKS: i64 = 2_048;

/// One number of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Promotion {
    name_id: i32,
    path: Vec<String>,
    slot: i16,
    ready: bool,
}

/// Makes the promotions those of `wanted` (paths by event name), fills their columns for all events stored, and drops the
/// others. `progress` is told each table that is done, of how many. Idempotent; stopped half-way, the next call goes on.
pub async fn promote(
    pool: &PgPool,
    wanted: &BTreeMap<String, Vec<String>>,
    mut progress: impl FnMut(usize, usize),
) -> Result<()> {
    let wanted = parse(wanted)?;
    let mut connection = Leased::open(pool).await?;
    // One at a time, and it ends with the session.
    sqlx::query("select pg_advisory_lock(hashtextextended('rollcall.promoting', 0))").execute(&mut *connection).await?;
    let unready: Vec<Promotion> =
        set(&mut connection, &wanted).await?.into_iter().filter(|promotion| !promotion.ready).collect();
    if !unready.is_empty() {
        let merges = last_merge(&mut connection).await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'events'::regclass order by 1",
        )
        .fetch_all(&mut *connection)
        .await?;
        for (done, table) in tables.iter().enumerate() {
            let mut filled = 0;
            for promotion in &unready {
                filled += fill(&mut connection, table, promotion, merges).await?;
            }
            if filled > 0 {
                sqlx::raw_sql(AssertSqlSafe(format!("vacuum (analyze) {table}"))).execute(&mut *connection).await?;
            }
            progress(done + 1, tables.len());
        }
        for Promotion { name_id, slot, .. } in unready {
            sqlx::query("update promotions set ready = true where name_id = $1 and slot = $2")
                .bind(name_id)
                .bind(slot)
                .execute(&mut *connection)
                .await?;
        }
    }
    connection.close().await;
    Ok(())
}

/// Paths as keys; `\.` is a dot within a key.
fn parse(wanted: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<&str, Vec<Vec<String>>>> {
    let mut parsed = BTreeMap::new();
    for (event, paths) in wanted {
        if paths.len() > PROMOTED_PER_EVENT {
            return Err(Error::settings(format!(
                "`store.promote` names {} properties of `{event}`; the most is {PROMOTED_PER_EVENT}",
                paths.len()
            ))
            .help("Keep those that audiences add up or compare most."));
        }
        let paths = paths.iter().map(|path| keys(path)).collect::<Vec<_>>();
        // `#>` would take a number for a place in an array; audiences do not look there.
        if paths.iter().flatten().any(|key| key.is_empty() || key.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(Error::settings(format!(
                "a path of `{event}` in `store.promote` has an empty key, or one that is a number"
            ))
            .help("Name a property as `revenue`, or one inside an object as `order.total`."));
        }
        parsed.insert(event.as_str(), paths);
    }
    Ok(parsed)
}

fn keys(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut escaped = false;
    for c in path.chars() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            '.' if !escaped => keys.push(String::new()),
            _ => {
                if let Some(key) = keys.last_mut() {
                    key.push(c);
                }
            }
        }
        escaped = false;
    }
    keys
}

/// Changes the rows to what is wanted and returns them all. Afterwards every writer knows of the new ones.
async fn set(connection: &mut PgConnection, wanted: &BTreeMap<&str, Vec<Vec<String>>>) -> Result<Vec<Promotion>> {
    let mut transaction = connection.begin().await?;
    // Waits for every batch that is being written: one that began before would not fill the new columns, and its rows would
    // be missed by whoever filled them before it committed.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('rollcall.promotions', 0))")
        .execute(&mut *transaction)
        .await?;
    let events: Vec<&str> = wanted.keys().copied().collect();
    sqlx::query(
        "insert into event_names (name) select name from unnest($1::text[]) as new (name)
         where not exists (select from event_names e where e.name = new.name) order by name on conflict do nothing",
    )
    .bind(&events)
    .execute(&mut *transaction)
    .await?;
    let ids: BTreeMap<i32, &Vec<Vec<String>>> =
        sqlx::query_as::<_, (i32, String)>("select id, name from event_names where name = any($1)")
            .bind(&events)
            .fetch_all(&mut *transaction)
            .await?
            .into_iter()
            .filter_map(|(id, name)| Some((id, wanted.get(name.as_str())?)))
            .collect();
    let rows: Vec<(i32, Vec<String>, i16, bool)> =
        sqlx::query_as("select name_id, path, slot, ready from promotions").fetch_all(&mut *transaction).await?;
    let mut kept = Vec::new();
    for (name_id, path, slot, ready) in rows {
        if ids.get(&name_id).is_some_and(|paths| paths.contains(&path)) {
            kept.push(Promotion { name_id, path, slot, ready });
        } else {
            sqlx::query("delete from promotions where name_id = $1 and slot = $2")
                .bind(name_id)
                .bind(slot)
                .execute(&mut *transaction)
                .await?;
        }
    }
    for (name_id, paths) in ids {
        for path in paths {
            let taken = |slot: i16| kept.iter().any(|kept| kept.name_id == name_id && kept.slot == slot);
            let is_kept = kept.iter().any(|kept| kept.name_id == name_id && kept.path == *path);
            let Some(slot) = [1, 2].into_iter().find(|slot| !taken(*slot)).filter(|_| !is_kept) else { continue };
            sqlx::query("insert into promotions (name_id, path, slot, ready) values ($1, $2, $3, false)")
                .bind(name_id)
                .bind(path)
                .bind(slot)
                .execute(&mut *transaction)
                .await?;
            kept.push(Promotion { name_id, path: path.clone(), slot, ready: false });
        }
    }
    transaction.commit().await?;
    Ok(kept)
}

/// The last merge of profiles, when none is under way.
async fn last_merge(connection: &mut PgConnection) -> Result<i64> {
    let mut transaction = connection.begin().await?;
    people::lock_shared(&mut transaction).await?;
    let last = sqlx::query_scalar("select rollcall_last_merge()").fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(last)
}

/// Fills one column in one table, where it is not right yet; also what an earlier promotion left in it. The rows keep their
/// xid: nothing about the events has changed. `merges` is the last merge before any of it was filled.
async fn fill(connection: &mut PgConnection, table: &str, promotion: &Promotion, merges: i64) -> Result<u64> {
    // What is written from now on is filled by its writer, wherever it comes to stand.
    let blocks: i64 = sqlx::query_scalar(
        "select coalesce(pg_relation_size(to_regclass($1)), 0) / current_setting('block_size')::bigint",
    )
    .bind(table)
    .fetch_one(&mut *connection)
    .await?;
    let mut filled = 0;
    for first in (0..blocks).step_by(PIECE_BLOCKS as usize) {
        let piece = format!("ctid >= '({first},0)' and ctid < '({},0)'", first + PIECE_BLOCKS);
        filled += fill_where(connection, table, promotion, &piece).await?;
    }
    // A merge writes its events anew, perhaps behind the place that was reached: those of whoever took somebody in meanwhile.
    let moved = format!("profile_id in (select into_id from merges where id > {merges})");
    Ok(filled + fill_where(connection, table, promotion, &moved).await?)
}

async fn fill_where(connection: &mut PgConnection, table: &str, promotion: &Promotion, condition: &str) -> Result<u64> {
    let value = "case jsonb_typeof(properties #> $2) when 'number' then (properties #> $2)::numeric
                 when 'string' then rollcall_number(properties #>> $2) end";
    // `table` comes from the catalog, quoted by it; `slot` is 1 or 2; `condition` is made of numbers.
    let column = format!("number_{}", promotion.slot);
    let statement = format!(
        "update {table} set {column} = {value} where name_id = $1 and {condition} and {column} is distinct from ({value})"
    );
    let mut transaction = connection.begin().await?;
    people::lock_shared(&mut transaction).await?;
    let done = sqlx::query(AssertSqlSafe(statement))
        .bind(promotion.name_id)
        .bind(&promotion.path)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(done.rows_affected())
}
