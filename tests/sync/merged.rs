//! Two profiles become one: what a consumer was told stays true, and nobody is told twice.

use std::collections::BTreeMap;

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
    world.verified();
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

/// What each person heard last of a trait, by the identifier they were told under.
fn heard(world: &World, key: &str) -> BTreeMap<String, Value> {
    let id = |event: &Value| event["userId"].as_str().or(event["anonymousId"].as_str()).unwrap().to_owned();
    world.events().iter().map(|event| (id(event), event["traits"][key].clone())).collect()
}

const ORDERS: &str = "
traits:
  - {name: Orders, query: \"event('Order Completed').within(30 days).count()\", include_anonymous: true}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_is_told_the_value_of_both_even_where_the_profile_that_stays_had_it_already() {
    for device_first in [true, false] {
        let world = World::new(ORDERS).await;
        let visits = [visit("a1", "1", "2024-05-20"), visit("a1", "2", "2024-05-20")];
        let order = [order("ann", "3", "2024-05-01T00:00:00Z", 1.0)];
        let halves: [&[Value]; 2] = if device_first { [&visits, &order] } else { [&order, &visits] };
        halves.iter().for_each(|half| world.import(half));
        world.json(&["sync", "--at", "2024-05-21"]);
        assert_eq!(heard(&world, "orders"), BTreeMap::from([("a1".into(), json!(2)), ("ann".into(), json!(1))]));
        world.import(&[login("ann", "a1", "4")]);
        // Her own order is past the window: what is left are the two of the device, of which she has not heard.
        world.json(&["sync", "--at", "2024-06-10"]);
        assert_eq!(heard(&world, "orders")["ann"], json!(2), "device first: {device_first}");
        assert_eq!(world.told().len(), 3, "and that once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_run_of_a_trait_that_is_released_after_a_merge_tells_values_and_the_next_run_the_one_of_both() {
    // With the device that nobody is told of, a profile stays of which the held run found nothing.
    for (traits, device_first) in [(ORDERS.replace(", include_anonymous: true", ""), true), (ORDERS.into(), false)] {
        let world = World::new(&format!("guard: {{max_changes: 1}}{traits}")).await;
        let visits = [visit("a1", "1", "2024-05-20")];
        let order = |user, id| order(user, id, "2024-05-20T00:00:00Z", 1.0);
        let orders = [order("ann", "2"), order("bob", "3")];
        let halves: [&[Value]; 2] = if device_first { [&visits, &orders] } else { [&orders, &visits] };
        halves.iter().for_each(|half| world.import(half));
        assert!(!world.run(&["sync", "--at", "2024-05-21"]).status.success(), "it is held");
        world.import(&[login("ann", "a1", "4")]);
        assert!(world.run(&["release", "orders"]).status.success());
        world.configure(&traits);
        world.json(&["sync", "--at", "2024-05-21"]);
        let heard = heard(&world, "orders");
        assert_eq!((&heard["ann"], &heard["bob"]), (&json!(2), &json!(1)), "device first: {device_first}");
        let values = world.events().iter().map(|event| event["traits"]["orders"].clone()).collect::<Vec<_>>();
        assert!(values.iter().all(Value::is_number), "{values:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_have_heard_is_told_again_once_also_where_somebody_is_forgotten_first() {
    for forgets in [false, true] {
        let world = World::new(&RECENT.replace("query:", "include_anonymous: true\n    query:")).await;
        let seen =
            json!({"type": "track", "event": "Seen", "anonymousId": "a2", "messageId": "2", "timestamp": "2024-05-20"});
        world.import(&[visit("a1", "1", "2024-05-20"), seen, order("bob", "3", "2024-05-20T00:00:00Z", 1.0)]);
        world.json(&["sync", "--at", "2024-05-21"]);
        // Of the two devices one was told; by which of them the person is told from now on, nobody can say.
        let mail = |device: &str, id: &str| json!({"type": "identify", "anonymousId": device, "messageId": id, "timestamp": "2024-05-20", "traits": {"email": "ann@example.org"}});
        world.import(&[mail("a1", "4"), mail("a2", "5")]);
        let before = world.told().len();
        if forgets {
            world.json(&["forget", "user_id:bob"]);
        }
        world.json(&["sync", "--at", "2024-05-21"]);
        let events = world.events();
        let again: Vec<_> = events[before..].iter().filter(|event| event["anonymousId"].is_string()).collect();
        assert_eq!(again.len(), 1, "forgets: {forgets}, {events:?}");
        assert_eq!(again[0]["traits"], json!({"order_completed_last_30days": true}));
    }
}
