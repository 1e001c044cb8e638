//! A COMMIT that Postgres carried out and of which nobody heard (row 20): never sealed twice, never stored twice, never lost. And an
//! end that is asked for while a broker or a database stalls (row 14).

use std::{fs, process::Output};

use rollcall::{clock::Clock, http::tracking::Tracking};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::{
        http,
        kafka::{self, eventually},
        postgres::Database,
        proxy,
    },
    sync::World,
};

async fn count(db: &Database, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&db.pool).await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_a_seal_of_a_sync_that_was_committed_unheard_is_told_by_the_next_one_and_not_sealed_again() {
    let world = World::new("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}").await;
    let (proxy, url) = proxy::postgres::proxy(&world.db);
    buy(&world, 0..20);
    let reply = proxy.lose_reply(&["COMMIT", "insert into runs"], 1);
    let output = world.command(&["sync"]).env("DATABASE_URL", &url).output().unwrap();
    reply.wait();
    assert!(!output.status.success(), "it cannot know: {}", text(&output));
    assert_eq!(count(&world.db, "select count(*) from runs where entered_count = 20").await, 1, "Postgres had acted");
    let output = world.command(&["sync"]).env("DATABASE_URL", &url).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    // `fold` fails on a change that is told twice.
    assert_eq!(world.fold()["buyers"], users(0..20));
    assert_eq!(count(&world.db, "select sum(entered_count)::bigint from runs").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_a_scheduled_seal_that_was_committed_unheard_is_told_and_not_sealed_again() {
    let world = World::new(BUYERS).await;
    let (proxy, url) = proxy::postgres::proxy(&world.db);
    buy(&world, 0..20);
    let reply = proxy.lose_reply(&["COMMIT", "insert into runs"], 1);
    let mut command = world.command(&["serve", "-v", "--color", "never"]);
    command.env("DATABASE_URL", url);
    let mut instance = Instance::run(&world, "one", command);
    reply.wait();
    told(&world, &users(0..20));
    buy(&world, 20..25);
    told(&world, &users(0..25));
    instance.ends_cleanly();
    let twice = "select count(*) from (select from runs group by audience_id, scheduled_for having count(*) > 1) twice";
    assert_eq!(count(&world.db, twice).await, 0, "each tick is sealed once");
    assert_eq!(count(&world.db, "select sum(entered_count)::bigint from runs").await, 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_a_request_whose_commit_was_unheard_is_not_said_to_be_stored_before_it_is_and_is_stored_once() {
    let db = Database::fresh().await;
    let (proxy, url) = proxy::postgres::proxy(&db);
    let config = crate::tracking::configured("write_keys: [{name: web, key: write-key-of-web}]");
    let pool = PgPool::connect(&url).await.unwrap();
    let tracking = Tracking::start(pool, Clock::system(), &config, Default::default()).await.unwrap();
    let address = format!("http://{}/v1/batch", tracking.address());
    let message = |n: usize| json!({"type": "track", "messageId": format!("m{n}"), "userId": "ann", "event": "Seen"});
    let body = json!({"batch": (0..20).map(message).collect::<Vec<_>>()}).to_string();
    let post = async || {
        let request = http::client().post(&address).basic_auth("write-key-of-web", Some("")).body(body.clone());
        request.send().await.unwrap().status().as_u16()
    };
    let reply = proxy.lose_reply(&["COMMIT", "insert into messages"], 1);
    let mut answer = post().await;
    reply.wait();
    assert!([200, 503].contains(&answer), "{answer}");
    assert_eq!(count(&db, "select count(*) from events").await, 20, "Postgres had acted");
    let deadline = std::time::Instant::now() + kafka::PATIENCE;
    while answer != 200 {
        assert!(std::time::Instant::now() < deadline, "{answer}");
        answer = post().await;
    }
    assert_eq!(count(&db, "select count(*) from events").await, 20);
    assert_eq!(count(&db, "select count(*) from messages").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_an_import_whose_commit_was_unheard_goes_on_after_what_was_stored() {
    let world = World::new("").await;
    let (proxy, url) = proxy::postgres::proxy(&world.db);
    let line = |n: usize| json!({"type": "track", "messageId": format!("m{n}"), "userId": "ann", "event": "Seen"});
    let mut lines: String = (0..30).map(|n| format!("{}\n", line(n))).collect();
    lines += "no message\n";
    fs::write(world.folder.path().join("messages.jsonl"), lines).unwrap();
    let import = || world.command(&["import", "messages.jsonl"]).env("DATABASE_URL", &url).output().unwrap();
    let reply = proxy.lose_reply(&["COMMIT", "insert into messages"], 1);
    let output = import();
    reply.wait();
    assert!(!output.status.success(), "it cannot know: {}", text(&output));
    assert_eq!(count(&world.db, "select count(*) from events").await, 30, "Postgres had acted");
    let output = import();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(count(&world.db, "select count(*) from events").await, 30);
    let counted = "select count(*) from imports where accepted = 30 and refused = 1 and finished";
    assert_eq!(count(&world.db, counted).await, 1, "each line counts once");
}

/// Row 14. What is under way is finished or abandoned; the leases are given back where anybody can take them.
async fn ends_though_stalled(world: &World, mut instance: Instance, proxy: &proxy::Proxy, words: &[&str]) {
    buy(world, 0..2);
    told(world, &users(0..2));
    proxy.flow(proxy::Flow::Stall);
    let before = proxy.seen(words);
    buy(world, 2..4);
    eventually("something is under way", || (proxy.seen(words) > before).then_some(()));
    let (status, took) = instance.terminate();
    assert!(status.success(), "{status}:\n{}", instance.log());
    // Ten seconds are the rule; a machine that is busy with other tests is given as many more.
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    proxy.flow(proxy::Flow::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_program_told_to_stop_while_its_broker_stalls_ends_in_time_and_gives_its_leases_back() {
    let world = World::new(BUYERS).await;
    let proxy = proxy::kafka::proxy(kafka::broker());
    world.configure_with(BUYERS, &proxy.address, &world.topic, "");
    let instance = Instance::start(&world, "one", "");
    ends_though_stalled(&world, instance, &proxy, &["AddPartitionsToTxn"]).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while count(&world.db, "select count(*) from leases where rollcall_is_in_force(expires_at)").await > 0 {
        assert!(std::time::Instant::now() < deadline, "its leases are given back");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut next = Instance::start(&world, "next", "");
    told(&world, &users(0..4));
    next.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_program_told_to_stop_while_its_database_stalls_ends_in_time_and_its_leases_end_by_themselves() {
    let world = World::new(BUYERS).await;
    let (proxy, url) = proxy::postgres::proxy(&world.db);
    let mut command = world.command(&["serve", "-v", "--color", "never"]);
    command.env("DATABASE_URL", url);
    let instance = Instance::run(&world, "one", command);
    ends_though_stalled(&world, instance, &proxy, &[]).await;
    let mut next = Instance::start(&world, "next", "");
    told(&world, &users(0..4));
    next.ends_cleanly();
}
