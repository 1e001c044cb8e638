//! How do records get from Kafka into batches? On a plain thread with a consumer of its own, which stops reading while nobody takes
//! what it has read.
//!
//! ```text
//!  look: topics, partitions, ends ──► told ──► assigned: from where to read which of them
//!  then, over and over: poll → parse → batch ──► told            (one waits; librdkafka's queue is bounded too)
//!                       every few seconds: look ──► told
//! ```
//!
//! Nothing is retried here but what librdkafka retries by itself: whatever else goes wrong ends the thread, with its consumer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Datelike};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Stream;
use crate::{
    Error, Result,
    kafka::{
        cluster::{Cluster, Context, Unanswered},
        topic, trouble,
    },
    limits,
    profile::{
        Defaults, Message, Refusal, digest,
        rules::Rules,
        streamed::{Batch, Held, Partition},
    },
};

/// How long a cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look at topics and their ends.
const LOOK: Duration = Duration::from_secs(3);
/// How long to wait for a record before looking whether anything else is to be done.
const WAIT: Duration = Duration::from_millis(100);

/// What every consumer here is set up with.
const CONSUMING: [(&str, &str); 7] = [
    // What a producer took back is not read.
    ("isolation.level", "read_committed"),
    // An offset that is gone is told, not passed over.
    ("auto.offset.reset", "error"),
    // What is read ahead, and what one answer brings, is bounded: a slow database slows the reading down and takes no memory.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "8388608"),
    // How long librdkafka rests when that much is read; its second would be idle time in catching up.
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("allow.auto.create.topics", "false"),
];

/// What is there.
#[derive(Debug, Default)]
pub struct Look {
    /// Of all topics of the stream.
    pub partitions: Vec<Partition>,
    /// Of those partitions that were asked for.
    pub held: Vec<Held>,
    /// Topics that cannot be read, and why.
    pub missing: Vec<Error>,
}

/// What the thread tells.
#[derive(Debug)]
pub enum Told {
    Looked(Look),
    Batch(Batch),
    /// A broker says that an offset is not there. The thread has ended.
    OutOfRange,
    /// The thread has ended.
    Failed(Error),
}

/// The thread. It ends when this is dropped.
pub struct Reader {
    told: mpsc::Receiver<Told>,
    assign: Option<oneshot::Sender<Vec<(Partition, i64)>>>,
}

impl Reader {
    /// Starts it: it looks at all partitions, and then waits to be [assigned](Reader::assign) some.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(stream: Arc<Stream>) -> Result<Reader> {
        let (tell, told) = mpsc::channel(1);
        let (assign, assigned) = oneshot::channel();
        let about = tracing::Span::current();
        let work = move || {
            let _about = about.enter();
            let end = match read(&stream, &tell, assigned) {
                Ok(()) => return,
                Err(End::OutOfRange) => Told::OutOfRange,
                Err(End::Failed(error)) => Told::Failed(error),
            };
            // If nobody is there to hear it, nobody needs to.
            drop(tell.blocking_send(end));
        };
        std::thread::Builder::new()
            .name("stream".into())
            .spawn(work)
            .map_err(|error| Error::wait("no thread can be started").because(error))?;
        Ok(Reader { told, assign: Some(assign) })
    }

    /// What it tells next.
    pub async fn told(&mut self) -> Told {
        self.told.recv().await.unwrap_or_else(|| Told::Failed(Error::internal("the reading thread is gone")))
    }

    /// What it finds before it is assigned anything.
    pub async fn look(&mut self) -> Result<Look> {
        match self.told().await {
            Told::Looked(look) => Ok(look),
            Told::Failed(error) => Err(error),
            Told::Batch(_) | Told::OutOfRange => Err(Error::internal("nothing was to be read yet")),
        }
    }

    /// Lets it read these partitions from these offsets on.
    pub fn assign(&mut self, places: Vec<(Partition, i64)>) {
        if let Some(assign) = self.assign.take() {
            drop(assign.send(places));
        }
    }
}

/// Why the thread ends, when nobody asked it to.
enum End {
    OutOfRange,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

type Consumer = BaseConsumer<Context>;

fn read(
    stream: &Stream,
    tell: &mpsc::Sender<Told>,
    assigned: oneshot::Receiver<Vec<(Partition, i64)>>,
) -> Result<(), End> {
    let cluster = Cluster::open(&stream.name, &stream.settings)?;
    let consumer = cluster.consumer(&CONSUMING)?;
    reach(&consumer, stream)?;
    if tell.blocking_send(Told::Looked(look(&consumer, &stream.topics, None)?)).is_err() {
        return Ok(());
    }
    let Ok(places) = assigned.blocking_recv() else { return Ok(()) };
    let mine: HashSet<(String, i32)> = places.iter().map(|(of, _)| (of.topic.clone(), of.number)).collect();
    let mut assignment = TopicPartitionList::new();
    for (partition, next_offset) in &places {
        let Partition { topic, number, .. } = partition;
        assignment
            .add_partition_offset(topic, *number, Offset::Offset(*next_offset))
            .map_err(|error| kafka(&error, &format!("read the topic '{topic}'")))?;
    }
    consumer.assign(&assignment).map_err(|error| kafka(&error, "read the topics"))?;
    let mut gathering = Gathering::new(&stream.name, &stream.rules, places);
    let mut looked = Instant::now();
    while !tell.is_closed() {
        if let Some(batch) = gathering.gather(&consumer)?
            && tell.blocking_send(Told::Batch(batch)).is_err()
        {
            return Ok(());
        }
        if looked.elapsed() >= LOOK {
            let seen = Told::Looked(look(&consumer, &stream.topics, Some(&mine))?);
            looked = Instant::now();
            drop(tell.blocking_send(seen));
        }
    }
    Ok(())
}

/// Waits until a broker has answered at all, or it is known why none will.
fn reach(consumer: &Consumer, stream: &Stream) -> Result<()> {
    let serve = |time| drop(consumer.poll(time));
    let topic = stream.topics.first().map(String::as_str);
    let ask = |slice| consumer.fetch_metadata(topic, slice).map(drop);
    consumer.context().until_answered(PATIENCE, serve, ask).map_err(|unanswered| match unanswered {
        Unanswered::Diagnosed(error) => error,
        Unanswered::Failed(error) => kafka(&error, "ask for the topics"),
    })
}

/// Looks at the topics, and at the ends of these partitions, or of all.
fn look(consumer: &Consumer, topics: &[String], of: Option<&HashSet<(String, i32)>>) -> Result<Look> {
    let mut look = Look::default();
    for described in topic::permitted(consumer.client(), topics, PATIENCE)? {
        let name = &described.name;
        let doing = format!("read the topic '{name}'");
        let is_refused = described.permitted.is_some_and(|permitted| !permitted.read);
        let refused = is_refused.then_some(Code::TopicAuthorizationFailed);
        if let Some(found) = described.error.or(refused) {
            look.missing.push(code(found, &doing));
            continue;
        }
        let metadata = consumer.fetch_metadata(Some(name), PATIENCE).map_err(|error| kafka(&error, &doing))?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        for number in partitions.iter().map(|partition| partition.id()) {
            let topic_id = described.id.unwrap_or(Uuid::nil());
            let partition = Partition { topic: name.clone(), number, topic_id };
            if of.is_none_or(|of| of.contains(&(name.clone(), number))) {
                let (start, end) =
                    consumer.fetch_watermarks(name, number, PATIENCE).map_err(|error| kafka(&error, &doing))?;
                look.held.push(Held { partition: partition.clone(), offsets: start..end });
            }
            look.partitions.push(partition);
        }
    }
    look.partitions.sort();
    Ok(look)
}

/// Polled records on their way into a batch.
struct Gathering {
    /// By topic, the place of each partition among those assigned.
    places: HashMap<String, HashMap<i32, usize>>,
    /// What a message of each partition does not say itself.
    defaults: Vec<Defaults>,
    /// The offset after what was polled, of each partition.
    next_offsets: Vec<i64>,
}

impl Gathering {
    fn new(stream: &str, rules: &Arc<Rules>, assigned: Vec<(Partition, i64)>) -> Gathering {
        let mut places: HashMap<String, HashMap<i32, usize>> = HashMap::new();
        let (mut defaults, mut next_offsets) = (Vec::new(), Vec::new());
        for (place, (partition, next_offset)) in assigned.into_iter().enumerate() {
            let Partition { topic, number, topic_id } = partition;
            defaults.push(Defaults {
                now: DateTime::UNIX_EPOCH,
                is_arrival: false,
                // A message without an id gets one from its offset here, the same whenever it is read.
                place: Some(digest(&format!("{topic_id}/{topic}/{number}")).simple().to_string()),
                source_id: Some(stream.to_owned()),
                rules: rules.clone(),
            });
            next_offsets.push(next_offset);
            places.entry(topic).or_default().insert(number, place);
        }
        Gathering { places, defaults, next_offsets }
    }

    fn place(&self, topic: &str, partition: i32) -> Option<usize> {
        self.places.get(topic)?.get(&partition).copied()
    }

    /// What comes within a moment, as much as one transaction should take in. None if there is nothing new.
    fn gather(&mut self, consumer: &Consumer) -> Result<Option<Batch>, End> {
        let before = self.next_offsets.clone();
        let mut batch = Batch::default();
        let (mut bytes, mut until) = (0, None);
        loop {
            let wait = until.map_or(WAIT, |until: Instant| until.saturating_duration_since(Instant::now()));
            match consumer.poll(wait) {
                None => break,
                Some(Ok(record)) => {
                    until.get_or_insert_with(|| Instant::now() + Duration::from_millis(limits::STREAM_LINGER_MS));
                    bytes += record.payload().map_or(0, <[u8]>::len);
                    self.take(&record, &mut batch);
                    let records = batch.messages.len() + batch.refused.len();
                    if records >= limits::STREAM_RECORDS || bytes >= limits::STREAM_BYTES {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if trouble::passes(&error) => break,
                Some(Err(error)) => {
                    return Err(match error.rdkafka_error_code() {
                        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => End::OutOfRange,
                        _ => End::Failed(kafka(&error, "read the topics")),
                    });
                }
            }
        }
        consumer.context().check()?;
        // Markers of transactions, and what was taken back, are never handed out: ask where we are.
        let positions = consumer.position().map_err(|error| kafka(&error, "ask for the position"))?;
        for element in positions.elements() {
            if let (Some(place), Offset::Offset(offset)) =
                (self.place(element.topic(), element.partition()), element.offset())
            {
                self.next_offsets[place] = self.next_offsets[place].max(offset);
            }
        }
        batch.ends.clone_from(&self.next_offsets);
        Ok((batch.ends != before).then_some(batch))
    }

    fn take(&mut self, record: &BorrowedMessage<'_>, batch: &mut Batch) {
        let offset = record.offset();
        let Some(place) = self.place(record.topic(), record.partition()) else { return };
        if offset < self.next_offsets[place] {
            return;
        }
        self.next_offsets[place] = offset + 1;
        let line = offset.unsigned_abs();
        let defaults = &mut self.defaults[place];
        // When a message names no time, the record's is the nearest to it that stays the same.
        let at = record.timestamp().to_millis().and_then(DateTime::from_timestamp_millis);
        let at = at.filter(|at| limits::EVENT_YEARS.contains(&at.year()));
        defaults.is_arrival = at.is_some();
        defaults.now = at.unwrap_or(DateTime::UNIX_EPOCH);
        let read = match record.payload() {
            Some(value) => Message::parse(line, value, defaults),
            None => Err(Refusal { line, field: "line", reason: "has no value: it is a tombstone".into() }),
        };
        match read {
            Ok(message) => {
                batch.messages.push(message);
                batch.partitions.push(place);
            }
            Err(refusal) => batch.refused.push((place, refusal)),
        }
    }
}

fn kafka(error: &KafkaError, doing: &str) -> Error {
    match error.rdkafka_error_code() {
        Some(found) => code(found, doing).because(error.clone()),
        None => trouble::kafka(error, doing),
    }
}

/// As of delivery, but that it is reading that is not possible.
fn code(code: Code, doing: &str) -> Error {
    let error = trouble::code(code, doing);
    match code {
        Code::TopicAuthorizationFailed => error.help("Grant the principal DESCRIBE and READ on the topic."),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            error.help("Create the topic, or mend its name under `topics`. It is read as soon as it is there.")
        }
        _ => error,
    }
}
