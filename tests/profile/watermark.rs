//! Rows since a snapshot: each exactly once, though transactions commit out of order.

use sqlx::{Connection, PgConnection};

use crate::support::postgres::Database;

/// What a reader does: all rows since the snapshot it kept, and the next snapshot to keep, as of one moment.
async fn read_since(reader: &mut PgConnection, snapshot: &mut String) -> Vec<String> {
    let mut moment = reader.begin_with("begin isolation level repeatable read").await.unwrap();
    let rows = sqlx::query_scalar(
        "select message_id from events
         where xid >= pg_snapshot_xmin($1::text::pg_snapshot) and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) order by 1",
    )
    .bind(&*snapshot)
    .fetch_all(&mut *moment)
    .await
    .unwrap();
    *snapshot = sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut *moment).await.unwrap();
    moment.commit().await.unwrap();
    rows
}

#[tokio::test]
async fn a_row_committed_late_is_read_once() {
    let database = Database::fresh().await;
    let insert = "insert into events (profile_id, name_id, occurred_at, message_id) values (1, 1, '2024-01-01', $1)";
    let mut reader = database.pool.acquire().await.unwrap();
    let mut snapshot: String =
        sqlx::query_scalar("select pg_current_snapshot()::text").fetch_one(&mut *reader).await.unwrap();

    let mut late = database.pool.begin().await.unwrap();
    sqlx::query(insert).bind("late").execute(&mut *late).await.unwrap();
    sqlx::query(insert).bind("early").execute(&database.pool).await.unwrap();
    // `late` has the smaller transaction id and is not committed: a reader that kept a maximum would pass it by.
    assert_eq!(read_since(&mut reader, &mut snapshot).await, ["early"]);
    sqlx::query("savepoint s").execute(&mut *late).await.unwrap();
    sqlx::query(insert).bind("late, in a subtransaction").execute(&mut *late).await.unwrap();
    assert!(read_since(&mut reader, &mut snapshot).await.is_empty());
    late.commit().await.unwrap();
    sqlx::query(insert).bind("next").execute(&database.pool).await.unwrap();
    assert_eq!(read_since(&mut reader, &mut snapshot).await, ["late", "late, in a subtransaction", "next"]);
    assert!(read_since(&mut reader, &mut snapshot).await.is_empty());
}
