//! SQL audiences through the built program: whom a statement yields is told as of any other audience.

use serde_json::{Value, json};

use super::{World, order, users};

const AUDIENCES: &str = "
  - {name: Subscribers, sql: select user_id from subscriptions where active, on_delete: exit}
  - {name: Idle Subscribers, query: \"trait('subscribers') = 'true' AND event('Order Completed').count() = 0\"}
  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}
";

async fn world(audiences: &str) -> World {
    let world = World::new(audiences).await;
    world.import(&[
        order("ann", "1", "2024-05-01T00:00:00Z", 10.0),
        json!({"type": "identify", "userId": "bob", "messageId": "2", "traits": {"plan": "pro"}}),
        json!({"type": "identify", "userId": "7", "messageId": "3"}),
    ]);
    world
}

async fn run(world: &World, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&world.db.pool).await.unwrap();
}

/// The error of each run that failed, by key.
fn failures(world: &World, args: &[&str]) -> Vec<(String, String)> {
    let output = world.command(args).arg("--json").output().unwrap();
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let failed = report["failed"].as_array().unwrap().iter();
    failed.map(|run| (text(&run["name"]), text(&run["error"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_statement_yields_is_told_and_who_refers_to_it_follows() {
    let world = world(AUDIENCES).await;
    run(
        &world,
        "create table subscriptions (user_id text, active boolean);
         insert into subscriptions values ('ann', true), ('bob', true), ('stranger', true), (null, true), ('7', false)",
    )
    .await;
    let preview = world.json(&["preview", "--sql", "select user_id from subscriptions where active;"]);
    assert_eq!(preview["members"], 2, "strangers and null are nobody");
    let dry = world.json(&["sync", "--dry-run"]);
    let of = |run: &&Value| run["key"] == "subscribers";
    assert_eq!(dry["runs"].as_array().unwrap().iter().find(of).unwrap()["members"], 2, "{dry}");

    world.json(&["sync"]);
    let fold = world.fold();
    assert_eq!(fold["subscribers"], users(["ann", "bob"]));
    assert_eq!(fold["idle_subscribers"], users(["bob"]));

    // A whole number is a user id as well.
    world.configure(&AUDIENCES.replace("select user_id from subscriptions where active", "\"values (7), (8)\""));
    let plan = world.json(&["plan"]);
    assert!(plan.to_string().contains("\"values (7), (8)\""), "{plan}");
    world.json(&["sync"]);
    let fold = world.fold();
    assert_eq!((&fold["subscribers"], &fold["idle_subscribers"]), (&users(["7"]), &users(["7"])));

    let why = world.json(&["explain", "subscribers", "7"]);
    assert_eq!((&why["member"], &why["member_at_last_run"]), (&json!(true), &json!(true)));
    assert_eq!(why["reason"]["text"], "the statement yields this user");
    let not = world.json(&["explain", "subscribers", "ann"]);
    assert_eq!((&not["member"], &not["reason"]["holds"]), (&json!(false), &json!(false)));
    let referring = world.json(&["explain", "idle_subscribers", "7"]);
    assert_eq!(referring["member"], true, "{referring}");
    let profile = world.json(&["profile", "7"]);
    assert_eq!(profile["audiences"][1]["why"]["reason"]["text"], "the statement yields this user", "{profile}");
    let past = world.run(&["explain", "subscribers", "7", "--at", "2024-01-01"]);
    assert!(String::from_utf8_lossy(&past.stderr).contains("in now"), "{past:?}");

    // Deleted, its members are told so.
    world.configure("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}");
    assert!(world.run(&["apply", "--yes"]).status.success());
    world.json(&["sync"]);
    assert!(world.fold()["subscribers"].is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_statement_stops_its_own_audience_and_nothing_is_written() {
    let world = world(AUDIENCES).await;
    run(&world, "create table subscriptions (user_id text, active boolean, at timestamptz)").await;
    run(
        &world,
        "create function intrude() returns text language plpgsql as
         $$ begin delete from subscriptions; return 'ann'; end $$;
         create function unlock() returns text language plpgsql as
         $$ begin perform set_config('transaction_read_only', 'off', true); delete from subscriptions; return 'ann'; end $$;
         insert into subscriptions values ('ann', true)",
    )
    .await;
    for (statement, said) in [
        ("select user_id, active from subscriptions", "the statement yields 2 columns, and one is wanted"),
        ("select user_id, user_id from subscriptions", "the statement yields `user_id` twice: as columns 1 and 2"),
        ("select from subscriptions", "the statement yields 0 columns, and one is wanted"),
        ("select active from subscriptions", "the statement yields `active` of the type bool, which is no user id"),
        ("select at from subscriptions", "the statement yields `at` of the type timestamptz, which is no user id"),
        (
            "select user_id from subscribers",
            "the statement fails: there is no such table: `subscribers`, at line 1, column 21 (SQLSTATE 42P01)",
        ),
        ("select user_id from subscriptions; delete from subscriptions", "the statement fails: a syntax error"),
        ("delete from subscriptions returning user_id", "the statement fails: a syntax error"),
        ("select intrude()", "the statement fails: it would write, where nothing may be written"),
        ("select unlock()", "the statement fails: the transaction is in no state for it"),
        ("select (1 / (random() * 0)::int)::text", "the statement fails: a division by zero"),
    ] {
        world
            .configure(&AUDIENCES.replace("select user_id from subscriptions where active", &format!("{statement:?}")));
        let failed = failures(&world, &["sync"]);
        assert_eq!(failed.len(), 2, "{statement}: {failed:?}");
        for (key, error) in &failed {
            match key.as_str() {
                "subscribers" => assert!(error.contains(said), "{statement}: {error}"),
                _ => assert!(error.contains("it refers to the audience `subscribers`, which failed"), "{error}"),
            }
        }
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from subscriptions").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(rows, 1, "nothing was deleted");
    assert_eq!(world.fold().keys().collect::<Vec<_>>(), ["buyers"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_its_digits_a_note_may_follow_and_rows_that_are_nobody_are_counted_by_why() {
    for source in ["", ", source: own"] {
        let numbers = "values (7.00::numeric), (7), (null), (null), (42.50), (12345678901234567890)";
        let world = world("").await;
        world.configure(&format!(
            "  - {{name: Numbers, sql: \"{numbers}; -- those; of May\\n /* 'and' /* June */ */ ;\"{source}}}\nsources: {{own: {{database: {:?}}}}}",
            world.db.url()
        ));
        let passed_over = json!({"null": 2, "repeated": 1, "unknown": 2});
        let synced = world.json(&["sync"]);
        assert_eq!((&synced["runs"][0]["members"], &synced["runs"][0]["passed_over"]), (&json!(1), &passed_over));
        assert_eq!(world.fold()["numbers"], users(["7"]));
        let runs = world.json(&["runs"]);
        assert_eq!(runs[0]["passed_over"], passed_over, "{runs}");
        assert_eq!(world.json(&["explain", "numbers", "7"])["member"], true);
        let mut preview = vec!["preview", "--sql", numbers];
        if !source.is_empty() {
            preview.extend(["--source", "own"]);
        }
        assert_eq!(world.json(&preview)["passed_over"], passed_over);
        for verb in [&preview[..], &["runs"], &["sync"]] {
            let shown = String::from_utf8(world.run(verb).stdout).unwrap();
            assert!(shown.contains("2 null, 1 repeated, 2 of users"), "{verb:?}: {shown}");
        }
    }
    let world = world(AUDIENCES).await;
    let synced = world.json(&["sync", "buyers"]);
    assert!(synced["runs"][0].get("passed_over").is_none(), "it has no statement: {synced}");
}
