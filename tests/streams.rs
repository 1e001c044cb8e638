//! Streams: events taken in from a real Apache Kafka, each of them once, whatever dies, moves or is away.

mod deaths;
mod places;
mod poison;
mod secure;

use std::{fs, time::Duration};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rollcall::{
    clock::Clock,
    config::{self, Config},
    fault::Safeguard,
    profile::streamed::{self, Progress},
    serve::streaming::Streaming,
    telemetry::metrics,
};
use serde_json::{Value, json};

use crate::{serve::Instance, support::kafka, sync::World};

/// A topic that is a stream of one test's own.
struct Stream {
    world: World,
    topic: String,
    name: String,
}

impl Stream {
    async fn new(partitions: i32) -> Stream {
        let world = World::new("").await;
        let topic = kafka::topic(kafka::broker(), "events", partitions);
        let stream = Stream { world, name: kafka::unique("shop"), topic };
        stream.configure("");
        stream
    }

    fn configure(&self, more: &str) {
        self.world.configure("");
        let path = self.world.folder.path().join("rollcall.yaml");
        let Stream { name, topic, .. } = self;
        let broker = kafka::broker();
        let settings = format!("settings: {{brokers: \"{broker}\", mechanism: none, ssl_enabled: false}}");
        let streams = format!("streams:\n  {name}: {{{settings}, topics: [{topic}, {topic}.later]{more}}}\n");
        fs::write(&path, fs::read_to_string(&path).unwrap() + &streams).unwrap();
    }

    fn config(&self) -> Config {
        config::load(&self.world.folder.path().join("rollcall.yaml")).unwrap()
    }

    /// Reads it within this process.
    async fn read(&self) -> Streaming {
        metrics::start();
        Streaming::start(self.world.db.pool.clone(), Clock::system(), &self.config()).await.unwrap()
    }

    /// Reads it by a process of its own.
    fn serve(&self, name: &str, fault: &str) -> Instance {
        self.serve_without(name, fault, None)
    }

    /// The same with a safeguard switched off.
    fn serve_without(&self, name: &str, fault: &str, without: Option<Safeguard>) -> Instance {
        let mut command = self.world.command(&["serve", "--only", "streams", "-v", "--color", "never"]);
        command.env("ROLLCALL_FAULT", fault);
        command.env("ROLLCALL_SWITCH_OFF", without.map_or("", Safeguard::name));
        Instance::run(&self.world, name, command)
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.world.db.pool).await.unwrap()
    }

    async fn progress(&self) -> Vec<Progress> {
        streamed::progress(&self.world.db.pool).await.unwrap()
    }

    /// Waits until nothing is left to read, and `records` have been dealt with: stored, or refused.
    async fn is_taken_in(&self, records: i64) {
        let deadline = std::time::Instant::now() + kafka::PATIENCE;
        loop {
            let dealt_with = self.count(DEALT_WITH).await;
            assert!(dealt_with <= records, "{dealt_with} of {records}: something counts twice");
            let progress = self.progress().await;
            if dealt_with == records && !progress.is_empty() && progress.iter().all(|of| of.lag == 0) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{dealt_with} of {records}: {progress:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The number of a metric of this stream.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let text = metrics::start().render();
        let of = |line: &&str| line.starts_with(name) && line.contains(&self.name) && line.contains(label);
        text.lines().find(of).map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }
}

/// Messages stored and records refused.
const DEALT_WITH: &str = "select (select count(*) from messages) + (select coalesce(sum(messages), 0)::bigint from refusals where not is_stored)";

fn order(n: usize) -> Value {
    json!({"type": "track", "event": "Order Completed", "userId": format!("u{}", n % 50), "messageId": format!("m{n}"),
           "timestamp": "2024-05-01T00:00:00Z", "properties": {"revenue": n}})
}

fn orders(numbers: std::ops::Range<usize>) -> Vec<Option<Vec<u8>>> {
    numbers.map(|n| Some(order(n).to_string().into_bytes())).collect()
}

fn producer(settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = kafka::config(kafka::broker());
    config.remove("group.id");
    config.remove("enable.auto.commit");
    config.set("linger.ms", "0");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

/// Writes values to a topic, spread over its partitions by their number.
fn produce(producer: &BaseProducer, topic: &str, partitions: i32, values: &[Option<Vec<u8>>]) {
    for (n, value) in values.iter().enumerate() {
        let mut record = BaseRecord::<(), [u8]>::to(topic).partition(n as i32 % partitions);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(kafka::PATIENCE).unwrap();
}
