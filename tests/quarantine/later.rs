//! A record that is told again says what is true by then, and nothing where a later change has said it.

use serde_json::json;

use super::{BROKEN, MENDED, buy, configure, counted, heard, map, mapping, open, said};
use crate::sync::World;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_left_since_is_not_told_true() {
    let world = World::new(super::RECENT).await;
    map(&world, BROKEN);
    buy(&world, 0..3, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    // u0 leaves while the mapping is still broken, u1 once it is mended; u2 leaves and comes back.
    buy(&world, 1..3, "2024-05-20", json!("nowhere"));
    world.json(&["sync", "--at", "2024-06-05"]);
    map(&world, MENDED);
    world.json(&["sync", "--at", "2024-07-01"]);
    buy(&world, 2..3, "2024-07-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-07-02"]);
    assert_eq!([0, 1, 2].map(|n| heard(&world, &format!("u{n}")).len()), [0, 1, 2]);
    assert_eq!(counted(&world), 4);

    let answer = world.json(&["quarantine", "retry"]);
    assert_eq!(said(&answer), [4, 1, 3, 0], "{answer}");
    assert_eq!(heard(&world, "u0"), [false], "it has left; of two records the last one is told");
    assert_eq!(heard(&world, "u1"), [false]);
    assert_eq!(heard(&world, "u2"), [false, true]);
    assert_eq!((open(&world, &[]).len(), counted(&world)), (0, 0));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_under_way_is_waited_for_and_comes_after_what_is_told_again() {
    let world = World::new(super::RECENT).await;
    map(&world, BROKEN);
    buy(&world, 0..5, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    map(&world, MENDED);
    let asked = world.json(&["quarantine", "retry", "--detach"]);
    assert_eq!(said(&asked), [5, 0, 0, 0], "{asked}");
    // All leave before the slice is made: they are told `false` by the ordinary difference, and `true` never.
    world.json(&["sync", "--at", "2024-06-10"]);
    for n in 0..5 {
        let heard = heard(&world, &format!("u{n}"));
        assert!(heard == [false] || heard == [true, false], "u{n} heard {heard:?}");
    }
    world.json(&["quarantine", "retry"]);
    assert_eq!(counted(&world), 0);
    assert!((0..5).all(|n| heard(&world, &format!("u{n}")).last() == Some(&false)));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computed_trait_is_told_as_it_is_now_and_once() {
    let world = World::new(super::RECENT).await;
    let traits = "traits:\n  - {name: Orders, query: event('Order Completed').count(), include_traits: [place]}";
    let with = |more: &str| configure(&world, traits, "exactly_once", &[mapping("all", &world.topic, more)]);
    with(BROKEN);
    buy(&world, 0..2, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    // Of u1 another value is told by the mended mapping; of u0 another one is put aside as well.
    buy(&world, 0..1, "2024-05-03", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-04"]);
    with(MENDED);
    buy(&world, 1..2, "2024-05-05", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-06"]);
    let answer = world.json(&["quarantine", "retry"]);
    assert_eq!(said(&answer), [3, 1, 2, 0], "{answer}");
    let mut told: Vec<_> = world.told().iter().map(|record| record.json()).collect();
    told.sort_by_key(|event| event["userId"].to_string());
    let told: Vec<_> = told.iter().map(|event| json!([event["userId"], event["traits"]["orders"]])).collect();
    assert_eq!(told, [json!(["u0", 2]), json!(["u1", 2])]);
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_halt_left_in_quarantine_is_told_by_a_retry_and_the_rest_by_the_next_sync() {
    let world = World::new(super::RECENT).await;
    map(&world, BROKEN);
    buy(&world, 0..600, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    buy(&world, 600..1_700, "2024-05-03", json!("nowhere"));
    let halted = world.run(&["sync", "--at", "2024-05-04"]);
    assert_eq!(halted.status.code(), Some(6), "{halted:?}");
    assert_eq!((world.told().len(), counted(&world)), (0, 600));
    map(&world, MENDED);
    let answer = world.json(&["quarantine", "retry"]);
    assert_eq!(said(&answer), [600, 600, 0, 0], "{answer}");
    assert_eq!(crate::lanes::fold(&world.told(), "recent"), crate::lanes::users(0..1_700));
    assert_eq!((counted(&world), &world.json(&["status"])["destinations"][0]["state"]), (0, &json!("live")));
    world.verified();
}
