//! Two lanes to a destination: backfills beside what changes, on real Postgres and Apache Kafka.

mod backfill;
mod merged;
mod order;
mod pace;
mod rate;
mod resync;

use std::collections::{BTreeMap, BTreeSet};

use rollcall::limits;
use serde_json::{Value, json};

use crate::{
    support::kafka::{self, Received},
    sync::{World, order as bought},
};

/// One destination, whose backfills begin at ten changes; `audiences` as in [`World`].
pub async fn world(audiences: &str) -> World {
    let world = World::new(audiences).await;
    configure(&world, audiences, "backfill_above: 10");
    world
}

/// With these further lines of the destination.
pub fn configure(world: &World, audiences: &str, destination: &str) {
    let topic = &world.topic;
    let text = format!(
        "space_id: spa_test\ndestinations:\n  kafka:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}\n    \
         cursor_topic: {topic}.cursors\n    {destination}\n    mappings:\n      - {{name: all, mapping: {{topic: {topic}, key: \
         {{\"@path\": $.userId}}, payload: {{\"@path\": $.}}}}}}\naudiences:\n{audiences}\n",
        kafka::broker()
    );
    std::fs::write(world.folder.path().join("rollcall.yaml"), text).unwrap();
}

/// An audience of those who have bought something.
pub const BUYERS: &str = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}";
/// One of which people leave after thirty days.
pub const RECENT: &str = "  - {name: Recent, query: \"event('Order Completed').within(30 days).count() >= 1\"}";

pub fn buy(world: &World, users: impl IntoIterator<Item = usize>, day: &str) {
    let orders: Vec<_> = users
        .into_iter()
        .map(|n| bought(&format!("u{n}"), &format!("m{n}-{day}"), &format!("{day}T00:00:00Z"), 1.0))
        .collect();
    world.import(&orders);
}

pub fn users(range: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    range.into_iter().map(|n| format!("u{n}")).collect()
}

/// The changes of each person in each audience, in the order in which a consumer gets them: a person is in one partition.
pub fn changes(told: &[Received]) -> BTreeMap<(String, String), Vec<bool>> {
    let mut changes: BTreeMap<_, Vec<bool>> = BTreeMap::new();
    for record in told {
        let event = record.json();
        let key = event["context"]["personas"]["computation_key"].as_str().unwrap().to_owned();
        let entered = event["traits"][&key].as_bool().unwrap();
        changes.entry((key, event["userId"].as_str().unwrap().to_owned())).or_default().push(entered);
    }
    changes
}

/// Who is in an audience by what was told; fails if a person was told the same twice in a row.
pub fn fold(told: &[Received], key: &str) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    for ((audience, user), changes) in changes(told) {
        if audience != key {
            continue;
        }
        let alternate = changes.iter().enumerate().all(|(n, entered)| *entered == (n % 2 == 0));
        assert!(alternate, "{user} was told {changes:?}");
        if changes.last() == Some(&true) {
            members.insert(user);
        }
    }
    members
}

pub fn backfills(world: &World) -> Vec<Value> {
    world.json(&["backfills"]).as_array().unwrap().clone()
}

/// Of the backfill with this number: its state, and how much of how many is done.
pub fn progress(world: &World, id: i64) -> (String, i64, i64) {
    let row = backfills(world).into_iter().find(|row| row["id"] == json!(id)).unwrap();
    (row["state"].as_str().unwrap().to_owned(), row["done"].as_i64().unwrap(), row["total"].as_i64().unwrap())
}

#[test]
fn the_default_slice_is_what_the_documents_say() {
    let page = std::fs::read_to_string("docs/configuration.md").unwrap();
    assert_eq!(limits::BACKFILL_ABOVE, 50_000);
    assert!(page.contains("50000"));
}
