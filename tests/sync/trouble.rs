//! What goes wrong stops only itself, is said clearly, and loses nothing.

use serde_json::{Value, json};

use super::{RECENT, World, fold, order, users};
use crate::support::{
    faults::{Way, points},
    kafka,
};

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_definition_stops_itself_and_what_refers_to_it_and_nothing_else() {
    let audiences = format!(
        "{RECENT}
  - {{name: Broken, query: \"event('Order Completed').cuont() >= 1\"}}
  - {{name: Dependant, query: \"NOT trait('broken') = 'true'\"}}
"
    );
    let world = World::new(&audiences).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    let output = world.run(&["sync", "--at", "2024-05-02"]);
    assert_eq!(output.status.code(), Some(3), "the exit code of a wrong definition");
    let said = stderr(&output);
    assert!(said.contains("count"), "the nearest name is proposed: {said}");
    assert!(said.contains("'broken'") && said.contains("'dependant'"), "{said}");
    let fold = world.fold();
    assert_eq!(fold["order_completed_last_30days"], users(["ann"]), "everyone else is served");
    assert_eq!(fold.len(), 1, "nothing was told on a guess");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_property_is_nobody_and_no_error() {
    let world = World::new("  - {name: Odd, query: \"event('Order Completed').sum(property('no.such')) > 1\"}").await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    assert_eq!(world.json(&["sync", "--at", "2024-05-02"])["runs"][0]["members"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_profiles_are_told_or_put_aside_and_their_neighbours_are_told() {
    let audience = "  - {name: All, query: \"trait('n').exists()\", include_traits: [blob, odd]}";
    let world = World::new(audience).await;
    let mut nested = json!(1);
    (0..60).for_each(|_| nested = json!([nested]));
    let identify = |user: &str, traits: Value| {
        json!({"type": "identify", "userId": user, "messageId": format!("m-{user}"), "timestamp": "2024-05-01T00:00:00Z",
               "traits": traits})
    };
    world.import(&[
        identify("plain", json!({"n": 1})),
        identify("\u{202e}odd\u{fffd}😀\"\\\u{7f}", json!({"n": 1, "odd": "\u{2028}\u{1}"})),
        identify("deep", json!({"n": 1, "odd": nested})),
        identify("big", json!({"n": 1, "blob": "x".repeat(25_000)})),
    ]);
    let run = world.json(&["sync", "--at", "2024-05-02"]);
    let told = world.told();
    let quarantined = run["deliveries"][0]["told"]["quarantined"].as_u64().unwrap();
    assert_eq!(run["runs"][0]["members"].as_u64().unwrap(), told.len() as u64 + quarantined);
    assert!(world.fold()["all"].contains("plain"));
    assert!(world.fold()["all"].contains("\u{202e}odd\u{fffd}😀\"\\\u{7f}"));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_told_everything_when_it_is_back() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    world.configure_with(RECENT, "127.0.0.1:1", &world.topic, "");
    let output = world.run(&["sync", "--at", "2024-05-02"]);
    assert_eq!(output.status.code(), Some(5), "wait, and try again: {}", stderr(&output));
    assert!(stderr(&output).contains("kafka"), "it says which destination: {}", stderr(&output));

    world.configure(RECENT);
    let status = &world.json(&["status"])["destinations"];
    assert_eq!(status[0]["end"], 1, "it was sealed all the same");
    world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann"]));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_nothing_was_ever_sealed_for_is_no_failure() {
    let world = World::new(&RECENT.replace("query:", "destinations: []\n    query:")).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    let report = world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!((&report["runs"][0]["members"], &report["deliveries"]), (&json!(1), &json!([])));
    assert!(world.told().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named_and_the_other_destination_is_served() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    let lost = kafka::unique("never-created");
    let more = format!(
        "  lost:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}\n    cursor_topic: {lost}.cursors\n    \
         mappings:\n      - {{name: all, mapping: {{topic: {lost}, payload: {{\"@path\": $.}}}}}}\n",
        kafka::broker()
    );
    world.configure_with(RECENT, kafka::broker(), &world.topic, &more);
    let output = world.run(&["sync", "--at", "2024-05-02"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains(&lost), "the topic is named: {}", stderr(&output));
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_said_at_once_with_the_code_to_wait() {
    let world = World::new(RECENT).await;
    let output = world.command(&["sync"]).env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
}

/// The database ends the program's connections in the middle of a seal: nothing of it is left, and the next run does it all.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_in_mid_run_loses_nothing() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    // The run waits for this lock once it has evaluated; then its connection is cut.
    let mut blocker = world.db.pool.begin().await.unwrap();
    sqlx::query("lock table runs in access exclusive mode").execute(&mut *blocker).await.unwrap();
    let child = world.command(&["sync", "--at", "2024-05-02"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let cut: i64 = sqlx::query_scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and wait_event_type = 'Lock'",
        )
        .fetch_one(&world.db.pool)
        .await
        .unwrap();
        if cut > 0 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the run never came to the lock");
        tokio::task::yield_now().await;
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    blocker.rollback().await.unwrap();

    let runs = world.json(&["runs"]);
    assert!(runs.as_array().unwrap().iter().all(|run| run["state"] == "failed"), "{runs}");
    world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann"]));
    world.verified();
}

/// The program is killed between every two steps of a sync, and started again: each change is told once.
#[tokio::test(flavor = "multi_thread")]
async fn a_sync_killed_between_any_two_steps_is_made_good_by_the_next() {
    let world = World::new(RECENT).await;
    for (day, point) in points(Way::Sync).into_iter().enumerate() {
        // Each round one more enters, and one who entered a month ago leaves.
        let at = chrono::NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(10 * day as u64);
        world.import(&[order(&format!("u{day}"), &format!("m{day}"), &format!("{at}T00:00:00Z"), 1.0)]);
        let at = format!("{at}T01:00:00Z");
        let killed = world.command(&["sync", "--at", &at]).env("ROLLCALL_FAULT", format!("{point}:abort")).output();
        assert!(!killed.unwrap().status.success(), "{point} was never reached");
        world.leases_end().await;
        world.json(&["sync", "--at", &at]);
        let members: std::collections::BTreeSet<String> =
            (day.saturating_sub(2)..=day).map(|n| format!("u{n}")).collect();
        // `fold` fails on a change that is told twice.
        assert_eq!(world.fold()["order_completed_last_30days"], members, "after {point}");
    }
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_whose_topic_was_emptied_halts_until_a_person_decides() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-05-02"]);
    kafka::delete_topic(kafka::broker(), &world.topic);
    kafka::create_topic(kafka::broker(), &world.topic, 3, &[]);
    world.import(&[order("bob", "2", "2024-05-02T00:00:00Z", 10.0)]);
    let output = world.run(&["sync", "--at", "2024-05-03"]);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("topic_recreated"), "{}", stderr(&output));
    assert_eq!(world.json(&["status"])["destinations"][0]["state"], "halted");
    assert!(world.told().is_empty(), "nothing is sent on a guess");

    assert!(world.run(&["unhalt", "kafka", "--start-over"]).status.success());
    world.json(&["sync", "--at", "2024-05-03"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann", "bob"]));
    assert_eq!(world.json(&["status"])["destinations"][0]["state"], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_destination_does_not_hold_up_another() {
    let world = World::new(RECENT).await;
    let other = kafka::topic(kafka::broker(), "other", 1);
    let more = format!(
        "  other:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}\n    cursor_topic: {other}.cursors\n    \
         mappings:\n      - {{name: all, mapping: {{topic: {other}, key: {{\"@path\": $.userId}}, payload: {{\"@path\": $.}}}}}}\n",
        kafka::broker()
    );
    world.configure_with(RECENT, kafka::broker(), &world.topic, &more);
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-05-02"]);
    kafka::delete_topic(kafka::broker(), &world.topic);
    kafka::create_topic(kafka::broker(), &world.topic, 3, &[]);
    // It halts, and stays halted; each time the other one is told what is new.
    for (user, id, at) in [("bob", "2", "2024-05-03"), ("eve", "3", "2024-05-04")] {
        world.import(&[order(user, id, "2024-05-02T00:00:00Z", 10.0)]);
        let output = world.run(&["sync", "--at", at]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert!(stderr(&output).contains("destination 'kafka'"), "{}", stderr(&output));
        let told = fold(&kafka::read_committed(kafka::broker(), &other));
        assert!(told["order_completed_last_30days"].contains(user), "{told:?}");
        assert!(world.told().is_empty(), "nothing is sent on a guess");
    }
    let states = &world.json(&["status"])["destinations"];
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&json!("halted"), &json!("live")));
}
