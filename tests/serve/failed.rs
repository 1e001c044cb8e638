//! Why a run failed is said where people look: in the lists, until a run of the audience succeeds, and for later in its history.

use serde_json::{Value, json};

use super::{Instance, buy, count, told, users};
use crate::{support::kafka::eventually, sync::World};

const AUDIENCES: &str = "
  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 1s}
  - {name: Subscribers, sql: select user_id from subscriptions, schedule: every 1s, guard: off}
";
const MISSING: &str = "the statement fails: there is no such table: `subscriptions`";

/// The row of an audience in a list.
fn of<'v>(list: &'v Value, key: &str) -> &'v Value {
    list.as_array().unwrap().iter().find(|row| row["key"] == key).expect("listed")
}

fn stdout(world: &World, args: &[&str]) -> String {
    let output = world.run(args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_run_that_fails_says_why_in_every_list_until_one_succeeds() {
    let world = World::new(AUDIENCES).await;
    buy(&world, 0..2);
    let mut instance = Instance::start(&world, "one", "");
    let failed = eventually("a second try fails", || {
        let rows = world.json(&["runs", "--failed"]);
        rows.as_array().unwrap().iter().find(|row| row["attempt"] == 2).cloned()
    });
    let why = failed["reason"].as_str().unwrap();
    assert!(why.contains(MISSING), "{failed}");
    assert_eq!(
        (&failed["key"], &failed["state"], &failed["run"]),
        (&json!("subscribers"), &json!("failed"), &Value::Null)
    );
    assert!(failed["took_ms"].as_i64().unwrap() >= 0 && failed["scheduled_for"].is_string(), "{failed}");
    told(&world, &users(0..2));

    let (audiences, status) = (world.json(&["audiences"]), world.json(&["status"]));
    for listed in [of(&audiences, "subscribers"), of(&status["audiences"], "subscribers")] {
        assert!(listed["last_failure"]["reason"].as_str().unwrap().contains(MISSING), "{listed}");
    }
    assert_eq!(of(&audiences, "buyers")["last_failure"], Value::Null);
    for list in [&["audiences"][..], &["status"], &["runs"], &["runs", "--failed"]] {
        let text = stdout(&world, list);
        assert!(text.contains("the statement fails"), "{text}");
    }

    sqlx::raw_sql("create table subscriptions as select 'u1' as user_id").execute(&world.db.pool).await.unwrap();
    eventually("it is computed", || (world.fold().get("subscribers")? == &users(1..2)).then_some(()));
    instance.ends_cleanly();
    let (audiences, status) = (world.json(&["audiences"]), world.json(&["status"]));
    assert_eq!(of(&audiences, "subscribers")["last_failure"], Value::Null, "a run has succeeded since");
    assert_eq!(of(&status["audiences"], "subscribers")["last_failure"], Value::Null);
    assert!(!world.json(&["runs", "--failed"]).as_array().unwrap().is_empty(), "its history stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_is_listed_too_and_only_the_latest_failures_are_kept() {
    let world = World::new(AUDIENCES).await;
    assert!(!world.run(&["sync", "subscribers"]).status.success());
    let rows = world.json(&["runs", "subscribers"]);
    let row = &rows[0];
    assert_eq!((&row["state"], &row["attempt"]), (&json!("failed"), &Value::Null), "{rows}");
    assert!(row["reason"].as_str().unwrap().contains(MISSING), "{rows}");
    assert!(
        of(&world.json(&["audiences"]), "subscribers")["last_failure"]["reason"].as_str().unwrap().contains(MISSING)
    );
    assert!(!world.run(&["sync", "subscribers", "--dry-run"]).status.success());
    assert_eq!(world.json(&["runs"]).as_array().unwrap().len(), 1, "a dry run leaves nothing behind");

    let more = "insert into failed_runs (audience_id, evaluated_at, reason)
                select audience_id, now(), 'again' from failed_runs, generate_series(1, 200)";
    sqlx::raw_sql(more).execute(&world.db.pool).await.unwrap();
    assert!(!world.run(&["sync", "subscribers"]).status.success());
    assert_eq!(count(&world, "select count(*) from failed_runs").await, rollcall::limits::FAILED_RUNS_KEPT);
    let rows = world.json(&["runs", "subscribers", "--failed", "--limit", "1"]);
    assert!(rows[0]["reason"].as_str().unwrap().contains(MISSING), "the latest are kept: {rows}");
}
