//! Profiles become one while their changes wait in a backfill.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{RECENT, buy, progress, world};
use crate::{support::kafka::Received, sync::World};

fn known(user: usize) -> Value {
    json!({"type": "identify", "userId": format!("u{user}"), "messageId": format!("known{user}"), "timestamp": "2024-05-01"})
}

fn visit(event: &str, device: usize) -> Value {
    json!({"type": "track", "event": event, "anonymousId": format!("d{device}"), "messageId": format!("{event}{device}"),
           "timestamp": "2024-05-02"})
}

fn login(n: usize) -> Value {
    json!({"type": "identify", "userId": format!("u{n}"), "anonymousId": format!("d{n}"), "messageId": format!("login{n}"),
           "timestamp": "2024-05-03"})
}

fn import(world: &World, messages: impl IntoIterator<Item = Value>) {
    world.import(&messages.into_iter().collect::<Vec<_>>());
}

/// What each name was told.
fn heard(told: &[Received]) -> BTreeMap<String, Vec<bool>> {
    let mut heard: BTreeMap<_, Vec<bool>> = BTreeMap::new();
    for event in told.iter().map(Received::json) {
        let name = event["userId"].as_str().or(event["anonymousId"].as_str()).unwrap().to_owned();
        heard.entry(name).or_default().push(event["traits"]["recent"].as_bool().unwrap());
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_merged_away_while_waiting_is_told_nothing_and_the_survivor_once() {
    let audiences = format!("{}, include_anonymous: true}}", RECENT.trim_end_matches('}'));
    let world = world(&audiences).await;
    // The known ones come first: the visitors' profiles are those that go.
    import(&world, (0..30).map(known));
    import(&world, (0..30).map(|n| visit("Order Completed", n)));
    let killed = world.command(&["sync", "--at", "2024-05-21"]).env("ROLLCALL_FAULT", "after_slice:abort").output();
    assert!(!killed.unwrap().status.success(), "ten are in the log, twenty wait");
    import(&world, (0..30).step_by(2).map(login));
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["sync", "--at", "2024-05-21"]);
    let expected =
        (0..30).map(|n| (format!("{}{n}", if n % 2 == 0 { "u" } else { "d" }), vec![true])).collect::<BTreeMap<_, _>>();
    assert_eq!(heard(&world.told()), expected);
    assert_eq!(progress(&world, 1).0, "done");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_merged_away_while_a_resync_was_to_tell_him_is_told_again_as_who_he_is_now() {
    let world = world(RECENT).await;
    // The visitors come first: the known ones' profiles are those that go.
    import(&world, (0..30).map(|n| visit("Seen", n)));
    buy(&world, 0..30, "2024-05-01");
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["resync", "recent", "--detach"]);
    import(&world, (0..30).step_by(2).map(login));
    world.json(&["sync", "--at", "2024-05-21"]);
    let expected = (0..30).map(|n| (format!("u{n}"), vec![true, true])).collect::<BTreeMap<_, _>>();
    assert_eq!(heard(&world.told()), expected);
    world.verified();
}
