//! Which events and message ids are too old to keep? Whole months go as tables, what has no month of its own in pieces.
//!
//! It never asks who needs them: `retention` has decided. Nothing here blocks a reader or writer for longer than a moment.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::partition::{self, Month};
use crate::Result;

/// How long to wait for whoever reads a table before letting it be until next time; meanwhile others wait behind us.
const PATIENCE: &str = "2s";
/// Rows deleted in one transaction.
const PIECE: i64 = 20_000;

/// A table, and what of it went, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub table: String,
    /// Of a whole table as Postgres estimates them.
    pub rows: i64,
    /// That the system gets back; what was in pieces of a table is used again by it.
    pub bytes: i64,
    /// Whether it was in use, so that it is still there.
    pub in_use: bool,
}

/// Drops the events that occurred before `before`: whole months, and what is in the default partition.
///
/// # Errors
/// The database's own; what went stays gone, and the next call goes on.
pub async fn events(connection: &mut PgConnection, before: DateTime<Utc>, dry_run: bool) -> Result<Vec<Dropped>> {
    let mut dropped = Vec::new();
    for month in partition::existing(connection).await? {
        if month.ends_by(before) {
            dropped.push(drop_month(connection, month, dry_run).await?);
        }
    }
    let rows = match dry_run {
        true => {
            let count = sqlx::query_scalar("select count(*) from events_default where occurred_at < $1");
            count.bind(before).fetch_one(connection).await?
        }
        false => {
            let sql = "delete from events_default where ctid = any (array(
                           select ctid from events_default where occurred_at < $1 limit $2))";
            in_pieces(connection, sql, before).await?
        }
    };
    dropped.extend((rows > 0).then(|| Dropped { table: "events_default".into(), rows, bytes: 0, in_use: false }));
    Ok(dropped)
}

async fn drop_month(connection: &mut PgConnection, month: Month, dry_run: bool) -> Result<Dropped> {
    // The name is made of digits.
    let table = month.table();
    let (rows, bytes): (i64, i64) = sqlx::query_as(
        "select greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) from pg_class where oid = $1::regclass",
    )
    .bind(&table)
    .fetch_one(&mut *connection)
    .await?;
    let mut dropped = Dropped { table, rows, bytes, in_use: false };
    if dry_run {
        return Ok(dropped);
    }
    // Detaching without a lock on the parent is not to be had: Postgres refuses it where there is a default partition. So
    // the lock is asked for briefly; it is held for the moment that it takes to forget a table.
    let statement = format!("set local lock_timeout = '{PATIENCE}'; drop table {}", dropped.table);
    match sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await {
        Ok(_) => {}
        Err(error) if error.as_database_error().and_then(|error| error.code()).as_deref() == Some("55P03") => {
            dropped.in_use = true;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(dropped)
}

/// Forgets the ids of messages that came before `before`: should one come again, it counts again.
///
/// # Errors
/// The database's own; what went stays gone, and the next call goes on.
pub async fn message_ids(
    connection: &mut PgConnection,
    before: DateTime<Utc>,
    dry_run: bool,
) -> Result<Option<Dropped>> {
    let rows = match dry_run {
        true => {
            let count = sqlx::query_scalar("select count(*) from messages where came_on < $1::date");
            count.bind(before).fetch_one(connection).await?
        }
        false => {
            let sql = "delete from messages where ctid = any (array(
                           select ctid from messages where came_on < $1::date limit $2))";
            in_pieces(connection, sql, before).await?
        }
    };
    Ok((rows > 0).then(|| Dropped { table: "messages".into(), rows, bytes: 0, in_use: false }))
}

/// Deletes until nothing is left, each piece in a transaction of its own: nobody waits long for a row.
async fn in_pieces(connection: &mut PgConnection, sql: &'static str, before: DateTime<Utc>) -> Result<i64> {
    let mut rows = 0;
    loop {
        let deleted = sqlx::query(sql).bind(before).bind(PIECE).execute(&mut *connection).await?.rows_affected();
        rows += deleted as i64;
        if deleted == 0 {
            return Ok(rows);
        }
    }
}
