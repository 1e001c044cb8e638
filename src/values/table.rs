//! How do conditions read computed traits? From a temporary table, with a row for each profile that has a value. It goes with
//! the transaction.
//!
//! Must never hold more values in memory than those of one chunk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use super::{Column, join, settle::Settled};
use crate::{
    Error, Kind, Result,
    audience::conditions::{self, Formula},
    profile::copy::Rows,
};

/// Its name. `pg_temp` says that no table of somebody's own is meant.
pub(crate) const NAME: &str = "pg_temp.rollcall_computed";

/// Begins a transaction in which formulas are evaluated on one snapshot, and nothing is stored.
pub(crate) async fn begin_read_only<'f>(
    pool: &PgPool,
    formulas: impl IntoIterator<Item = &'f Formula>,
) -> Result<Transaction<'static, Postgres>> {
    let reads = conditions::distinct(formulas).iter().any(|condition| !condition.computed().is_empty());
    // On a standby there can be no such table; the evaluation refuses a standby anyhow.
    if !reads || sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(pool).await? {
        return Ok(pool.begin_with("begin isolation level repeatable read read only").await?);
    }
    // A transaction that is read only may fill a temporary table, and not create it.
    let mut tx = pool.begin_with("begin isolation level repeatable read read write").await?;
    match create(&mut tx).await {
        // The evaluation says so of each audience that it concerns.
        Err(error) if error.kind == Kind::Settings => {}
        created => created?,
    }
    sqlx::raw_sql("set transaction read only").execute(&mut *tx).await?;
    Ok(tx)
}

/// Creates the table, unless this transaction has it.
async fn create(conn: &mut PgConnection) -> Result<()> {
    let (exists, may, database, role): (bool, bool, String, String) = sqlx::query_as(
        "select to_regclass($1) is not null, has_database_privilege(current_database(), 'TEMPORARY'),
                quote_ident(current_database()), quote_ident(current_user)",
    )
    .bind(NAME)
    .fetch_one(&mut *conn)
    .await?;
    if exists {
        return Ok(());
    }
    if !may {
        return Err(Error::settings(format!(
            "the role {role} may not create temporary tables, out of which the values of computed traits are read here"
        ))
        .help(format!("As its owner: grant temporary on database {database} to {role}")));
    }
    sqlx::raw_sql(
        "create temporary table rollcall_computed (profile_id bigint primary key, traits jsonb not null) on commit drop",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Fills the table with the values of these traits: as they were settled, else as they are stored.
///
/// After an error the transaction is as it was before, and goes on.
pub(crate) async fn fill(conn: &mut PgConnection, traits: &BTreeMap<&str, Option<&Settled>>) -> Result<()> {
    sqlx::raw_sql("savepoint computed").execute(&mut *conn).await?;
    let outcome = async {
        create(conn).await?;
        put(conn, traits).await
    };
    let outcome = outcome.await;
    let end = if outcome.is_ok() { "release savepoint computed" } else { "rollback to savepoint computed" };
    let ended = sqlx::raw_sql(end).execute(conn).await;
    outcome?;
    ended?;
    Ok(())
}

async fn put(conn: &mut PgConnection, traits: &BTreeMap<&str, Option<&Settled>>) -> Result<()> {
    let keys: Vec<&str> = traits.keys().copied().collect();
    let stored: Vec<i32> = sqlx::query_scalar(
        "select distinct v.chunk from trait_values v join audiences a on a.id = v.audience_id where a.key = any($1)",
    )
    .bind(&keys)
    .fetch_all(&mut *conn)
    .await?;
    let settled = traits.values().flatten().flat_map(|settled| settled.chunks.keys());
    let chunks: BTreeSet<u16> = stored.into_iter().map(|chunk| chunk as u16).chain(settled.copied()).collect();
    for chunk in chunks {
        let stored: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "select a.key, v.values from trait_values v join audiences a on a.id = v.audience_id
             where a.key = any($1) and v.chunk = $2",
        )
        .bind(&keys)
        .bind(i32::from(chunk))
        .fetch_all(&mut *conn)
        .await?;
        rows(chunk, traits, &stored.into_iter().collect())?.send(conn, COPY).await?;
    }
    // Nobody else does, of a temporary table.
    sqlx::raw_sql("analyze pg_temp.rollcall_computed (profile_id)").execute(conn).await?;
    Ok(())
}

const COPY: &str = "copy pg_temp.rollcall_computed (profile_id, traits) from stdin (format binary)";

/// Of each profile of a chunk that has values an object of them, by the keys under which they are stored.
fn rows(chunk: u16, traits: &BTreeMap<&str, Option<&Settled>>, stored: &HashMap<String, Vec<u8>>) -> Result<Rows> {
    let mut columns = Vec::new();
    for (key, settled) in traits {
        let settled = settled.and_then(|settled| settled.chunks.get(&chunk));
        // Where nobody has a value any more, there are no bytes.
        if let Some(bytes) = settled.or(stored.get(*key)).filter(|bytes| !bytes.is_empty()) {
            columns.push((key, Column::decode(bytes)?));
        }
    }
    let mut rows = Rows::default();
    for at in 0..=u16::MAX {
        let values = columns.iter().filter_map(|(key, column)| Some(format!("\"{key}\":{}", column.get(at)?)));
        let values: Vec<String> = values.collect();
        if !values.is_empty() {
            rows.row(2).bigint(join(chunk, at).into()).jsonb(&format!("{{{}}}", values.join(",")));
        }
    }
    Ok(rows)
}
