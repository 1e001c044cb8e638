//! Numbers with a column of their own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rollcall::profile::promote::promote;
use serde_json::json;
use sqlx::PgPool;

use super::{count, import, lines, track};
use crate::support::postgres::Database;

const VALUES: [&str; 24] = [
    "1",
    "-1",
    "0",
    "-0",
    "0.00",
    "12.5",
    "1e3",
    "1E-3",
    "123456789.987654321",
    "10000",
    "99990000",
    "0.0001",
    "0.00001",
    "-1e-300",
    "1e300",
    "\"7\"",
    "\"+.5\"",
    "\"5.\"",
    "\"1e999\"",
    "\" 7\"",
    "\"7\\n\"",
    "\"\"",
    "null",
    "[1]",
];

async fn numbers(pool: &PgPool, column: &'static str) -> Vec<(String, Option<String>)> {
    let sql = match column {
        "number_1" => "select message_id, number_1::text from events order by 1",
        "number_2" => "select message_id, number_2::text from events order by 1",
        // What evaluation reads where nothing is promoted.
        _ => "select message_id, (case jsonb_typeof(v) when 'number' then v::numeric when 'string' then rollcall_number(v #>> '{}') end)::text
              from events, jsonb_extract_path(properties, 'order', 'total') as v order by 1",
    };
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

fn messages(prefix: &str) -> String {
    let total = |n: usize| serde_json::from_str::<serde_json::Value>(VALUES[n]).unwrap();
    // As text, so that numbers stay as written.
    (0..VALUES.len())
        .map(|n| {
            let message = track(
                &format!("{prefix}{n:02}"),
                "u",
                "Paid",
                "2024-01-01",
                json!({"order": {"total": "HERE"}, "n": n}),
            )
            .to_string();
            let _ = total(n);
            message.replace("\"HERE\"", VALUES[n]) + "\n"
        })
        .collect()
}

fn wanted(paths: &[&str]) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([("Paid".to_owned(), paths.iter().map(|path| (*path).to_owned()).collect())])
}

#[tokio::test]
async fn a_promoted_number_is_the_one_in_the_json_whether_filled_before_or_after() {
    let database = Database::fresh().await;
    import(&database.pool, &messages("before")).await;
    promote(&database.pool, &wanted(&["order.total"]), |_, _| ()).await.unwrap();
    import(&database.pool, &messages("written")).await;
    let promoted = numbers(&database.pool, "number_1").await;
    assert_eq!(promoted, numbers(&database.pool, "properties").await);
    assert_eq!(promoted.iter().filter(|(_, number)| number.is_some()).count(), 2 * 19);
    assert_eq!(count(&database.pool, "select count(*) from promotions where ready").await, 1);
}

#[tokio::test]
async fn another_promotion_overwrites_what_the_dropped_one_left() {
    let database = Database::fresh().await;
    import(&database.pool, &messages("m")).await;
    promote(&database.pool, &wanted(&["order.total"]), |_, _| ()).await.unwrap();
    promote(&database.pool, &wanted(&["n"]), |_, _| ()).await.unwrap();
    assert_eq!(count(&database.pool, "select sum(number_1)::bigint from events").await, (0..24).sum::<i64>());
    promote(&database.pool, &wanted(&["n", "order.total"]), |_, _| ()).await.unwrap();
    assert_eq!(numbers(&database.pool, "number_2").await, numbers(&database.pool, "properties").await);
    promote(&database.pool, &BTreeMap::new(), |_, _| ()).await.unwrap();
    assert_eq!(count(&database.pool, "select count(*) from promotions").await, 0);
    assert!(promote(&database.pool, &wanted(&["a", "b", "c"]), |_, _| ()).await.is_err());
    assert!(promote(&database.pool, &wanted(&["items.0"]), |_, _| ()).await.is_err());
}

#[tokio::test]
async fn an_event_being_written_while_its_number_is_promoted_has_it_too() {
    let database = Database::fresh().await;
    // Holds the import up after it has read which numbers are promoted: it waits for the same message id.
    let mut holder = database.pool.begin().await.unwrap();
    sqlx::query("insert into messages values (encode(substring(sha256('m') for 16), 'hex')::uuid)")
        .execute(&mut *holder)
        .await
        .unwrap();
    let pool = database.pool.clone();
    let importing =
        tokio::spawn(
            async move { import(&pool, &lines(&[track("m", "u", "Paid", "2024-01-01", json!({"n": 7}))])).await },
        );
    wait_for(&database.pool, 1).await;
    let pool = database.pool.clone();
    let promoting = tokio::spawn(async move { promote(&pool, &wanted(&["n"]), |_, _| ()).await });
    let promoted = async {
        while !promoting.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    // It waits for the import; without its lock it would be through by now.
    tokio::select! { () = wait_for(&database.pool, 2) => {}, () = promoted => {} }
    holder.rollback().await.unwrap();
    assert_eq!(importing.await.unwrap().0.accepted, 1);
    promoting.await.unwrap().unwrap();
    assert_eq!(count(&database.pool, "select sum(number_1)::bigint from events").await, 7);
}

/// Waits until as many wait for a lock; fails if they never do.
async fn wait_for(pool: &PgPool, least: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    while count(pool, waits).await < least {
        assert!(Instant::now() < deadline, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn numbers_are_promoted_while_profiles_merge_and_neither_waits_for_the_other_in_a_circle() {
    let database = Database::fresh().await;
    let visit = |id: &str, device: &str, at: &str| json!({"type": "track", "event": "Paid", "anonymousId": device, "messageId": id, "timestamp": at, "properties": {"n": 1}});
    // Of the visitor's two events the one that stands later in the table is the earlier, where a merge takes it first.
    import(&database.pool, &lines(&[track("0", "ann", "Other", "2024-01-01", json!({}))])).await;
    for event in [visit("1", "a1", "2024-01-03"), visit("2", "a2", "2024-01-02"), visit("3", "a1", "2024-01-01")] {
        import(&database.pool, &lines(&[event])).await;
    }
    // Holds the filling up between the two.
    let mut holder = database.pool.begin().await.unwrap();
    sqlx::query("select from events where message_id = '2' for update").execute(&mut *holder).await.unwrap();
    let pool = database.pool.clone();
    let promoting = tokio::spawn(async move { promote(&pool, &wanted(&["n"]), |_, _| ()).await });
    wait_for(&database.pool, 1).await;
    let pool = database.pool.clone();
    let login =
        json!({"type": "identify", "userId": "ann", "anonymousId": "a1", "messageId": "4", "timestamp": "2024-01-04"});
    let merging = tokio::spawn(async move { import(&pool, &lines(&[login])).await });
    wait_for(&database.pool, 2).await;
    // The merge waits before it has locked any row; else it depends on the plan whether it gets to the later one first.
    let before_any_row = "select count(*) from pg_locks where locktype = 'advisory' and not granted
                          and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(count(&database.pool, before_any_row).await, 1);
    holder.rollback().await.unwrap();
    promoting.await.unwrap().unwrap();
    assert_eq!(merging.await.unwrap().0.accepted, 1);
    assert_eq!(count(&database.pool, "select count(*) from merges").await, 1);
    assert_eq!(count(&database.pool, "select sum(number_1)::bigint from events").await, 3);
    let retried = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(count(&database.pool, retried).await, 0);
}
