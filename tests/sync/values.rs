//! Computed traits have the verbs of audiences: they survive a death, are told again, have runs and a schedule. And their lists end.

use serde_json::{Value, json};

use super::{World, of, order};

const TRAITS: &str = "
traits:
  - {name: Orders, query: \"event('Order Completed').within(30 days).count()\", schedule: \"@hourly\"}
  - {name: Last Revenue, query: \"event('Order Completed').within(30 days).last(property('revenue'))\", schedule: \"@daily\"}
";

/// What was told after the first so many, in the order of the log.
fn told(world: &World, from: usize) -> Vec<Value> {
    world.events().iter().skip(from).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_step_tells_each_value_once() {
    let world = World::new("\ntraits:\n  - {name: Orders, query: \"event('Order Completed').count()\"}\n").await;
    let points = ["before_seal", "after_seal", "amid_records", "after_commit", "after_mirror"];
    let mut expected = Vec::new();
    for (n, point) in (1..).zip(points) {
        world.import(&[order("ann", point, "2024-05-01T00:00:00Z", 1.0)]);
        let killed =
            world.command(&["sync", "--at", "2024-05-21"]).env("ROLLCALL_FAULT", format!("{point}:abort")).output();
        assert!(!killed.unwrap().status.success(), "{point} was never reached");
        world.json(&["sync", "--at", "2024-05-21"]);
        expected.push(json!(["ann", {"orders": n}]));
        assert_eq!(told(&world, 0), expected, "after {point}");
    }
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_of_a_trait_tells_values_again_and_null_to_whom_none_is_left() {
    let world = World::new(TRAITS).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.1), order("bob", "2", "2024-05-20T00:00:00Z", 5.0)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["sync", "--at", "2024-06-01"]);
    let mut before = told(&world, 0);
    assert_eq!(before.len(), 6, "two people, two traits; ann's become 0 and null");
    // A resync goes out in the other lane, whose positions are its own: only what came on top counts.
    let mut new = || {
        let mut new = told(&world, 0);
        for known in std::mem::replace(&mut before, new.clone()) {
            new.remove(new.iter().position(|told| *told == known).expect("what was told stays told"));
        }
        new.sort_by_key(Value::to_string);
        new
    };
    let rows = world.json(&["resync", "last_revenue"]);
    assert_eq!((&rows[0]["state"], &rows[0]["kind"]), (&json!("done"), &json!("resync")), "{rows}");
    let again = [json!(["ann", {"last_revenue": null}]), json!(["bob", {"last_revenue": 5}])];
    assert_eq!(new(), again);
    world.json(&["resync", "last_revenue", "--only", "true"]);
    assert_eq!(new(), again[1..]);
    world.json(&["sync", "--at", "2024-06-01"]);
    assert_eq!(new(), [] as [Value; 0], "and nothing is left to tell");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_schedules_of_traits_are_listed_as_those_of_audiences() {
    let world = World::new(TRAITS).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.1)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["sync", "--at", "2024-06-01"]);
    let runs = world.json(&["runs", "last_revenue"]);
    let seen: Vec<_> =
        runs.as_array().unwrap().iter().map(|run| (&run["key"], &run["entered"], &run["exited"])).collect();
    let key = json!("last_revenue");
    assert_eq!(seen, [(&key, &json!(0), &json!(1)), (&key, &json!(1), &json!(0))], "the latest first: {runs}");
    let ticks = world.json(&["schedule", "orders", "--next", "3", "--from", "2024-05-21"]);
    let ticks = ticks.to_string();
    for hour in ["2024-05-21T01:00", "2024-05-21T02:00", "2024-05-21T03:00"] {
        assert!(ticks.contains(hour), "{ticks}");
    }
    assert!(!ticks.contains("last_revenue"), "{ticks}");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_list_holds_the_first_fifty_texts_and_its_count_all_of_them() {
    let world = World::new(
        "
traits:
  - {name: Skus, query: \"event('Order Completed').unique(property('sku'))\"}
  - {name: Sku Count, query: \"event('Order Completed').unique(property('sku')).count()\"}
",
    )
    .await;
    let sku = |n: usize| {
        let mut order = order("ann", &n.to_string(), "2024-05-01T00:00:00Z", 1.0);
        order["properties"]["sku"] = format!("s{n:03}").into();
        order
    };
    // The last ones first: it is not who came first that stays.
    world.import(&(1..=60).rev().map(sku).collect::<Vec<_>>());
    world.json(&["sync", "--at", "2024-05-21"]);
    let skus: Vec<String> = (1..=50).map(|n| format!("s{n:03}")).collect();
    let mut first = told(&world, 0);
    first.sort_by_key(Value::to_string);
    assert_eq!(first, [json!(["ann", {"sku_count": 60}]), json!(["ann", {"skus": skus}])]);
    // One more at the end is no other list; one before all others moves the last one out.
    world.import(&[sku(61)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(&world, 2), [json!(["ann", {"sku_count": 61}])]);
    world.import(&[sku(0)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    let skus: Vec<String> = (0..50).map(|n| format!("s{n:03}")).collect();
    let mut last = told(&world, 3);
    last.sort_by_key(Value::to_string);
    assert_eq!(last, [json!(["ann", {"sku_count": 62}]), json!(["ann", {"skus": skus}])]);
    world.verified();
}
