//! How far was a stream told? One record per transaction in a compacted topic, committed with what it speaks of.
//!
//! Every transaction begins with `{stream, next}` and ends with `{stream, next, run, chain}`. A consumer of committed records sees
//! both or neither; a beginning without an end is proof that half a transaction was committed.
//!
//! Without transactions the same record goes out beside the records: it says how far may have been told, and of which history. It moves
//! nothing; it shows that Postgres went back.

use std::time::{Duration, Instant};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::recover::Found;
use crate::{
    Error, Result,
    ids::{Position, RunId},
    kafka::{
        cluster::{Cluster, Context},
        topic, trouble,
    },
};

/// A record of the cursor topic; its key is the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    #[serde(with = "text")]
    pub stream: Uuid,
    /// The first position that is not told.
    pub next: Position,
    /// Only at the end of a transaction.
    #[serde(flatten)]
    pub end: Option<End>,
}

/// What the end of a transaction was, so that a log with another past is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The run of the last position told.
    pub run: RunId,
    /// The log's chain after that run, in hexadecimal.
    pub chain: String,
}

impl Cursor {
    /// As it stands in the record's value.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain fields always serialise")
    }
}

/// A stream as text, as everywhere else.
mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub fn serialize<S: Serializer>(stream: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(stream)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// All streams share one partition: positions are few, and a count that never matters cannot be changed by mistake.
pub const PARTITION: i32 = 0;

/// How many records the first look back takes in; each further look takes in ten times as many.
const LOOK_BACK: i64 = 1_000;

/// Creates the cursor topic with `cleanup.policy=compact` if it is missing, and refuses one with another policy.
///
/// # Errors
/// [`crate::Kind::Settings`] if the topic would lose cursors, or may not be created; else [`crate::Kind::Wait`].
pub fn ensure(cluster: &Cluster, topic: &str, timeout: Duration) -> Result<()> {
    let admin = cluster.admin()?;
    let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    let new = new_topic(topic, TopicReplication::Fixed(-1));
    let created =
        wait_for(admin.create_topics([&new], &options)).map_err(|error| trouble::kafka(&error, "create a topic"))?;
    match created.into_iter().next() {
        Some(Err((_, Code::TopicAlreadyExists))) => {}
        // Who may not create may still use what is there; a missing topic shows when the cursor is read.
        Some(Err((_, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))) => {}
        Some(Err((_, code))) => {
            return Err(trouble::code(code, &format!("create the cursor topic '{topic}'")).help(format!(
                "Create it by hand: kafka-topics.sh --create --topic {topic} --partitions 1 --config cleanup.policy=compact"
            )));
        }
        Some(Ok(_)) => return Ok(()),
        None => {}
    }
    let described = wait_for(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options));
    let Some(Ok(config)) = described.ok().and_then(|results| results.into_iter().next()) else {
        // Not allowed to look. A topic that loses cursors is still noticed: the mirror in Postgres is ahead of it.
        tracing::warn!(topic, "the cursor topic's policy cannot be read; it must be cleanup.policy=compact");
        return Ok(());
    };
    match config.get("cleanup.policy").and_then(|entry| entry.value.as_deref()) {
        Some("compact") | None => Ok(()),
        Some(policy) => Err(Error::settings(format!("the cursor topic '{topic}' has cleanup.policy={policy}"))
            .help("With any policy but `compact` Kafka deletes cursors: change it, or name another `cursor_topic`.")),
    }
}

/// The cursor topic as it is made.
pub(super) fn new_topic<'t>(topic: &'t str, replication: TopicReplication<'t>) -> NewTopic<'t> {
    // Ten minutes or 16 MiB close a segment: what a recovery has to read stays small on a busy stream.
    NewTopic::new(topic, 1, replication)
        .set("cleanup.policy", "compact")
        .set("segment.ms", "600000")
        .set("segment.bytes", "16777216")
}

/// What the cursor topic has for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub found: Found,
    /// The first offset that is there, and the end. Compaction leaves the first where it is; deletion moves it.
    pub start: i64,
    pub end: i64,
}

/// The last committed cursor of a stream. Only call this after fencing: else an older instance may still move it.
///
/// Everything up to the partition's end as it is now is taken into account. The end is asked for without regard to open
/// transactions, and the reader waits for those to close: another stream's open transaction hides all records behind it
/// from a reader of committed ones, and our cursor may be among them.
///
/// # Errors
/// If the topic cannot be read to its end within `timeout`.
pub fn read(cluster: &Cluster, topic: &str, stream: Uuid, timeout: Duration) -> Result<Read> {
    let deadline = Instant::now() + timeout;
    let watermarks = cluster.consumer(&[("isolation.level", "read_uncommitted")])?;
    let doing = format!("read the cursor topic '{topic}'");
    let known_by = Instant::now() + Duration::from_secs(10).min(timeout);
    let (start, end) = loop {
        let error = match watermarks.fetch_watermarks(topic, PARTITION, timeout) {
            Ok(watermarks) => break watermarks,
            Err(error) if trouble::unknown_yet(&error) => error,
            Err(error) => return Err(trouble::kafka(&error, &doing)),
        };
        // Of a topic that we may not see it says only that there is no such partition.
        let described = topic::describe(watermarks.client(), &[topic.to_owned()], timeout).unwrap_or_default();
        if described.first().and_then(|topic| topic.error) == Some(Code::TopicAuthorizationFailed) {
            return Err(trouble::code(Code::TopicAuthorizationFailed, &doing));
        }
        // A topic made a moment ago is not known to every broker yet.
        if Instant::now() > known_by {
            return Err(trouble::kafka(&error, &doing));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let consumer = cluster.consumer(&[("isolation.level", "read_committed"), ("enable.partition.eof", "true")])?;
    let mut from = end;
    let mut window = LOOK_BACK;
    while from > start {
        let to = from;
        from = start.max(from - window);
        window = window.saturating_mul(10);
        let found = last(&consumer, topic, stream, from..to, deadline).map_err(|error| match error {
            Some(error) => trouble::kafka(&error, &doing),
            None => Error::wait(format!("cannot {doing} to its end: a transaction is open there"))
                .help("It ends by itself after its transaction.timeout.ms at the latest; then try again."),
        })?;
        if found != Found::Nothing {
            return Ok(Read { found, start, end });
        }
    }
    Ok(Read { found: Found::Nothing, start, end })
}

/// The last cursor of the stream among the offsets; the error is `None` when the deadline passed.
fn last(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    stream: Uuid,
    offsets: std::ops::Range<i64>,
    deadline: Instant,
) -> Result<Found, Option<KafkaError>> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, PARTITION, Offset::Offset(offsets.start))?;
    consumer.assign(&assignment)?;
    let key = stream.to_string();
    let mut found = Found::Nothing;
    let mut next = offsets.start;
    while next < offsets.end {
        if Instant::now() > deadline {
            return Err(None);
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                next = message.offset() + 1;
                if message.offset() < offsets.end && message.key() == Some(key.as_bytes()) {
                    found = match serde_json::from_slice(message.payload().unwrap_or_default()) {
                        Ok(cursor) => Found::Cursor(cursor),
                        Err(_) => Found::Unreadable,
                    };
                }
            }
            // Behind the last record there may be transaction markers, which are never handed out: ask where we are.
            Some(Err(KafkaError::PartitionEOF(_))) | None => {
                let position = consumer.position()?;
                let position = position.find_partition(topic, PARTITION).map(|at| at.offset());
                if let Some(Offset::Offset(offset)) = position {
                    next = next.max(offset);
                }
            }
            Some(Err(error)) if trouble::passes(&error) => {}
            Some(Err(error)) => return Err(Some(error)),
        }
    }
    Ok(found)
}

/// Waits for what the admin client's own thread completes.
pub(super) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
