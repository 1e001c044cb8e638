//! What does a consumer of a topic see? All of it up to its end, committed or not.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Headers as _,
};

use super::{PATIENCE, config};

/// A record as a consumer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    pub timestamp_ms: Option<i64>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("JSON")
    }
}

/// All that a consumer of committed records sees, partition by partition, up to the end as it is now.
pub fn read_committed(address: &str, topic: &str) -> Vec<Received> {
    read(address, topic, "read_committed")
}

/// What a consumer sees that reads uncommitted records too (the default of Java's).
pub fn read_uncommitted(address: &str, topic: &str) -> Vec<Received> {
    read(address, topic, "read_uncommitted")
}

fn read(address: &str, topic: &str, isolation: &str) -> Vec<Received> {
    let mut config = config(address);
    config.set("isolation.level", isolation).set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let mut assignment = TopicPartitionList::new();
    let partitions = metadata.topics()[0].partitions().len();
    for partition in 0..partitions as i32 {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&assignment).expect("assigned");
    // The end as a reader of uncommitted records sees it. A commit returns before its markers are written everywhere, so
    // the end of what is committed may come a moment later: it is waited for.
    config.set("isolation.level", "read_uncommitted");
    let watermarks: BaseConsumer = config.create().expect("a consumer");
    let ends: Vec<i64> = (0..partitions as i32)
        .map(|partition| watermarks.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks").1)
        .collect();
    let mut received = Vec::new();
    let mut at_end: Vec<bool> = ends.iter().map(|end| *end == 0).collect();
    let deadline = Instant::now() + PATIENCE;
    while at_end.contains(&false) {
        assert!(Instant::now() < deadline, "the end of {topic} is not reached");
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => received.push(Received {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or(Vec::new(), |headers| {
                    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                    headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
                }),
                timestamp_ms: message.timestamp().to_millis(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
        }
        for element in consumer.position().expect("a position").elements() {
            if let Offset::Offset(offset) = element.offset() {
                let partition = element.partition() as usize;
                at_end[partition] = at_end[partition] || offset >= ends[partition];
            }
        }
    }
    received.sort_by_key(|record| (record.partition, record.offset));
    received
}
