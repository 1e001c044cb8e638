//! Computed traits through the built program: after each sync the topic adds up to what the orders themselves say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    time::Duration,
};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::{Value, json};

use super::{
    World,
    cdnow::{Order, orders, write_messages},
    order,
};
use crate::support::kafka;

const WEEKS: u64 = 6;

const TRAITS: &str = "
  - {name: Spenders, query: \"trait('total_revenue') >= 250 AND NOT trait('recent_revenue') > 100\"}
guard: off
traits:
  - {name: Total Revenue, query: \"event('Order Completed').sum(property('revenue'))\"}
  - {name: Recent Revenue, query: \"event('Order Completed').within(90 days).sum(property('revenue'))\"}
  - {name: Orders, query: \"event('Order Completed').within(60 days).count()\"}
  - {name: Average, query: \"event('Order Completed').avg(property('revenue'))\"}
  - {name: Best, query: \"event('Order Completed').within(90 days).max(property('revenue'))\"}
  - {name: First Order, query: \"event('Order Completed').first(context('timestamp'))\"}
  - {name: Last Quantity, query: \"event('Order Completed').where(property('revenue') > 0).last(property('quantity'))\"}
  - {name: Quantities, query: \"event('Order Completed').between(30 days, 120 days).unique(property('quantity'))\"}
  - {name: Session, query: \"event('Order Completed').expires_after(30 days).sum(property('revenue'))\"}
";

fn decimal(cents: u64) -> String {
    let text = format!("{}.{:02}", cents / 100, cents % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Everybody's values as of `t`, by trait, straight from the orders. `had` says who was told a value of what before.
fn expected(
    orders: &BTreeMap<String, Vec<Order>>,
    t: DateTime<Utc>,
    had: &BTreeMap<String, BTreeMap<String, String>>,
) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut values: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (customer, all) in orders {
        let past: Vec<&Order> = all.iter().filter(|order| order.at <= t).collect();
        let within = |days| past.iter().filter(move |order| order.at > t - TimeDelta::days(days));
        let sum = |cents: Vec<u64>| (!cents.is_empty()).then(|| decimal(cents.iter().sum()));
        let mut session: Vec<u64> = Vec::new();
        for pair in past.windows(2) {
            session.push(pair[0].cents);
            if pair[1].at - pair[0].at > TimeDelta::days(30) {
                session.clear();
            }
        }
        session.extend(past.last().map(|order| order.cents));
        let total: u64 = past.iter().map(|order| order.cents).sum();
        let quantities: BTreeSet<String> = past
            .iter()
            .filter(|order| order.at > t - TimeDelta::days(120) && order.at <= t - TimeDelta::days(30))
            .map(|order| format!("\"{}\"", order.quantity))
            .collect();
        let count = within(60).count();
        let found = [
            ("total_revenue", sum(past.iter().map(|order| order.cents).collect())),
            ("recent_revenue", sum(within(90).map(|order| order.cents).collect())),
            ("orders", (count > 0).then(|| count.to_string())),
            ("average", (!past.is_empty()).then(|| (total as f64 / 100.0 / past.len() as f64).to_string())),
            ("best", within(90).map(|order| order.cents).max().map(decimal)),
            ("first_order", past.first().map(|order| order.at.format("\"%Y-%m-%dT%H:%M:%S%.6fZ\"").to_string())),
            ("last_quantity", past.iter().rfind(|order| order.cents > 0).map(|order| order.quantity.to_string())),
            ("quantities", (!quantities.is_empty()).then(|| format!("[{}]", Vec::from_iter(quantities).join(",")))),
            ("session", sum(session)),
        ];
        for (key, value) in found {
            let had = had.get(key).is_some_and(|had| had.contains_key(customer));
            let zero = ["total_revenue", "recent_revenue", "orders", "session"].contains(&key) && had;
            if let Some(value) = value.or(zero.then(|| "0".to_owned())) {
                values.entry(key.to_owned()).or_default().insert(customer.clone(), value);
            }
        }
    }
    values
}

/// A consumer of committed records that reads along and keeps the last value of everybody.
struct Consumer {
    consumer: BaseConsumer,
    read: u64,
    values: BTreeMap<String, BTreeMap<String, String>>,
    members: BTreeSet<String>,
}

impl Consumer {
    fn of(topic: &str) -> Consumer {
        let mut config = kafka::config(kafka::broker());
        let consumer: BaseConsumer = config.set("isolation.level", "read_committed").create().unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..3 {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        Consumer { consumer, read: 0, values: BTreeMap::new(), members: BTreeSet::new() }
    }

    fn read_to(&mut self, end: u64) {
        while self.read < end {
            let message = self.consumer.poll(Duration::from_secs(60)).expect("another record").unwrap();
            let event: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            let personas = &event["context"]["personas"];
            let (key, user) = (personas["computation_key"].as_str().unwrap(), event["userId"].as_str().unwrap());
            self.read += 1;
            if personas["computation_class"] == "audience" {
                let changed = match event["traits"][key].as_bool().unwrap() {
                    true => self.members.insert(user.to_owned()),
                    false => self.members.remove(user),
                };
                assert!(changed, "told again: {event}");
                continue;
            }
            assert_eq!(personas["computation_class"], "trait");
            assert!(personas["computation_id"].as_str().unwrap().starts_with("tra_"));
            let values = self.values.entry(key.to_owned()).or_default();
            let value = event["traits"].get(key).expect("the value");
            let before = match value {
                Value::Null => values.remove(user),
                value => values.insert(user.to_owned(), value.to_string()),
            };
            assert_ne!(before.unwrap_or("null".into()), value.to_string(), "told without a change: {event}");
        }
        assert!(self.consumer.poll(Duration::ZERO).is_none(), "more was told than the log holds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_adds_up_to_everybodys_values_after_each_weekly_sync() {
    let orders = orders();
    let world = World::new(TRAITS).await;
    let file = world.folder.path().join("orders.jsonl");
    write_messages(&orders, File::create(&file).unwrap());
    assert!(world.run(&["import", "orders.jsonl"]).status.success());

    let mut consumer = Consumer::of(&world.topic);
    let mut had = BTreeMap::new();
    for week in 0..=WEEKS {
        let day = NaiveDate::from_ymd_opt(1997, 4, 1).unwrap() + Days::new(week * 14);
        world.json(&["sync", "--at", &day.to_string()]);
        let end = world.json(&["status"])["destinations"][0]["end"].as_u64().unwrap();
        consumer.read_to(end);
        let expected = expected(&orders, day.and_hms_opt(0, 0, 0).unwrap().and_utc(), &had);
        for (key, expected) in &expected {
            let told = &consumer.values[key];
            assert_eq!(told.len(), expected.len(), "{key} as of {day}");
            for (user, value) in expected {
                let told = &told[user];
                let same = match key.as_str() {
                    "average" => (told.parse::<f64>().unwrap() - value.parse::<f64>().unwrap()).abs() < 1e-9,
                    _ => told == value,
                };
                assert!(same, "{key} of {user} is {told} and not {value} as of {day}");
            }
        }
        had = expected;
    }
    // What is explained is what was told.
    let (user, value) = consumer.values["recent_revenue"].iter().find(|(_, value)| *value != "0").unwrap();
    let last = (NaiveDate::from_ymd_opt(1997, 4, 1).unwrap() + Days::new(WEEKS * 14)).to_string();
    let answer = world.json(&["explain", "recent_revenue", user, "--at", &last]);
    assert_eq!((answer["value"].to_string(), answer["value_at_last_run"].to_string()), (value.clone(), value.clone()));
    assert!(answer["events"].as_u64().unwrap() >= 1);
}

const TOTAL: &str = "
traits:
  - {name: Total, query: \"event('Order Completed').within(30 days).sum(property('revenue'))\"}
  - {name: Last Sku, query: \"event('Order Completed').within(30 days).last(property('sku'))\"}
";

#[tokio::test(flavor = "multi_thread")]
async fn only_changed_values_are_told_and_null_where_none_is_left() {
    let world = World::new(TOTAL).await;
    let sku = |user: &str, id: &str, at: &str, revenue: f64| {
        let mut order = order(user, id, at, revenue);
        order["properties"]["sku"] = id.into();
        order
    };
    world.import(&[
        sku("ann", "1", "2024-05-01T00:00:00Z", 10.1),
        sku("ann", "2", "2024-05-02T00:00:00Z", 0.2),
        sku("bob", "3", "2024-05-20T00:00:00Z", 5.0),
    ]);
    let told = |from: usize| -> Vec<(String, Value)> {
        let mut told: Vec<_> = world
            .told()
            .iter()
            .map(|record| (record.header("rollcall-position").unwrap().parse::<usize>().unwrap(), record.json()))
            .collect();
        told.sort_by_key(|(position, _)| *position);
        let of = |event: &Value| (event["userId"].as_str().unwrap().to_owned(), event["traits"].clone());
        told.iter().skip(from).map(|(_, event)| of(event)).collect()
    };
    let one = |user: &str, traits: Value| (user.to_owned(), traits);
    let first = world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(first["runs"][0]["members"], 2, "{first}");
    let mut expected = vec![
        one("ann", json!({"last_sku": "2"})),
        one("bob", json!({"last_sku": "3"})),
        one("ann", json!({"total": 10.3})),
        one("bob", json!({"total": 5})),
    ];
    assert_eq!(told(0), expected);

    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(told(4), [], "nothing changed");

    // Ann's first order leaves the window, then her second: a sum becomes 0, a last value null.
    world.json(&["sync", "--at", "2024-05-31T12:00:00Z"]);
    world.json(&["sync", "--at", "2024-06-05"]);
    world.json(&["sync", "--at", "2024-06-06"]);
    let later =
        vec![one("ann", json!({"total": 0.2})), one("ann", json!({"last_sku": null})), one("ann", json!({"total": 0}))];
    assert_eq!(told(4), later);
    expected.extend(later);

    // A second destination is told what holds, not what happened.
    let second = format!(
        "  other:
    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}
    cursor_topic: {topic}.cursors
    mappings:
      - {{name: other, subscribe: type = \"identify\", mapping: {{topic: {topic}-other, key: {{\"@path\": $.userId}}, payload: {{\"@path\": $.}}}}}}",
        kafka::broker(),
        topic = world.topic
    );
    kafka::create_topic(kafka::broker(), &format!("{}-other", world.topic), 1, &[]);
    world.configure_with(TOTAL, kafka::broker(), &world.topic, &second);
    world.json(&["sync", "--at", "2024-06-06"]);
    assert_eq!(told(0), expected, "the first one has heard it all");
    let mut other: Vec<Value> = kafka::read_committed(kafka::broker(), &format!("{}-other", world.topic))
        .iter()
        .map(|record| json!([record.json()["userId"], record.json()["traits"]]))
        .collect();
    other.sort_by_key(Value::to_string);
    assert_eq!(other, [json!(["ann", {"total": 0}]), json!(["bob", {"last_sku": "3"}]), json!(["bob", {"total": 5}])]);
}
