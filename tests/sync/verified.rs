//! `rollcall verify` through the built program: its exit code, and the number by which a consumer compares what they added up.

use std::path::Path;

use serde_json::{Value, json};

use super::{RECENT, World, order};
use crate::{deliver::clients::python, support::kafka};

const DEFINITIONS: &str = "
  - {name: Recent, query: \"event('Order Completed').within(30 days).count() >= 1\", include_anonymous: true}
traits:
  - {name: Orders, query: \"event('Order Completed').within(90 days).count()\", include_anonymous: true}
  - {name: Average, query: \"event('Order Completed').avg(property('revenue'))\"}
  - {name: Notes, query: \"event('Order Completed').unique(property('note'))\"}
";

/// What the consumer of docs/verify.md makes of the topic.
fn added_up(world: &World) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/fold.py");
    let output = python(&script).args([kafka::broker(), &world.topic]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Fails unless consumer and `verify` have the same number.
fn same(world: &World) -> String {
    let report = world.verified();
    let digest = report["topics"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest, added_up(world), "{report}");
    digest
}

fn noted(user: &str, id: &str, revenue: f64, note: &str) -> Value {
    json!({"type": "track", "event": "Order Completed", "userId": user, "messageId": id, "timestamp": "2024-05-01",
           "properties": {"revenue": revenue, "note": note}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_in_python_has_the_number_that_verify_says_after_exits_merges_values_and_goodbyes() {
    let world = World::new(DEFINITIONS).await;
    world.import(&[
        noted("ann", "1", 10.0, "Grüße \"🎉\" \u{1}"),
        noted("ann", "2", 10.15, "e.1"),
        noted("bob", "3", 0.0000001, "b"),
        json!({"type": "track", "event": "Order Completed", "anonymousId": "a1", "messageId": "4", "timestamp": "2024-05-20"}),
        order("eve", "5", "2024-05-20T00:00:00Z", 3.0),
    ]);
    world.json(&["sync", "--at", "2024-05-21"]);
    let mut numbers = vec![same(&world)];
    // Two leave, a visitor becomes known, values change.
    world.import(&[
        json!({"type": "identify", "userId": "joe", "anonymousId": "a1", "messageId": "6", "timestamp": "2024-05-20"}),
        order("eve", "7", "2024-06-03T00:00:00Z", 4.0),
    ]);
    world.json(&["sync", "--at", "2024-06-05"]);
    numbers.push(same(&world));
    // A visitor turns out to be somebody known, whose own profile goes.
    world.import(&[
        json!({"type": "track", "event": "Order Completed", "anonymousId": "a2", "messageId": "8", "timestamp": "2024-06-04"}),
    ]);
    world.json(&["sync", "--at", "2024-06-05"]);
    world.import(&[
        json!({"type": "identify", "userId": "bob", "anonymousId": "a2", "messageId": "9", "timestamp": "2024-06-05"}),
    ]);
    world.json(&["sync", "--at", "2024-06-06"]);
    numbers.push(same(&world));
    world.json(&["forget", "eve", "--tombstone"]);
    numbers.push(same(&world));
    world.json(&["sync", "--at", "2024-12-01"]);
    numbers.push(same(&world));
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all, "each step changes what holds: {numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_of_a_run_is_the_sum_of_its_records() {
    let world =
        World::new("  - {name: Recent, query: \"event('Order Completed').within(30 days).count() >= 1\"}").await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 1.0)]);
    world.json(&["sync", "--at", "2024-05-02"]);
    world.json(&["sync", "--at", "2024-08-02"]);
    let report = world.verified();
    // printf 'ann\0recent\0true' | sha256sum
    assert_eq!(report["runs"][0]["digest"], "ed00a5a0b07873f6e7fd50815c217b5c");
    assert_eq!(report["runs"][1]["digest"], "fb166289613d68a7a2fc8caea9e64e39");
    assert_eq!(report["topics"][0]["digest"], "0".repeat(32), "nothing holds any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_of_a_membership_is_found_with_whom_it_is_about_and_exit_code_6() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 1.0), order("bob", "2", "2024-05-01T00:00:00Z", 1.0)]);
    world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!(world.verified()["counts"], json!({}));
    // The last byte of the bitmap is of its last member's id.
    sqlx::raw_sql("update memberships set members = set_byte(members, length(members) - 2, get_byte(members, length(members) - 2) # 4)")
        .execute(&world.db.pool)
        .await
        .unwrap();
    let output = world.command(&["verify", "-v", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report[0]["agrees"]), (Some(6), &json!(false)), "{report}");
    assert!(report[0]["counts"]["membership"].as_u64() >= Some(2), "{report}");
    let people =
        report[0]["differences"].as_array().unwrap().iter().filter(|difference| difference["person"].is_string());
    assert!(people.count() > 0, "{report}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("ann") && !log.contains("bob"), "names stand in the report alone: {log}");
    let table = world.run(&["verify"]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("THERE ARE DIFFERENCES"));
}
