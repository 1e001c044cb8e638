//! Backfills through the built program: told once each, through deaths, pauses and cancellations.

use serde_json::json;

use super::{BUYERS, RECENT, backfills, buy, configure, fold, progress, users, world};
use crate::{
    serve::Instance,
    support::{
        faults::{Way, assert_all_named},
        kafka::eventually,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_for_once_goes_by_the_bulk_lane_and_what_changes_then_by_the_live_one() {
    let world = world(RECENT).await;
    buy(&world, 0..35, "2024-05-01");
    let first = world.json(&["sync", "--at", "2024-05-02"]);
    let lanes: Vec<_> = first["deliveries"].as_array().unwrap().iter().map(|d| &d["told"]["lane"]).collect();
    assert_eq!(lanes, ["live", "bulk"]);
    assert_eq!(fold(&world.told(), "recent"), users(0..35));
    assert_eq!(progress(&world, 1), ("done".into(), 35, 35));

    buy(&world, 35..40, "2024-05-20");
    buy(&world, [0], "2024-05-20");
    world.json(&["sync", "--at", "2024-05-21"]);
    let status = world.json(&["status"]);
    let ends: Vec<_> =
        status["destinations"].as_array().unwrap().iter().map(|lane| (&lane["lane"], &lane["end"])).collect();
    assert_eq!(ends, [(&json!("live"), &json!(5)), (&json!("bulk"), &json!(35))]);
    // Thirty-four leave: again too much for once.
    world.json(&["sync", "--at", "2024-06-05"]);
    assert_eq!(fold(&world.told(), "recent"), users([0].into_iter().chain(35..40)));
    assert_eq!(progress(&world, 2), ("done".into(), 34, 34));
    let of_runs: i64 =
        world.json(&["runs"]).as_array().unwrap().iter().map(|run| run["pending"].as_i64().unwrap()).sum();
    assert_eq!(of_runs, 0);
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_killed_between_any_two_steps_tells_each_change_once() {
    let world = world(BUYERS).await;
    let mut all = 0;
    let deaths =
        ["before_slice@2", "after_slice@2", "amid_records@3", "after_drain@2", "after_commit@2", "after_mirror@2"];
    assert_all_named(Way::Backfill, &deaths);
    for point in deaths {
        buy(&world, all..all + 25, "2024-05-01");
        all += 25;
        let killed = world.command(&["sync"]).env("ROLLCALL_FAULT", format!("{point}:abort")).output().unwrap();
        assert!(!killed.status.success(), "{point} was never reached");
        world.json(&["sync"]);
        assert_eq!(fold(&world.told(), "buyers"), users(0..all), "after {point}");
    }
    assert!(backfills(&world).iter().all(|row| row["state"] == "done" && row["done"] == row["total"]));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_backfill_waits_and_a_resumed_one_goes_on_and_who_left_before_he_was_told_is_never_told() {
    let world = world(RECENT).await;
    buy(&world, 0..35, "2024-05-01");
    let killed = world.command(&["sync", "--at", "2024-05-02"]).env("ROLLCALL_FAULT", "after_slice:abort").output();
    assert!(!killed.unwrap().status.success());
    assert_eq!(world.json(&["backfills", "pause", "1"])[0]["state"], "paused");
    world.json(&["sync", "--at", "2024-05-02"]);
    let told = world.told().len();
    assert_eq!((told, progress(&world, 1)), (10, ("paused".into(), 10, 35)), "a slice was in the log");
    let true_as_of = || world.json(&["audiences"])[0]["true_as_of"].clone();
    assert_eq!(true_as_of(), json!(null), "most of it is still to be told");
    let refused = world.run(&["backfills", "pause", "1"]);
    assert_eq!(refused.status.code(), Some(4), "it is paused already");

    // All but u34 and u33 leave, be they told or not; the seal lets alone what is the backfill's.
    buy(&world, 33..35, "2024-05-30");
    world.json(&["sync", "--at", "2024-06-05"]);
    assert_eq!(fold(&world.told(), "recent"), users([]), "those who were told have left, the others were not told");
    assert_eq!(world.told().len(), 20);
    world.json(&["backfills", "resume", "1"]);
    world.json(&["sync", "--at", "2024-06-05"]);
    assert_eq!(fold(&world.told(), "recent"), users(33..35));
    assert_eq!(world.told().len(), 22);
    assert_eq!(progress(&world, 1).0, "done");
    assert_eq!(true_as_of(), json!("2024-06-05T00:00:00Z"));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_cancelled_backfill_the_rest_is_not_told_until_a_resync_and_changes_are() {
    let world = world(RECENT).await;
    buy(&world, 0..35, "2024-05-01");
    let killed = world.command(&["sync", "--at", "2024-05-02"]).env("ROLLCALL_FAULT", "after_slice:abort").output();
    assert!(!killed.unwrap().status.success());
    world.json(&["backfills", "cancel", "1"]);
    world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!(world.told().len(), 10);
    let told = fold(&world.told(), "recent");

    // Somebody new is told; and whoever leaves and comes back, as ever.
    buy(&world, [40], "2024-05-20");
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(world.told().len(), 11);
    world.json(&["sync", "--at", "2024-06-01"]);
    assert_eq!(world.told().len(), 21, "those ten who were told have left");
    assert_eq!(fold(&world.told(), "recent"), users([40]));
    let silent = (0..35).map(|n| format!("u{n}")).find(|user| !told.contains(user)).unwrap();
    let number = silent[1..].parse().unwrap();
    buy(&world, [number], "2024-06-01");
    world.json(&["sync", "--at", "2024-06-02"]);
    assert_eq!(fold(&world.told(), "recent"), users([40, number]));
    assert_eq!(backfills(&world).len(), 1, "none was opened for them");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn small_changes_of_others_are_told_while_a_backfill_has_far_to_go_and_it_survives_a_kill() {
    // It is limited, so that it lasts; each slice is a fraction of it.
    let audiences = "
  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 1s, rate_limit: 20}
  - {name: Big, query: \"event('Order Completed').count() >= 2\", schedule: every 1s}";
    let world = world(audiences).await;
    buy(&world, 0..400, "2024-05-01");
    let mut one = Instance::start(&world, "one", "after_slice@3:abort");
    eventually("it dies after a slice", || one.ended());
    let mut other = Instance::start(&world, "other", "");
    for round in 1..4 {
        buy(&world, [round], "2024-05-02");
        eventually("the small audience is told", || (fold(&world.told(), "big") == users(1..round + 1)).then_some(()));
        let (state, done, total) = progress(&world, 1);
        assert_eq!((state.as_str(), total), ("running", 400));
        assert!(done < 400, "the backfill ended before the small ones were told");
    }
    let told = fold(&world.told(), "buyers").len();
    assert!(told < 400, "{told}");
    other.ends_cleanly();
    // Whoever is next goes on where it was.
    let mut third = Instance::start(&world, "third", "");
    eventually("more is told", || (fold(&world.told(), "buyers").len() > told).then_some(()));
    third.ends_cleanly();
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_ends_when_its_destination_is_taken_away_and_the_rest_is_told_once_it_is_given_back() {
    let world = world(BUYERS).await;
    buy(&world, 0..35, "2024-05-01");
    let killed = world.command(&["sync", "--at", "2024-05-02"]).env("ROLLCALL_FAULT", "after_slice:abort").output();
    assert!(!killed.unwrap().status.success());
    configure(&world, BUYERS, "backfill_above: 10\n    enabled: false");
    world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!(progress(&world, 1).0, "running", "a disabled destination catches up later");
    configure(&world, &BUYERS.replace("}", ", destinations: []}"), "backfill_above: 10");
    world.json(&["sync", "--at", "2024-05-03"]);
    let (state, done, _) = progress(&world, 1);
    assert_eq!((state.as_str(), done), ("cancelled", 10), "a slice was in the log");
    assert_eq!(world.told().len(), 10);
    configure(&world, BUYERS, "backfill_above: 10");
    world.json(&["sync", "--at", "2024-05-04"]);
    assert_eq!(fold(&world.told(), "buyers"), users(0..35), "each once");
    assert_eq!(progress(&world, 1), ("cancelled".into(), 10, 10), "the rest is another's");
    assert_eq!(progress(&world, 2), ("done".into(), 25, 25));
    world.verified();
}

/// A trait's values that were told before, and changed.
const ORDERS: &str = "
traits:
  - {name: Orders, query: \"event('Order Completed').count()\"}
";

#[tokio::test(flavor = "multi_thread")]
async fn values_that_waited_as_their_destination_was_taken_away_are_told_once_it_is_back_but_to_nobody_suppressed() {
    let world = world(ORDERS).await;
    buy(&world, 0..35, "2024-05-01");
    world.json(&["sync", "--at", "2024-05-02"]);
    buy(&world, 0..35, "2024-05-03");
    let killed = world.command(&["sync", "--at", "2024-05-04"]).env("ROLLCALL_FAULT", "after_slice:abort").output();
    assert!(!killed.unwrap().status.success());
    configure(&world, &ORDERS.replace("}", ", destinations: []}"), "backfill_above: 10");
    world.json(&["sync", "--at", "2024-05-04"]);
    assert_eq!(world.told().len(), 45, "a slice was in the log");
    world.json(&["suppress", "u34"]);
    // At once, by no backfill: those leave out the suppressed themselves.
    configure(&world, ORDERS, "backfill_above: 100");
    world.json(&["sync", "--at", "2024-05-05"]);
    let told = world.told();
    for n in 0..35 {
        let user = format!("u{n}");
        let of = told.iter().map(|record| record.json()).filter(|event| event["userId"] == user.as_str());
        let values: Vec<_> = of.map(|event| event["traits"]["orders"].clone()).collect();
        assert_eq!(values, if n == 34 { vec![json!(1)] } else { vec![json!(1), json!(2)] }, "{user}");
    }
    world.verified();
}
