//! Sixty weeks of real customers' orders: after each sync the topic adds up to what the orders themselves say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write as _},
    time::Duration,
};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::Value;

use super::World;
use crate::support::kafka;

const WEEKS: u64 = 60;

const AUDIENCES: &str = "
  - {name: Recent, query: \"event('Order Completed').within(30 days).count() >= 1\"}
  - {name: Big Spenders, query: \"event('Order Completed').sum(property('revenue')) >= 250\"}
  - {name: Spent Lately, query: \"event('Order Completed').within(90 days).sum(property('revenue')) >= 100\"}
  - {name: Bulk, query: \"event('Order Completed').where(property('quantity') >= 5).within(60 days).count() >= 1\"}
  - name: Lapsed
    query: event('Order Completed').count() >= 1 AND NOT event('Order Completed').within(90 days).count() >= 1
  - name: Quick
    query: >-
      event('Order Completed').where(event('Order Completed').within(parent: 14 days).count() >= 1)
      .within(60 days).count() >= 1
  - {name: One Timers, query: \"trait('first').before_date('1997-02-01') AND event('Order Completed').count() = 1\"}
  - {name: Lost Spenders, query: \"trait('lapsed') = 'true' AND trait('big_spenders') = 'true'\"}
";

pub struct Order {
    pub at: DateTime<Utc>,
    pub quantity: u32,
    pub cents: u64,
}

/// By customer, in the order of the file, which is that of time.
pub fn orders() -> BTreeMap<String, Vec<Order>> {
    let packed = include_bytes!("../../data/cdnow.txt.zst");
    let text = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let mut orders: BTreeMap<String, Vec<Order>> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Ok([customer, day, quantity, dollars]) = <[&str; 4]>::try_from(fields) else { continue };
        let Ok(day) = NaiveDate::parse_from_str(day, "%Y%m%d") else { continue };
        let (whole, cents) = dollars.split_once('.').unwrap();
        let of_customer = orders.entry(customer.to_owned()).or_default();
        of_customer.push(Order {
            at: day.and_hms_opt(12, 0, 0).unwrap().and_utc() + TimeDelta::seconds(of_customer.len() as i64),
            quantity: quantity.parse().unwrap(),
            cents: whole.parse::<u64>().unwrap() * 100 + cents.parse::<u64>().unwrap(),
        });
    }
    orders
}

/// Who is in each audience as of `t`, straight from the orders.
fn expected(orders: &BTreeMap<String, Vec<Order>>, t: DateTime<Utc>) -> BTreeMap<String, BTreeSet<String>> {
    let mut audiences: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let february = "1997-02-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    for (customer, all) in orders {
        let past: Vec<&Order> = all.iter().filter(|order| order.at <= t).collect();
        let within = |days| past.iter().filter(move |order| order.at > t - TimeDelta::days(days));
        let big = past.iter().map(|order| order.cents).sum::<u64>() >= 25_000;
        let lapsed = !past.is_empty() && within(90).count() == 0;
        let quick = within(60)
            .any(|first| past.iter().any(|second| second.at > first.at && second.at <= first.at + TimeDelta::days(14)));
        let in_them = [
            ("recent", within(30).count() >= 1),
            ("big_spenders", big),
            ("spent_lately", within(90).map(|order| order.cents).sum::<u64>() >= 10_000),
            ("bulk", within(60).any(|order| order.quantity >= 5)),
            ("lapsed", lapsed),
            ("quick", quick),
            // Traits have no history: the first order's day is known from the start.
            ("one_timers", all[0].at < february && past.len() == 1),
            ("lost_spenders", lapsed && big),
        ];
        for (key, _) in in_them.iter().filter(|(_, is_in)| *is_in) {
            audiences.entry((*key).to_owned()).or_default().insert(customer.clone());
        }
    }
    audiences
}

pub fn write_messages(orders: &BTreeMap<String, Vec<Order>>, file: File) {
    let mut file = BufWriter::new(file);
    for (customer, all) in orders {
        writeln!(
            file,
            r#"{{"type":"identify","messageId":"i-{customer}","userId":"{customer}","timestamp":"{at}","traits":{{"first":"{at}"}}}}"#,
            at = all[0].at.to_rfc3339()
        )
        .unwrap();
        for (nth, order) in all.iter().enumerate() {
            writeln!(
                file,
                r#"{{"type":"track","event":"Order Completed","messageId":"{customer}-{nth}","userId":"{customer}","timestamp":"{}","properties":{{"revenue":{}.{:02},"quantity":{}}}}}"#,
                order.at.to_rfc3339(),
                order.cents / 100,
                order.cents % 100,
                order.quantity
            )
            .unwrap();
        }
    }
}

/// A consumer of committed records that reads along and adds up.
struct Consumer {
    consumer: BaseConsumer,
    read: u64,
    members: BTreeMap<String, BTreeSet<String>>,
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
        Consumer { consumer, read: 0, members: BTreeMap::new() }
    }

    fn read_to(&mut self, end: u64) {
        while self.read < end {
            let message = self.consumer.poll(Duration::from_secs(60)).expect("another record").unwrap();
            let event: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            let key = event["context"]["personas"]["computation_key"].as_str().unwrap();
            let user = event["userId"].as_str().unwrap().to_owned();
            let entered = event["traits"][key].as_bool().unwrap();
            let members = self.members.entry(key.to_owned()).or_default();
            assert!(if entered { members.insert(user) } else { members.remove(&user) }, "told again: {event}");
            self.read += 1;
        }
        assert!(self.consumer.poll(Duration::ZERO).is_none(), "more was told than the log holds");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_adds_up_to_the_membership_after_each_of_sixty_weekly_syncs() {
    let orders = orders();
    assert_eq!((orders.len(), orders.values().map(Vec::len).sum::<usize>()), (23_570, 69_659));
    // Orders double within a week here, and nobody is there to confirm it.
    let world = World::new(&format!("{AUDIENCES}\nguard: off\n")).await;
    let file = world.folder.path().join("orders.jsonl");
    write_messages(&orders, File::create(&file).unwrap());
    assert!(world.run(&["import", "orders.jsonl"]).status.success());

    let mut consumer = Consumer::of(&world.topic);
    for week in 0..=WEEKS {
        let day = NaiveDate::from_ymd_opt(1997, 4, 1).unwrap() + Days::new(week * 7);
        world.json(&["sync", "--at", &day.to_string()]);
        let end = world.json(&["status"])["destinations"][0]["end"].as_u64().unwrap();
        consumer.read_to(end);
        let told: BTreeMap<_, _> = consumer.members.iter().filter(|(_, members)| !members.is_empty()).collect();
        let expected = expected(&orders, day.and_hms_opt(0, 0, 0).unwrap().and_utc());
        for key in expected.keys().chain(told.keys().copied()) {
            assert!(told.get(key).copied() == expected.get(key), "{key} differs as of {day}");
        }
    }
}
