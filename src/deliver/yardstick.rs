//! How fast is librdkafka alone, given the same bytes in the same transactions? Only the benchmark asks.

use std::time::{Duration, Instant};

use rdkafka::{
    admin::{AdminOptions, NewTopic, TopicReplication},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::RDKafkaErrorCode as Code,
};
use sqlx::PgPool;

use super::{Target, cursor, page::Pages, watch};
use crate::{
    Error, Result, delta,
    ids::Position,
    kafka::{
        cluster::{Cluster, Context},
        properties,
        settings::Settings,
        trouble,
    },
    limits,
};

/// Creates a topic with the cluster's default replication.
///
/// # Errors
/// If the cluster refuses, or the topic exists.
pub async fn create_topic(target: &Target, topic: &str, partitions: i32) -> Result<()> {
    let admin = Cluster::open(&target.name, &target.settings)?.admin()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let created = admin.create_topics([&new], &AdminOptions::new()).await;
    match created.map_err(|error| trouble::kafka(&error, "create a topic"))?.into_iter().next() {
        Some(Err((name, code))) => Err(trouble::code(code, &format!("create the topic '{name}'"))),
        _ => Ok(()),
    }
}

/// Sends what the first page of the target's log becomes, over and over into `topic`, until `changes` changes are sent: one
/// transaction a page, with two cursor-sized records, as delivery does. Nothing is read, mapped or checked meanwhile.
///
/// # Errors
/// If the log is empty, or Kafka does not do as asked.
pub async fn alone(pool: PgPool, target: &Target, topic: &str, changes: u64) -> Result<Duration> {
    let head = delta::head(&pool, &target.name, target.lane).await?;
    let mut pages = Pages::new(pool, &head, target);
    let page = pages.page(Position(0), limits::PAGE_CHANGES, &Default::default()).await?;
    let page = page.ok_or_else(|| Error::internal("there is nothing to send"))?;
    let cluster = Cluster::open(&target.name, &target.settings)?;
    let mut config = properties::producing(cluster.config(), &target.settings.properties);
    config.set("transactional.id", format!("rollcall-yardstick-{}", head.stream));
    let topic = topic.to_owned();
    let sent = tokio::task::spawn_blocking(move || {
        let client = config.create_with_context::<_, BaseProducer<Context>>(cluster.context())?;
        client.init_transactions(Duration::from_secs(30))?;
        let started = Instant::now();
        for _ in 0..changes.div_ceil((page.to.0 - page.from.0).unsigned_abs().max(1)) {
            client.begin_transaction()?;
            send(&client, BaseRecord::to(&topic).key("cursor").payload(page.stream_text.as_bytes()))?;
            for (index, told) in page.records.iter().enumerate() {
                let position = told.position.to_string();
                let mut headers = OwnedHeaders::new_with_capacity(told.record.headers.len() + 4);
                let users = told.record.headers.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                let ours = [
                    ("stream", page.stream_text.as_str()),
                    ("position", &position),
                    ("id", &told.message_id),
                    ("crc", "00000000"),
                ];
                for (key, value) in users.chain(ours) {
                    headers = headers.insert(Header { key, value: Some(value) });
                }
                let record = BaseRecord::to(&topic).headers(headers);
                let record = record.payload(told.record.value.as_deref().unwrap_or_default());
                send(&client, record.key(told.record.key.as_deref().unwrap_or_default()))?;
                if index % 512 == 0 {
                    client.poll(Duration::ZERO);
                }
            }
            send(&client, BaseRecord::to(&topic).key("cursor").payload(page.chain.to_hex().as_bytes()))?;
            while client.in_flight_count() > 0 {
                watch::breathe(&client);
            }
            client.commit_transaction(Duration::from_secs(30))?;
        }
        Ok(started.elapsed())
    });
    let sent = sent.await.map_err(|error| Error::internal("the yardstick broke").because(error))?;
    sent.map_err(|error: rdkafka::error::KafkaError| trouble::kafka(&error, "send the yardstick's records"))
}

/// Creates a topic and writes these values to it, in turn to each partition. Blocks.
///
/// # Errors
/// If Kafka does not do as asked.
pub fn fill(settings: &Settings, topic: &str, partitions: i32, values: impl Iterator<Item = String>) -> Result<()> {
    let cluster = Cluster::open("bench", settings)?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let created = cursor::wait_for(cluster.admin()?.create_topics([&new], &AdminOptions::new()));
    if let Some(Err((name, code))) = created.map_err(|error| trouble::kafka(&error, "create a topic"))?.first() {
        return Err(trouble::code(*code, &format!("create the topic '{name}'")));
    }
    let client = cluster.producer(&properties::producing(cluster.config(), &settings.properties), cluster.context())?;
    for (partition, value) in (0..partitions.max(1)).cycle().zip(values) {
        let record = BaseRecord::<str, [u8]>::to(topic).partition(partition).payload(value.as_bytes());
        send(&client, record).map_err(|error| trouble::kafka(&error, "fill the topic"))?;
        client.poll(Duration::ZERO);
    }
    client.flush(Duration::from_secs(60)).map_err(|error| trouble::kafka(&error, "fill the topic"))
}

fn send(
    client: &BaseProducer<Context>,
    mut record: BaseRecord<'_, str, [u8]>,
) -> Result<(), rdkafka::error::KafkaError> {
    loop {
        match client.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                record = back;
                watch::breathe(client);
            }
            Err((error, _)) => return Err(error),
        }
    }
}
