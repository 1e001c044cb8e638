//! A visitor who was told by anonymousId becomes known: what holds of them is told again under the new id, once.

use serde_json::{Value, json};

use super::World;

const VISITORS: &str = "
  - {name: Visitors, query: \"event('Seen').within(30 days).count() >= 1\", include_anonymous: true}
traits:
  - {name: Visits, query: \"event('Seen').count()\", include_anonymous: true}
";

fn seen(device: &str, id: &str, at: &str) -> Value {
    json!({"type": "track", "event": "Seen", "anonymousId": device, "messageId": id, "timestamp": at})
}

/// Not by a message of its own event: it changes who somebody is, and nothing else.
fn login(user: &str, device: &str, id: &str) -> Value {
    json!({"type": "identify", "userId": user, "anonymousId": device, "messageId": id, "timestamp": "2024-05-20"})
}

/// Everything told, in the order of the log: under which name, and of what.
fn told(world: &World) -> Vec<(String, String, Value)> {
    world
        .events()
        .iter()
        .map(|event| {
            let key = event["context"]["personas"]["computation_key"].as_str().unwrap().to_owned();
            let id = |name: &str| event[name].as_str();
            let name = id("userId").or(id("anonymousId")).unwrap().to_owned();
            let name = event["traits"]["email"].as_str().map_or(name.clone(), |email| format!("{name}/{email}"));
            (name, key.clone(), event["traits"][&key].clone())
        })
        .collect()
}

fn line(name: &str, key: &str, value: impl Into<Value>) -> (String, String, Value) {
    (name.into(), key.into(), value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_who_becomes_known_is_told_once_more_under_the_new_id() {
    let world = World::new(VISITORS).await;
    world.import(&[seen("a1", "1", "2024-05-01"), seen("a2", "2", "2024-05-01"), seen("a3", "3", "2024-04-25")]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(&world).len(), 6);

    // Of a3 it is told that he has left: never that he is in.
    world.import(&[login("ann", "a1", "4"), login("eve", "a3", "5")]);
    let run = world.json(&["sync", "--at", "2024-05-26"]);
    for run in run["runs"].as_array().unwrap() {
        let left = if run["key"] == "visitors" { 1 } else { 0 };
        assert_eq!((&run["entered"], &run["exited"]), (&json!(0), &json!(left)), "no change: {run}");
    }
    let mut new = told(&world).split_off(6);
    new.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    let expected = [
        line("ann", "visitors", true),
        line("eve", "visitors", false),
        line("ann", "visits", 1),
        line("eve", "visits", 1),
    ];
    assert_eq!(new, expected);

    // Another device of somebody known is no other name, and nothing is told twice.
    world.import(&[login("ann", "a9", "6")]);
    world.json(&["sync", "--at", "2024-05-26"]);
    world.json(&["sync", "--at", "2024-05-26"]);
    assert_eq!(told(&world).len(), 10);
    let runs = world.json(&["runs"]);
    assert!(runs.as_array().unwrap().iter().all(|run| run["pending"] == 0), "{runs}");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_id_sync_the_new_identifier_alone_is_told() {
    let world = World::new(
        "
  - name: Visitors
    query: event('Seen').count() >= 1
    id_sync: [{id: user_id, strategy: all}, {id: email, strategy: all}]
",
    )
    .await;
    let known = |email: &str, id: &str| json!({"type": "identify", "userId": "ann", "messageId": id, "timestamp": format!("2024-05-0{id}"), "traits": {"email": email}});
    world.import(&[
        known("a@x", "1"),
        json!({"type": "track", "event": "Seen", "userId": "ann", "messageId": "2", "timestamp": "2024-05-02"}),
    ]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(&world), [line("ann/a@x", "visitors", true)]);
    world.import(&[known("b@x", "3")]);
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(&world), [line("ann/a@x", "visitors", true), line("ann/b@x", "visitors", true)]);
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_step_does_not_tell_the_new_id_twice() {
    let world =
        World::new("  - {name: Visitors, query: \"event('Seen').count() >= 1\", include_anonymous: true}").await;
    let points = ["before_seal", "after_seal", "amid_records", "after_commit", "after_mirror"];
    for (n, point) in points.into_iter().enumerate() {
        let (device, user) = (format!("a{n}"), format!("u{n}"));
        world.import(&[seen(&device, &format!("seen{n}"), "2024-05-01")]);
        world.json(&["sync", "--at", "2024-05-21"]);
        world.import(&[login(&user, &device, &format!("login{n}"))]);
        let killed =
            world.command(&["sync", "--at", "2024-05-21"]).env("ROLLCALL_FAULT", format!("{point}:abort")).output();
        assert!(!killed.unwrap().status.success(), "{point} was never reached");
        world.json(&["sync", "--at", "2024-05-21"]);
        let expected = [line(&device, "visitors", true), line(&user, "visitors", true)];
        assert_eq!(told(&world).split_off(2 * n), expected, "after {point}");
    }
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_became_known_and_was_merged_afterwards_is_told_under_the_new_id() {
    let world =
        World::new("  - {name: Visitors, query: \"event('Seen').count() >= 1\", include_anonymous: true}").await;
    world.import(&[seen("a1", "1", "2024-05-01"), seen("a2", "2", "2024-05-01")]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(&world).len(), 2);
    // The second one becomes known, and then turns out to be the first one, whose profile is the older.
    world.import(&[login("ann", "a2", "3")]);
    world.import(&[login("ann", "a1", "4")]);
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(&world).split_off(2), [line("ann", "visitors", true)]);
    world.verified();
}
