//! A COMMIT that Postgres carried out and of which nobody heard (row 20): never sealed twice, never stored twice, never lost. And an
//! end that is asked for while a broker or a database stalls (row 14).

use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

use rollcall::{clock::Clock, http::tracking::Tracking};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::{http, kafka, postgres::Database, proxy},
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

/// Row 14. What is under way is finished or abandoned; the leases are given back where anybody can take them. `is_under_way` is told
/// how many requests the proxy had seen when it stalled.
async fn ends_though_stalled(
    world: &World,
    mut instance: Instance,
    proxy: &proxy::Proxy,
    is_under_way: impl AsyncFn(usize) -> bool,
) {
    buy(world, 0..2);
    told(world, &users(0..2));
    proxy.flow(proxy::Flow::Stall);
    let asked_before = proxy.seen(&[]);
    buy(world, 2..4);
    let deadline = Instant::now() + kafka::PATIENCE;
    while !is_under_way(asked_before).await {
        assert!(Instant::now() < deadline, "not in time: something is under way");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    instance.ends_cleanly();
    proxy.flow(proxy::Flow::Pass);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_program_told_to_stop_while_its_broker_stalls_ends_in_time_and_gives_its_leases_back() {
    let world = World::new(BUYERS).await;
    let proxy = proxy::kafka::proxy(kafka::broker());
    world.configure_with(BUYERS, &proxy.address, &world.topic, "");
    let instance = Instance::start(&world, "one", "");
    // Sealed, it is told at once: the broker is asked about its topics, or for a transaction, and answers neither.
    let sealed = "select coalesce(sum(next_position), 0)::bigint from destinations";
    ends_though_stalled(&world, instance, &proxy, async |_| count(&world.db, sealed).await == 4).await;
    assert_eq!(count(&world.db, "select count(*) from leases").await, 0);
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
    ends_though_stalled(&world, instance, &proxy, async |before| proxy.seen(&[]) > before).await;
    let mut next = Instance::start(&world, "next", "");
    told(&world, &users(0..4));
    next.ends_cleanly();
}
