//! How does a stretch of the log reach Kafka once? One transaction, with its cursor, by a producer above all doubt.
//!
//! Everything here blocks, so it runs on a plain thread ([`super::thread`]), never on a tokio worker.
//!
//! ```text
//! open:  new producer → init_transactions (older instances are fenced) → read the cursor
//! tell:  begin → cursor {next: from} → records → cursor {next: to, run, chain} → drain → commit
//! ```
//!
//! **Why a new producer after any doubt.** A commit that was delayed on the way can reach the coordinator after the producer
//! has gone on, and then ends the *next* transaction, half written (KAFKA-17754). librdkafka repeats a commit by itself after
//! `socket.timeout.ms`, or as soon as a connection breaks, so a commit may have such a twin even when it succeeds in the end. A new producer has a new epoch,
//! which the coordinator checks, so no twin of an older one can do harm. Hence: one transaction after the other on the same
//! producer only while each was committed promptly, and no connection broke.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
    types::RDKafkaErrorCode as Code,
};
use uuid::Uuid;

use super::{
    crc,
    cursor::{self, Cursor, End, Read},
    page::Page,
    watch::{CURSOR, Seen, Watch, breathe, hear},
};
use crate::{
    Error, Result,
    config::Delivery,
    fault::{self, Point, Safeguard},
    kafka::{
        cluster::{Cluster, Unanswered},
        properties::{self, Timeouts},
        settings::Settings,
        topic::{self, Topic},
        trouble,
    },
};

/// One stream's way into Kafka.
pub struct Producer {
    name: String,
    settings: Settings,
    delivery: Delivery,
    stream: Uuid,
    cursor_topic: String,
    /// Whether the cluster answers questions about topics.
    administers: bool,
    timeouts: Timeouts,
    /// `None` before the first use and after every doubt.
    inner: Option<BaseProducer<Watch>>,
}

/// Why a stretch was not told; the producer is gone in each case, and whatever it had written is never committed.
#[derive(Debug)]
pub enum Failure {
    /// Records that can never be stored, by their index in the page. `certain` if each is known to be at fault itself;
    /// else the fault is of one among them.
    Refused { records: Vec<(usize, Code)>, certain: bool },
    /// Another instance has taken over.
    Fenced(Error),
    /// It may have been committed or not: only the cursor knows.
    Doubt(Error),
}

impl Producer {
    /// Nothing is connected yet.
    pub fn new(name: &str, settings: Settings, delivery: Delivery, stream: Uuid, cursor_topic: String) -> Producer {
        let (name, timeouts) = (name.to_owned(), properties::timeouts(&settings.properties));
        Producer { name, settings, delivery, stream, cursor_topic, administers: true, timeouts, inner: None }
    }

    fn config(&self, cluster: &Cluster, stream: Uuid) -> ClientConfig {
        let mut config = properties::producing(cluster.config(), &self.settings.properties);
        match self.delivery {
            Delivery::ExactlyOnce => config.set("transactional.id", format!("rollcall-{stream}")),
            Delivery::AtLeastOnce => config.remove("transaction.timeout.ms"),
        };
        config
    }

    /// For the in-process cluster, which answers no administrative request: its topics are taken to be there.
    pub fn without_administration(mut self) -> Producer {
        self.administers = false;
        // It keeps 5 MiB of a partition: compressed, that is enough for whoever reads along.
        self.settings.properties.entry("compression.type".into()).or_insert_with(|| "lz4".into());
        self
    }

    /// Fences whoever still has a transaction of another stream under way, which this one took the place of.
    pub fn fence(&mut self, stream: Uuid) -> Result<(), Failure> {
        let cluster = Cluster::open(&self.name, &self.settings).map_err(Failure::Doubt)?;
        self.initialized(&cluster, stream).map(drop)
    }

    /// A new producer. Under exactly_once older instances are fenced when it returns, and what it returns is the cursor
    /// that no older instance can move any more.
    pub fn open(&mut self) -> Result<Read, Failure> {
        self.inner = None;
        // Certificates and tokens are read anew for each producer: after a refusal, rotated ones are picked up.
        let cluster = Cluster::open(&self.name, &self.settings).map_err(Failure::Doubt)?;
        let read = if Safeguard::CursorAfterFence.is_on() { None } else { Some(self.read_cursor(&cluster)?) };
        let inner = self.initialized(&cluster, self.stream)?;
        fault::point(Point::AfterFence);
        if self.administers {
            cursor::ensure(&cluster, &self.cursor_topic, self.timeouts.socket).map_err(Failure::Doubt)?;
            tracing::debug!(topic = self.cursor_topic, "the cursor topic is there");
        }
        // Only now: the other way round an older instance may commit between our reading and our fencing.
        let read = read.map_or_else(|| self.read_cursor(&cluster), Ok)?;
        self.inner = Some(inner);
        Ok(read)
    }

    /// A producer for a stream, whose older ones are fenced when it returns; without transactions there is nothing to fence by.
    fn initialized(&self, cluster: &Cluster, stream: Uuid) -> Result<BaseProducer<Watch>, Failure> {
        let watch = Watch::new(cluster.context());
        let inner = cluster.producer(&self.config(cluster, stream), watch).map_err(Failure::Doubt)?;
        if self.delivery == Delivery::AtLeastOnce {
            return Ok(inner);
        }
        let patience = self.timeouts.socket + Duration::from_secs(5);
        let serve = |time| {
            inner.poll(time);
        };
        let initialize = |slice| inner.init_transactions(slice);
        inner.context().context.until_answered(patience, serve, initialize).map_err(|failed| match failed {
            Unanswered::Diagnosed(error) => Failure::Doubt(error),
            Unanswered::Failed(error) => self.failure(&inner, &error, "start a transactional producer"),
        })?;
        tracing::debug!("older instances are fenced");
        Ok(inner)
    }

    fn read_cursor(&self, cluster: &Cluster) -> Result<Read, Failure> {
        let patience = self.timeouts.transaction + self.timeouts.socket;
        let read = cursor::read(cluster, &self.cursor_topic, self.stream, patience).map_err(Failure::Doubt)?;
        tracing::debug!(?read, "the cursor is read");
        fault::point(Point::AfterCursorRead);
        Ok(read)
    }

    /// Asks about topics by the open producer.
    pub fn describe(&self, names: &[String]) -> Result<Vec<Topic>> {
        if !self.administers {
            let taken = |name: &String| Topic { name: name.clone(), id: None, error: None, permitted: None };
            return Ok(names.iter().map(taken).collect());
        }
        let inner = self.inner.as_ref().ok_or_else(|| Error::internal("no producer is open"))?;
        topic::describe(inner.client(), names, self.timeouts.socket)
    }

    /// Tells a page in one transaction with its cursor. On failure the producer is dropped, unused ever after.
    pub fn tell(&mut self, page: &Arc<Page>) -> Result<(), Failure> {
        let inner = self.inner.take().ok_or_else(|| Failure::Doubt(Error::internal("no producer is open")))?;
        let sure = match self.delivery {
            Delivery::ExactlyOnce => self.transact(&inner, page)?,
            Delivery::AtLeastOnce => self.send(&inner, page)?,
        };
        if sure {
            self.inner = Some(inner);
        }
        Ok(())
    }

    /// Whether the next transaction may be this producer's too.
    pub fn is_open(&self) -> bool {
        self.inner.is_some()
    }

    /// Whether Kafka would store this record, asked in a transaction of its own that is never committed.
    pub fn probe(&mut self, page: &Arc<Page>, record: usize) -> Result<Option<Code>, Failure> {
        let inner = self.inner.take().ok_or_else(|| Failure::Doubt(Error::internal("no producer is open")))?;
        self.check(&inner, inner.begin_transaction(), "begin a transaction")?;
        if let Err(code) = self.enqueue(&inner, page, record)? {
            return Ok(Some(code));
        }
        self.drain(&inner)?;
        let failed = inner.context().with(|seen| std::mem::take(&mut seen.failed));
        Ok(failed.into_iter().find_map(|(_, code)| trouble::permanent(code).then_some(code)))
    }

    fn transact(&self, inner: &BaseProducer<Watch>, page: &Arc<Page>) -> Result<bool, Failure> {
        hear(inner);
        inner.context().with(|seen| *seen = Seen::default());
        self.check(inner, inner.begin_transaction(), "begin a transaction")?;
        fault::point(Point::AfterBegin);
        self.cursor(inner, &Cursor { stream: self.stream, next: page.from, end: None })?;
        fault::point(Point::AfterFirstCursor);
        let refused = self.enqueue_all(inner, page)?;
        if refused.is_empty() {
            self.cursor(inner, &self.end(page))?;
            fault::point(Point::AfterLastCursor);
        }
        self.drain(inner)?;
        self.stored(inner, refused)?;
        fault::point(Point::AfterDrain);
        let started = Instant::now();
        // Everything is drained, so this waits for the coordinator alone. (Undrained, rust-rdkafka would flush in slices of 100 ms.)
        self.check(inner, inner.commit_transaction(self.timeouts.transaction), "commit a transaction")?;
        fault::point(Point::AfterCommit);
        hear(inner);
        let uneventful = inner.context().with(|seen| seen.error.is_none() && !seen.broken);
        let sure = uneventful && started.elapsed() < self.timeouts.socket;
        Ok(sure || !Safeguard::NewProducerAfterDoubt.is_on())
    }

    /// At least once: all stored, or told again from the cursor in Postgres.
    fn send(&self, inner: &BaseProducer<Watch>, page: &Arc<Page>) -> Result<bool, Failure> {
        inner.context().with(|seen| *seen = Seen::default());
        // First: it is to be there wherever any of the records is.
        self.cursor(inner, &self.end(page))?;
        let refused = self.enqueue_all(inner, page)?;
        self.drain(inner)?;
        self.stored(inner, refused)?;
        fault::point(Point::AfterDrain);
        Ok(true)
    }

    /// Hands all records to librdkafka; the result are those that it refuses by their size or form.
    fn enqueue_all(&self, inner: &BaseProducer<Watch>, page: &Arc<Page>) -> Result<Vec<(usize, Code)>, Failure> {
        let mut refused = Vec::new();
        for index in 0..page.records.len() {
            if index == page.records.len() / 2 {
                fault::point(Point::AmidRecords);
            }
            if let Err(code) = self.enqueue(inner, page, index)? {
                refused.push((index, code));
            }
            if index % 512 == 0 {
                inner.poll(Duration::ZERO);
            }
        }
        fault::point(Point::AfterRecords);
        Ok(refused)
    }

    fn enqueue(
        &self,
        inner: &BaseProducer<Watch>,
        page: &Arc<Page>,
        index: usize,
    ) -> Result<Result<(), Code>, Failure> {
        let told = &page.records[index];
        let position = told.position.to_string();
        let stream = page.stream_text.as_str();
        let mut headers = OwnedHeaders::new_with_capacity(told.record.headers.len() + 4);
        for (key, value) in &told.record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let (id, crc) = (told.message_id.as_str(), crc::text(stream, &position, &told.message_id, &told.record));
        let ours = [("rollcall-stream", stream), ("rollcall-position", &position), ("rollcall-message-id", id)];
        for (key, value) in ours.into_iter().chain([(crc::HEADER, &*crc)]) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut record = BaseRecord::with_opaque_to(&told.record.topic, index).headers(headers);
        if let Some(value) = &told.record.value {
            record = record.payload(value.as_slice());
        }
        if let Some(key) = &told.record.key {
            record = record.key(key.as_str());
        }
        if let Some(partition) = told.record.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp_ms) = told.record.timestamp_ms {
            record = record.timestamp(timestamp_ms);
        }
        self.enqueue_record(inner, record)
    }

    /// The cursor behind a page.
    fn end(&self, page: &Page) -> Cursor {
        let end = End { run: page.run, chain: page.chain.to_hex() };
        Cursor { stream: self.stream, next: page.to, end: Some(end) }
    }

    fn cursor(&self, inner: &BaseProducer<Watch>, cursor: &Cursor) -> Result<(), Failure> {
        let (key, value) = (self.stream.to_string(), cursor.to_json());
        let record = BaseRecord::with_opaque_to(&self.cursor_topic, CURSOR).key(key.as_str()).payload(value.as_bytes());
        match self.enqueue_record(inner, record.partition(cursor::PARTITION))? {
            Ok(()) => Ok(()),
            Err(code) => Err(Failure::Doubt(trouble::code(code, "write the cursor"))),
        }
    }

    /// Waits while librdkafka's queue is full; other refusals are the record's (inner result) or the producer's.
    fn enqueue_record(
        &self,
        inner: &BaseProducer<Watch>,
        mut record: BaseRecord<'_, str, [u8], usize>,
    ) -> Result<Result<(), Code>, Failure> {
        let deadline = Instant::now() + self.timeouts.transaction;
        loop {
            match inner.send(record) {
                Ok(()) => return Ok(Ok(())),
                Err((error, back))
                    if error.rdkafka_error_code() == Some(Code::QueueFull) && Instant::now() < deadline =>
                {
                    record = back;
                    breathe(inner);
                }
                Err((error, _)) => match error.rdkafka_error_code() {
                    Some(code) if trouble::permanent(code) => return Ok(Err(code)),
                    _ => return Err(self.failure(inner, &error, "send a record")),
                },
            }
        }
    }

    /// Waits until every record was stored or failed, without long polls.
    fn drain(&self, inner: &BaseProducer<Watch>) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeouts.transaction;
        while inner.in_flight_count() > 0 {
            breathe(inner);
            if Instant::now() > deadline {
                return Err(Failure::Doubt(
                    Error::wait("records were not stored in time")
                        .help("Check the brokers' load, and that min.insync.replicas is met."),
                ));
            }
        }
        Ok(())
    }

    /// Fails unless every record handed over was stored.
    fn stored(&self, inner: &BaseProducer<Watch>, refused: Vec<(usize, Code)>) -> Result<(), Failure> {
        let (mut failed, error) = inner.context().with(|seen| (std::mem::take(&mut seen.failed), seen.error));
        if failed.is_empty() && refused.is_empty() {
            return Ok(());
        }
        if let Some(fenced) = fenced(inner, "store records") {
            return Err(fenced);
        }
        let cursor = failed.iter().any(|(record, code)| *record == CURSOR && trouble::permanent(*code));
        let suspects: Vec<_> = failed.iter().filter(|(_, code)| trouble::permanent(*code)).copied().collect();
        if !refused.is_empty() {
            return Err(Failure::Refused { records: refused, certain: true });
        }
        if !suspects.is_empty() && !cursor {
            let certain = suspects.len() == 1 || suspects.iter().all(|(_, code)| trouble::attributable(*code));
            return Err(Failure::Refused { records: suspects, certain });
        }
        // Purged records say only that something else went wrong before.
        failed.sort_by_key(|(_, code)| matches!(code, Code::PurgeQueue | Code::PurgeInflight | Code::MessageTimedOut));
        let code = failed.first().map_or(Code::Unknown, |(_, code)| *code);
        let code = if code == Code::MessageTimedOut { error.unwrap_or(code) } else { code };
        Err(Failure::Doubt(trouble::code(code, "store records")))
    }

    fn check(&self, inner: &BaseProducer<Watch>, result: Result<(), KafkaError>, doing: &str) -> Result<(), Failure> {
        result.map_err(|error| self.failure(inner, &error, doing))
    }

    /// What a failed call means. A timeout alone says little: the last error of the client says why.
    fn failure(&self, inner: &BaseProducer<Watch>, error: &KafkaError, doing: &str) -> Failure {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        if let Some(fenced) = fenced(inner, doing) {
            return fenced;
        }
        if trouble::fenced(code) {
            return Failure::Fenced(trouble::kafka(error, doing));
        }
        match (code, inner.context().with(|seen| seen.error)) {
            (Code::OperationTimedOut | Code::Unknown, Some(why)) => {
                let diagnosis = inner.context().context.check().err();
                Failure::Doubt(diagnosis.unwrap_or_else(|| trouble::code(why, doing)))
            }
            _ => Failure::Doubt(trouble::kafka(error, doing)),
        }
    }
}

/// Being fenced is fatal for a client; records and calls may fail by other codes in its wake.
fn fenced(inner: &BaseProducer<Watch>, doing: &str) -> Option<Failure> {
    let (code, _) = inner.client().fatal_error()?;
    trouble::fenced(code).then(|| Failure::Fenced(trouble::code(code, doing)))
}
