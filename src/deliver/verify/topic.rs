//! What do the topics hold for a reader of committed records? From where they begin up to their ends as they are now.
//!
//! Reads on a plain thread and does nothing else there: records are copied into a few large pieces of memory, a batch at a time, and
//! whoever looks at them works beside the reading. Joins no group, writes nothing.

use std::{
    collections::HashMap,
    ops::Range,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminOptions, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::mpsc;

use crate::{
    Error, Result,
    deliver::{crc, cursor},
    kafka::{
        cluster::{Cluster, Context},
        trouble,
    },
};

/// Records of one batch, and their bytes.
const BATCH_RECORDS: usize = 8_192;
const BATCH_BYTES: usize = 8 << 20;

/// A topic, and the stretch of each partition that is read.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    /// Whether it keeps only the last record of each key.
    pub compacted: bool,
    /// By partition.
    pub stretches: Vec<Stretch>,
}

/// The offsets of a partition that are read.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub from: i64,
    pub end: i64,
}

impl Topic {
    /// Whether something of a partition is not read: retention took it, or it is from before `--since`.
    pub fn is_cut(&self, partition: usize) -> bool {
        self.stretches[partition].from > 0
    }
}

/// Looks where the topics begin and end; those that are not there come second. Blocks.
///
/// # Errors
/// If the cluster does not answer within `timeout`, or refuses.
pub fn look(
    cluster: &Cluster,
    names: &[String],
    since: Option<DateTime<Utc>>,
    timeout: Duration,
) -> Result<(Vec<Topic>, Vec<String>)> {
    // The end as a reader of uncommitted records has it: what is committed may lie behind another's open transaction.
    let consumer = cluster.consumer(&[("isolation.level", "read_uncommitted")])?;
    let (mut topics, mut gone) = (Vec::new(), Vec::new());
    for name in names {
        let doing = format!("look at the topic '{name}'");
        let failed = |error: KafkaError| trouble::kafka(&error, &doing);
        let metadata = consumer.fetch_metadata(Some(name), timeout).map_err(failed)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if partitions == 0 {
            gone.push(name.clone());
            continue;
        }
        let mut stretches = Vec::with_capacity(partitions);
        for partition in 0..partitions as i32 {
            let (from, end) = consumer.fetch_watermarks(name, partition, timeout).map_err(failed)?;
            stretches.push(Stretch { from, end });
        }
        if let Some(since) = since {
            begin_at(&consumer, name, since, &mut stretches, timeout).map_err(failed)?;
        }
        topics.push(Topic { name: name.clone(), compacted: is_compacted(cluster, name, timeout), stretches });
    }
    Ok((topics, gone))
}

/// Moves the beginnings to the first records of that time.
fn begin_at(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    since: DateTime<Utc>,
    stretches: &mut [Stretch],
    timeout: Duration,
) -> Result<(), KafkaError> {
    let mut times = TopicPartitionList::new();
    for partition in 0..stretches.len() as i32 {
        times.add_partition_offset(topic, partition, Offset::Offset(since.timestamp_millis()))?;
    }
    for found in consumer.offsets_for_times(times, timeout)?.elements() {
        let stretch = &mut stretches[found.partition() as usize];
        stretch.from = match found.offset() {
            Offset::Offset(offset) => offset.max(stretch.from),
            _ => stretch.end,
        };
    }
    Ok(())
}

/// Taken for one that is not, where it may not be asked: then what compaction took counts as missing, and is noticed.
fn is_compacted(cluster: &Cluster, topic: &str, timeout: Duration) -> bool {
    let Ok(admin) = cluster.admin() else { return false };
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let described = cursor::wait_for(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
    let Some(Ok(config)) = described.ok().and_then(|results| results.into_iter().next()) else { return false };
    let policy = config.get("cleanup.policy").and_then(|entry| entry.value.clone());
    policy.is_some_and(|policy| policy.contains("compact"))
}

/// Records that were read together.
#[derive(Debug, Default)]
pub struct Batch {
    pub records: Vec<Raw>,
    bytes: Vec<u8>,
}

/// A record, whose bytes are in its batch.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Index among the topics.
    pub topic: usize,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Range<usize>>,
    pub value: Option<Range<usize>>,
    pub stream: Option<Range<usize>>,
    pub position: Option<Range<usize>>,
    pub message_id: Option<Range<usize>>,
    pub crc: Option<Range<usize>>,
}

impl Batch {
    /// What stands at a place of it.
    pub fn at(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.clone().map(|range| &self.bytes[range])
    }

    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS || self.bytes.len() >= BATCH_BYTES
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Range<usize>> {
        let bytes = bytes?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Some(start..self.bytes.len())
    }

    fn push(&mut self, topic: usize, message: &BorrowedMessage<'_>) {
        let (key, value) = (self.copy(message.key()), self.copy(message.payload()));
        let (partition, offset) = (message.partition(), message.offset());
        let mut raw =
            Raw { topic, partition, offset, key, value, stream: None, position: None, message_id: None, crc: None };
        for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
            let place = match header.key {
                "rollcall-stream" => &mut raw.stream,
                "rollcall-position" => &mut raw.position,
                "rollcall-message-id" => &mut raw.message_id,
                crc::HEADER => &mut raw.crc,
                _ => continue,
            };
            *place = self.copy(header.value);
        }
        self.records.push(raw);
    }
}

/// Starts to read; batches come until the ends are reached, or an error. It stops when nobody takes them any more.
///
/// # Errors
/// If no client can be made, or no thread started.
pub fn read(cluster: &Cluster, topics: &[Topic], patience: Duration) -> Result<mpsc::Receiver<Result<Batch>>> {
    let properties = [("isolation.level", "read_committed"), ("enable.partition.eof", "true"), ("check.crcs", "true")];
    let consumer = cluster.consumer(&properties)?;
    let topics = topics.to_vec();
    let (batches, inbox) = mpsc::channel(2);
    let reader = move || {
        let mut reader = Reader { consumer, left: HashMap::new(), batches, batch: Batch::default(), patience };
        if let Err(error) = reader.run(&topics) {
            drop(reader.batches.blocking_send(Err(error)));
        }
    };
    let thread = std::thread::Builder::new().name("verify".into()).spawn(reader);
    thread.map_err(|error| Error::wait("no thread can be started").because(error))?;
    Ok(inbox)
}

struct Reader {
    /// Dropped first: whoever waits for the end need not wait for the client's.
    batches: mpsc::Sender<Result<Batch>>,
    consumer: BaseConsumer<Context>,
    /// The ends that are not reached yet, by topic and partition.
    left: HashMap<(String, i32), i64>,
    batch: Batch,
    patience: Duration,
}

impl Reader {
    fn run(&mut self, topics: &[Topic]) -> Result<()> {
        let failed = |error: KafkaError| trouble::kafka(&error, "read the topics");
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            for (partition, stretch) in (0..).zip(&topic.stretches).filter(|(_, stretch)| stretch.from < stretch.end) {
                let from = Offset::Offset(stretch.from);
                assignment.add_partition_offset(&topic.name, partition, from).map_err(failed)?;
                self.left.insert((topic.name.clone(), partition), stretch.end);
            }
        }
        self.consumer.assign(&assignment).map_err(failed)?;
        let mut moved = Instant::now();
        while !self.left.is_empty() {
            if self.take(topics).map_err(failed)? {
                moved = Instant::now();
            } else if moved.elapsed() > self.patience {
                return Err(Error::wait("the topics cannot be read to their ends: a transaction is open there")
                    .help("It ends by itself after its transaction.timeout.ms at the latest; then try again."));
            }
        }
        self.hand_over();
        Ok(())
    }

    /// Takes in what is there, at most a batch; whether there was something.
    fn take(&mut self, topics: &[Topic]) -> Result<bool, KafkaError> {
        let mut last = 0;
        let mut taken = 0;
        while !self.batch.is_full() {
            match self.consumer.poll(Duration::from_millis(if taken == 0 { 100 } else { 5 })) {
                Some(Ok(message)) => {
                    taken += 1;
                    if topics[last].name != message.topic() {
                        last = topics.iter().position(|topic| topic.name == message.topic()).unwrap_or(last);
                    }
                    let end = topics[last].stretches.get(message.partition() as usize).map_or(0, |known| known.end);
                    if message.offset() < end {
                        self.batch.push(last, &message);
                    }
                    if message.offset() + 1 >= end {
                        self.left.remove(&(topics[last].name.clone(), message.partition()));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => break,
                Some(Err(error)) if trouble::passes(&error) => break,
                Some(Err(error)) if error.rdkafka_error_code() == Some(Code::OffsetOutOfRange) => break,
                Some(Err(error)) => return Err(error),
            }
        }
        if taken == 0 {
            // Behind the last record there may be transaction markers, which are never handed out: ask where we are.
            for at in self.consumer.position()?.elements() {
                if let Offset::Offset(offset) = at.offset() {
                    let place = (at.topic().to_owned(), at.partition());
                    self.left.retain(|known, end| *known != place || offset < *end);
                }
            }
        }
        self.hand_over();
        Ok(taken > 0)
    }

    /// Gives the batch away; when nobody takes it, nothing is left to be read.
    fn hand_over(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.records.is_empty() && self.batches.blocking_send(Ok(batch)).is_err() {
            self.left.clear();
        }
    }
}
