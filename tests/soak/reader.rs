//! What does a consumer of committed records see, at every instant? Each place once, in order, and none left out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use roaring::RoaringTreemap;
use serde_json::Value;

use super::{Done, machines::Machines};
use crate::support::kafka;

/// Places that are not there while others after them are: a consumer comes to the partitions of one transaction one after the
/// other, and waits where another transaction is still open; but no longer than that takes.
const GRACE: Duration = Duration::from_secs(150);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub records: u64,
    pub transactions: u64,
    pub streams: usize,
    /// By audience.
    pub members: BTreeMap<String, BTreeSet<String>>,
}

/// One stream of one lane.
#[derive(Debug, Default)]
struct Stream {
    told: RoaringTreemap,
    /// As the cursor says.
    next: u64,
    /// It tells a log again.
    again: bool,
    /// The last place in each partition.
    last: HashMap<i32, u64>,
    /// Since when something is missing, and how much was there then.
    gap: Option<(Instant, u64, u64)>,
}

type Streams = HashMap<String, Stream>;

pub struct Reader {
    addresses: String,
    topic: String,
    told: AtomicU64,
    at_end: AtomicBool,
    wrong: Mutex<Option<String>>,
}

impl Reader {
    pub fn new(machines: &Machines) -> Reader {
        Reader {
            addresses: machines.addresses.clone(),
            topic: machines.world.topic.clone(),
            told: AtomicU64::new(0),
            at_end: AtomicBool::new(false),
            wrong: Mutex::new(None),
        }
    }

    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Whether everything that is there was read, and nothing of it is missing.
    pub fn is_at_end(&self) -> bool {
        self.at_end.load(Ordering::Relaxed)
    }

    /// Fails with the first thing that was wrong.
    pub fn is_fine(&self) {
        if let Some(wrong) = &*self.wrong.lock().unwrap() {
            panic!("{wrong}");
        }
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().get_or_insert(what);
    }

    /// Reads on and on, until the soak is over and everything is read.
    pub fn read(&self, done: &Done, ended: &AtomicBool) -> Seen {
        let (cursors, changes) = (self.consumer(&self.cursors(), 1, ended), self.consumer(&self.topic, 3, ended));
        let (mut seen, mut streams, mut ends) = (Seen::default(), Streams::new(), BTreeSet::new());
        while !ended.load(Ordering::Relaxed) {
            for (of, consumer) in [("cursors", &cursors), ("changes", &changes)] {
                match consumer.poll(Duration::from_millis(5)) {
                    Some(Ok(message)) => {
                        ends.remove(&(of, message.partition()));
                        self.at_end.store(false, Ordering::Relaxed);
                        match of {
                            "cursors" => self.cursor(&message, &mut streams, &mut seen),
                            _ => self.record(&message, &mut streams, &mut seen, done),
                        }
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => drop(ends.insert((of, partition))),
                    // Brokers die; what is wrong for good shows in what is missing.
                    Some(Err(_)) | None => {}
                }
            }
            if ends.len() == 4 {
                let whole = streams.iter_mut().all(|(name, stream)| self.is_whole(name, stream, done));
                self.at_end.store(whole, Ordering::Relaxed);
            }
        }
        seen.streams = streams.len();
        seen
    }

    fn cursors(&self) -> String {
        format!("{}.cursors", self.topic)
    }

    fn consumer(&self, topic: &str, partitions: i32, ended: &AtomicBool) -> BaseConsumer {
        let mut config = kafka::config(&self.addresses);
        config
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let is_there = || {
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(2));
            metadata.is_ok_and(|metadata| metadata.topics()[0].partitions().len() == partitions as usize)
        };
        // The first delivery makes the cursor topic.
        while !is_there() && !ended.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&assignment).expect("assigned");
        consumer
    }

    fn cursor(&self, message: &BorrowedMessage<'_>, streams: &mut Streams, seen: &mut Seen) {
        let cursor: Value = serde_json::from_slice(message.payload().unwrap_or_default()).expect("a cursor is JSON");
        let stream =
            streams.entry(String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned()).or_default();
        let next = cursor["next"].as_u64().expect("a place");
        match cursor.get("run").is_some() {
            // The beginning of a transaction stands where the one before has ended.
            false if next != stream.next => {
                self.wrong(format!("I4: told from {next} on, where {} was reached", stream.next))
            }
            false => {}
            true if next <= stream.next => self.wrong(format!("I4: the cursor goes from {} to {next}", stream.next)),
            true => {
                seen.transactions += 1;
                stream.next = next;
            }
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>, streams: &mut Streams, seen: &mut Seen, done: &Done) {
        let headers = message.headers().expect("ours have headers");
        let header = |name: &str| {
            let header = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
            String::from_utf8_lossy(header.expect("ours have it")).into_owned()
        };
        let (name, position) = (header("rollcall-stream"), header("rollcall-position").parse().expect("a place"));
        let starts = done.starts.load(Ordering::Relaxed);
        let stream = streams.entry(name).or_insert_with(|| Stream { again: starts > 0, ..Stream::default() });
        if !stream.told.insert(position) {
            self.wrong(format!("I2: {position} is told twice"));
        }
        if let Some(last) = stream.last.insert(message.partition(), position)
            && last >= position
        {
            self.wrong(format!("I3: {position} comes after {last} in partition {}", message.partition()));
        }
        seen.records += 1;
        self.told.store(seen.records, Ordering::Relaxed);
        let Some(payload) = message.payload() else { return };
        let event: Value = serde_json::from_slice(payload).expect("JSON");
        let key = event["context"]["personas"]["computation_key"].as_str().expect("a key").to_owned();
        let user = event["userId"].as_str().expect("a user").to_owned();
        let entered = event["traits"][&key] == Value::Bool(true);
        let members = seen.members.entry(key).or_default();
        if entered {
            members.insert(user)
        } else {
            members.remove(&user)
        };
    }

    /// Whether [0, cursor) is there, and nothing else. Where a person was forgotten since, an older change cannot be told any more.
    fn is_whole(&self, name: &str, stream: &mut Stream, done: &Done) -> bool {
        let (told, next) = (stream.told.len(), stream.next);
        let highest = stream.told.max().map_or(0, |highest| highest + 1);
        let may_lack = stream.again && done.forgets.load(Ordering::Relaxed) > 0;
        if (told == next || may_lack) && highest <= next {
            stream.gap = None;
            return true;
        }
        match stream.gap {
            Some((since, before, to)) if (before, to) == (told, next) => {
                if since.elapsed() > GRACE {
                    self.wrong(format!(
                        "I4: of stream {name} {told} are told up to {highest}, and the cursor says {next}"
                    ));
                }
            }
            _ => stream.gap = Some((Instant::now(), told, next)),
        }
        false
    }
}
