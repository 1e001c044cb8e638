//! A membership told again: to all who are in and all who were, each change in its order, and with message ids of its own.

use std::collections::BTreeSet;

use serde_json::json;

use super::{RECENT, buy, changes, fold, progress, users, world};
use crate::support::kafka::Received;

fn of<'a>(told: &'a [Received], user: &str) -> Vec<&'a Received> {
    told.iter().filter(|record| record.json()["userId"] == user).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_tells_members_true_and_former_members_false_under_new_message_ids() {
    let world = world(RECENT).await;
    buy(&world, 0..3, "2024-05-01");
    buy(&world, 3..8, "2024-05-20");
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["sync", "--at", "2024-06-05"]);
    let before = world.told().len();
    assert_eq!(before, 11);
    let rows = world.json(&["resync", "recent"]);
    assert_eq!((&rows[0]["state"], &rows[0]["kind"], &rows[0]["total"]), (&json!("done"), &json!("resync"), &json!(8)));
    let told = world.told();
    assert_eq!(told.len(), before + 8);
    for n in 0..8 {
        let user = format!("u{n}");
        let expected = if n < 3 { vec![true, false, false] } else { vec![true, true] };
        assert_eq!(changes(&told)[&("recent".into(), user.clone())], expected, "{user}");
        let ids: BTreeSet<_> = of(&told, &user).iter().map(|record| record.json()["messageId"].to_string()).collect();
        assert_eq!(ids.len(), expected.len(), "each is a message of its own");
    }
    world.json(&["resync", "recent", "--only", "false"]);
    assert_eq!(world.told().len(), before + 8 + 3);
    world.json(&["resync", "recent", "--only", "true", "--destination", "kafka"]);
    assert_eq!(world.told().len(), before + 8 + 3 + 5);
    let nowhere = world.run(&["resync", "recent", "--destination", "nowhere"]);
    assert_eq!(nowhere.status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_a_resync_is_under_way_is_told_so_and_not_told_true_after() {
    let world = world(RECENT).await;
    buy(&world, 0..10, "2024-05-20");
    buy(&world, 10..30, "2024-05-01");
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(fold(&world.told(), "recent"), users(0..30));
    let queued = world.json(&["resync", "recent", "--detach"]);
    assert_eq!((&queued[0]["done"], &queued[0]["total"]), (&json!(0), &json!(30)));
    assert_eq!(world.run(&["resync", "recent", "--detach"]).status.code(), Some(4), "one at a time");
    // A slice is told, then the program dies; then twenty leave, of whom some are told again by then, and some not.
    let id = queued[0]["id"].as_i64().unwrap();
    let killed = world.command(&["sync", "--at", "2024-05-21"]).env("ROLLCALL_FAULT", "after_slice@2:abort").output();
    assert!(!killed.unwrap().status.success());
    world.json(&["sync", "--at", "2024-06-05"]);
    let told = world.told();
    let mut again = 0;
    for n in 0..30 {
        let changes = &changes(&told)[&("recent".into(), format!("u{n}"))];
        again += changes.iter().filter(|entered| **entered).count() - 1;
        let expected: &[&[bool]] = if n >= 10 { &[&[true, false], &[true, true, false]] } else { &[&[true, true]] };
        assert!(expected.contains(&changes.as_slice()), "u{n}: {changes:?}");
    }
    assert!((11..30).contains(&again), "{again} were told true again: some of the twenty, not all");
    assert_eq!(progress(&world, id), ("done".into(), 30, 30));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_told_again_from_its_beginning_keeps_each_persons_order_over_both_lanes() {
    let world = world(RECENT).await;
    // In by a backfill, out by another, some in again by the live lane.
    buy(&world, 0..15, "2024-01-01");
    world.json(&["sync", "--at", "2024-01-02"]);
    world.json(&["sync", "--at", "2024-03-01"]);
    buy(&world, 0..4, "2024-04-01");
    world.json(&["sync", "--at", "2024-04-02"]);
    let once = changes(&world.told());
    assert!(world.run(&["unhalt", "kafka", "--start-over"]).status.success());
    world.json(&["sync", "--at", "2024-04-02"]);
    for (who, first) in once {
        let twice: Vec<bool> = first.iter().chain(&first).copied().collect();
        assert_eq!(changes(&world.told())[&who], twice, "{who:?}");
    }
    world.verified();
}
