//! Two profiles become one: what a consumer was told stays true, and nobody is told twice.

use serde_json::{Value, json};

use super::{RECENT, World, order, users};

fn visit(device: &str, id: &str, at: &str) -> Value {
    json!({"type": "track", "event": "Order Completed", "anonymousId": device, "messageId": id, "timestamp": at})
}

fn login(user: &str, device: &str, id: &str) -> Value {
    json!({"type": "identify", "userId": user, "anonymousId": device, "messageId": id, "timestamp": "2024-05-20"})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_two_profiles_holds_for_the_person_they_become() {
    let world = World::new(RECENT).await;
    // The device comes first, so that it is the known user's profile which is merged away.
    world.import(&[
        visit("a1", "1", "2024-05-01"),
        order("ann", "2", "2024-05-01T00:00:00Z", 1.0),
        visit("a2", "3", "2024-05-01"),
    ]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann"]));

    world.import(&[login("ann", "a1", "4"), login("bob", "a2", "5")]);
    let run = world.json(&["sync", "--at", "2024-05-21"]);
    // What bob did before he was known counts; of ann nothing has changed.
    assert_eq!((&run["runs"][0]["entered"], &run["runs"][0]["exited"]), (&json!(1), &json!(0)), "{run}");
    assert_eq!(world.told().len(), 2);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann", "bob"]));
    let before = world.run(&["members", "order_completed_last_30days", "--run", "1"]);
    assert_eq!(String::from_utf8_lossy(&before.stdout), "ann\n", "as of a run before the merge, by her name of today");

    world.json(&["sync", "--at", "2024-08-01"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_sealed_before_a_merge_reaches_the_survivor() {
    let world = World::new(RECENT).await;
    world.import(&[visit("a1", "1", "2024-01-01"), order("ann", "2", "2024-05-01T00:00:00Z", 1.0)]);
    world.configure_with(RECENT, "127.0.0.1:1", &world.topic, "");
    let away = world.run(&["sync", "--at", "2024-05-21"]);
    assert!(!away.status.success(), "sealed, but not told");
    world.import(&[login("ann", "a1", "3")]);
    world.configure(RECENT);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(world.told().len(), 1);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann"]));
}
