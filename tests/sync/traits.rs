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
    of, order,
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
    world.verified();
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
        let of = |event: &Value| (event["userId"].as_str().unwrap().to_owned(), event["traits"].clone());
        world.events().iter().skip(from).map(of).collect()
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

const TOGETHER: &str = "
  - name: Fans
    query: trait('orders') >= 1 AND trait('lifetime.grade') = 'gold'
    include_traits: [revenue, clv, last]
traits:
  - name: Order Totals
    queries:
      orders: event('Order Completed').within(30 days).count()
      revenue: event('Order Completed').sum(property('revenue'))
      last: event('Order Completed').within(30 days).last(property('revenue'))
  - name: Lifetime
    sql: select user_id, clv, grade, null as nothing from crm
";

#[tokio::test(flavor = "multi_thread")]
async fn several_values_go_in_one_identify_with_those_that_changed() {
    let world = World::new(TOGETHER).await;
    world.import(&[
        order("ann", "1", "2024-05-01T00:00:00Z", 10.1),
        order("ann", "2", "2024-05-02T00:00:00Z", 0.2),
        order("bob", "3", "2024-05-20T00:00:00Z", 5.0),
    ]);
    sqlx::raw_sql(
        "create table crm (user_id text, clv numeric, grade text);
         insert into crm values ('ann', 120.50, 'gold'), ('bob', 7, null), ('nobody', 1, 'gold')",
    )
    .execute(&world.db.pool)
    .await
    .unwrap();
    let told = |from: usize| -> Vec<Value> { world.events().iter().skip(from).map(of).collect() };
    let first = world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(first["runs"].as_array().unwrap().len(), 3, "{first}");
    let mut told_first = told(0);
    told_first.sort_by_key(Value::to_string);
    let mut expected = vec![
        json!(["ann", {"clv": 120.5, "grade": "gold"}]),
        json!(["bob", {"clv": 7}]),
        json!(["ann", {"last": 0.2, "orders": 2, "revenue": 10.3}]),
        json!(["bob", {"last": 5, "orders": 1, "revenue": 5}]),
        json!(["ann", {"fans": true, "revenue": 10.3, "clv": 120.5, "last": 0.2}]),
    ];
    expected.sort_by_key(Value::to_string);
    for (told, expected) in told_first.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told_first.len(), 5);

    // Ann's orders have left the window; bob's row is gone, ann's has another value.
    sqlx::raw_sql("delete from crm where user_id = 'bob'; update crm set clv = 99 where user_id = 'ann'")
        .execute(&world.db.pool)
        .await
        .unwrap();
    world.json(&["sync", "--at", "2024-06-05"]);
    let mut second = told(5);
    second.sort_by_key(Value::to_string);
    let mut expected = vec![
        json!(["ann", {"clv": 99}]),
        json!(["bob", {"clv": null}]),
        json!(["ann", {"last": null, "orders": 0}]),
        json!(["ann", {"fans": false, "revenue": 10.3, "clv": 99}]),
    ];
    expected.sort_by_key(Value::to_string);
    assert_eq!(second, expected);

    let listed = world.run(&["members", "order_totals"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed, "ann  {\"orders\":0,\"revenue\":10.3}\nbob  {\"last\":5,\"orders\":1,\"revenue\":5}\n");
    let preview =
        world.json(&["preview", "--trait", "event('Order Completed').sum(property('revenue'))", "--at", "2024-05-02"]);
    assert_eq!(preview["values"], 1);
    assert_eq!(preview["sample"][0]["value"], 10.3);
    let orders = world.json(&["explain", "orders", "bob", "--at", "2024-05-21"]);
    assert_eq!((&orders["value"], &orders["events"]), (&json!(1), &json!(1)));
    assert_eq!(world.json(&["explain", "lifetime", "ann"])["values_at_last_run"], json!({"clv": 99, "grade": "gold"}));
    let fans = world.json(&["explain", "fans", "ann", "--at", "2024-05-21"]);
    assert_eq!(fans["member"], true, "{fans}");

    // A statement that writes is refused, and stops its own trait only.
    world.configure(&TOGETHER.replace(
        "select user_id, clv, grade, null as nothing from crm",
        "with gone as (delete from crm returning *) select user_id, clv from gone",
    ));
    let output = world.command(&["sync", "--at", "2024-06-05", "--json"]).output().unwrap();
    assert!(!output.status.success());
    let rows: i64 = sqlx::query_scalar("select count(*) from crm").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(rows, 2, "nothing was deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_run_of_a_trait_tells_when_it_is_released_and_not_before() {
    let world =
        World::new("guard: {max_changes: 1}\ntraits:\n  - {name: Orders, query: \"event('Order Completed').count()\"}")
            .await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 1.0), order("bob", "2", "2024-05-02T00:00:00Z", 1.0)]);
    let values = || async {
        let runs: i64 =
            sqlx::query_scalar("select count(*) from trait_values").fetch_one(&world.db.pool).await.unwrap();
        let held: i64 = sqlx::query_scalar("select count(*) from held_values").fetch_one(&world.db.pool).await.unwrap();
        (runs, held)
    };
    let held = world.command(&["sync", "--at", "2024-05-03", "--json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&held.stdout).contains("held"), "{held:?}");
    assert_eq!((world.told().len(), values().await), (0, (0, 1)));
    let again = world.command(&["sync", "--at", "2024-05-04", "--json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).contains("held"), "{again:?}");
    assert_eq!((world.told().len(), values().await), (0, (0, 1)), "the newer run takes the place of the older");
    assert!(world.run(&["release", "orders"]).status.success());
    assert_eq!(values().await, (1, 0));
    world.json(&["sync", "--at", "2024-05-04"]);
    let mut told: Vec<Value> = world.told().iter().map(|record| record.json()["traits"].take()).collect();
    told.sort_by_key(Value::to_string);
    assert_eq!(told, [json!({"orders": 1}), json!({"orders": 1})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_is_told_null_for_each_of_several_values() {
    let world = World::new(
        "
traits:
  - name: Order Totals
    queries:
      orders: event('Order Completed').count()
      revenue: event('Order Completed').sum(property('revenue'))
",
    )
    .await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.1), order("bob", "2", "2024-05-20T00:00:00Z", 5.0)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    world.json(&["forget", "user_id:bob"]);
    let told: Vec<Value> =
        world.told().iter().map(|record| record.json()).filter(|event| event["userId"] == "bob").collect();
    let traits: Vec<&Value> = told.iter().map(|event| &event["traits"]).collect();
    assert_eq!(traits, [&json!({"orders": 1, "revenue": 5}), &json!({"orders": null, "revenue": null})]);
}
