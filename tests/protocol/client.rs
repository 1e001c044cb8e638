//! How the model's sessions speak to its Kafka: as `deliver::producer` does, request by request, each of which may be lost or late.

use rdkafka::types::RDKafkaErrorCode as Code;
use rollcall::{
    Error,
    deliver::{
        cursor::{Cursor, End, Read},
        outside::{Failure, Page},
    },
};
use uuid::Uuid;

use super::{
    broker::{Entry, Refusal, Request, What},
    log::{self, PARTITIONS, TOPIC, partition, said},
    steps::Steps,
    world::{CURSORS, Safeguard, Shared, travel},
};

/// A producer with its epoch.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    pub stream: Uuid,
    epoch: u64,
}

fn doubt() -> Failure {
    Failure::Doubt(Error::wait("Kafka does not answer"))
}

/// What a request may cost: lost or late before it is done, or without its answer after.
const SELDOM: usize = 120;

/// A new producer, which fences the older ones of its stream.
pub async fn initialize(world: &Shared, stream: Uuid) -> Result<Producer, Failure> {
    travel(world).await;
    let epoch = {
        let mut world = world.borrow_mut();
        if world.goes_wrong(SELDOM) {
            return Err(doubt());
        }
        let epoch = world.kafka.initialize(&stream.to_string());
        world.tell(|| format!("  {stream} has the new epoch {epoch}"));
        epoch
    };
    travel(world).await;
    Ok(Producer { stream, epoch })
}

/// As `Producer::open`: fence, then read the cursor.
pub async fn open(world: &Shared, stream: Uuid) -> Result<(Producer, Read), Failure> {
    if !world.borrow().has(Safeguard::CursorAfterFence) {
        let read = read(world, stream).await?;
        return Ok((initialize(world, stream).await?, read));
    }
    let at_least_once = world.borrow().at_least_once;
    let producer = match at_least_once {
        true => Producer { stream, epoch: 0 },
        false => initialize(world, stream).await?,
    };
    Ok((producer, read(world, stream).await?))
}

/// Reads the cursor topic to its end, once no transaction is open there; makes it where it is missing.
async fn read(world: &Shared, stream: Uuid) -> Result<Read, Failure> {
    let read = || {
        let mut world = world.borrow_mut();
        if !world.kafka.topics.contains_key(CURSORS) {
            world.kafka.create(CURSORS, 1);
        }
        world.kafka.cursor(CURSORS, stream)
    };
    for _ in 0..300 {
        travel(world).await;
        if let Some(read) = read() {
            return Ok(read);
        }
        Steps(1).await;
    }
    Err(doubt())
}

impl Producer {
    async fn send(&self, world: &Shared, what: What) -> Result<(), Failure> {
        let request = Request { id: self.stream.to_string(), epoch: self.epoch, what };
        travel(world).await;
        let done = {
            let mut world = world.borrow_mut();
            if world.goes_wrong(SELDOM) {
                if world.dice.one_in(2) {
                    world.kafka.late.push(request);
                }
                return Err(doubt());
            }
            world.handle(&request)
        };
        travel(world).await;
        match done {
            Err(Refusal::Fenced) => Err(Failure::Fenced(Error::wait("fenced"))),
            Err(Refusal::NoTopic) => Err(doubt()),
            Ok(()) if world.borrow_mut().goes_wrong(SELDOM) => Err(doubt()),
            Ok(()) => Ok(()),
        }
    }

    /// As `Producer::transact`. The result says whether it went uneventfully.
    pub async fn transact(&self, world: &Shared, page: &Page) -> Result<bool, Failure> {
        let begin = Cursor { stream: self.stream, next: page.from, end: None };
        self.send(world, write(CURSORS, 0, vec![Entry::Cursor(self.stream, begin)])).await?;
        for (partition, entries) in batches(world, self.stream, page)? {
            self.send(world, write(TOPIC, partition, entries)).await?;
        }
        self.send(world, write(CURSORS, 0, vec![self.end(page)])).await?;
        self.send(world, What::End { commit: true }).await?;
        // librdkafka repeats a commit by itself: then a twin of it may still be on its way.
        let twin = Request { id: self.stream.to_string(), epoch: self.epoch, what: What::End { commit: true } };
        let mut world = world.borrow_mut();
        let eventful = world.goes_wrong(20);
        if eventful {
            world.kafka.late.push(twin);
        }
        Ok(!eventful)
    }

    /// As `Producer::send`, without transactions: the cursor first.
    pub async fn store(&self, world: &Shared, page: &Page) -> Result<bool, Failure> {
        let mut batches = batches(world, self.stream, page)?;
        batches.insert(0, (usize::MAX, vec![self.end(page)]));
        for (partition, entries) in batches {
            travel(world).await;
            let mut world = world.borrow_mut();
            if world.goes_wrong(SELDOM) {
                return Err(doubt());
            }
            let (topic, partition) = if partition == usize::MAX { (CURSORS, 0) } else { (TOPIC, partition) };
            if world.kafka.write(topic, partition, &entries).is_err() {
                return Err(doubt());
            }
            world.witness.stored(&entries);
        }
        Ok(true)
    }

    fn end(&self, page: &Page) -> Entry {
        let end = End { run: page.run, chain: page.chain.to_hex() };
        Entry::Cursor(self.stream, Cursor { stream: self.stream, next: page.to, end: Some(end) })
    }
}

fn write(topic: &str, partition: usize, entries: Vec<Entry>) -> What {
    What::Write { topic: topic.to_owned(), partition, entries }
}

/// The records by partition, the partitions in any order; or those that Kafka refuses.
fn batches(world: &Shared, stream: Uuid, page: &Page) -> Result<Vec<(usize, Vec<Entry>)>, Failure> {
    let all = 0..page.records.len();
    let person = |at: usize| page.records[at].profile.0;
    let refused: Vec<usize> = all.clone().filter(|at| log::is_refused(person(*at))).collect();
    let mut world = world.borrow_mut();
    if let Some(first) = refused.first() {
        // A broker refuses the batch; the client may know better which record it is.
        let certain = world.dice.one_in(2);
        let of_batch = |at: &usize| partition(person(*at)) == partition(person(*first));
        let suspects = if certain { refused.clone() } else { all.filter(of_batch).collect() };
        let records = suspects.into_iter().map(|at| (at, Code::MessageSizeTooLarge)).collect();
        return Err(Failure::Refused { records, certain });
    }
    let mut batches: Vec<(usize, Vec<Entry>)> = (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
    for told in &page.records {
        batches[partition(told.profile.0)].1.push(Entry::Said(said(stream, told)));
    }
    batches.retain(|(_, entries)| !entries.is_empty());
    world.dice.shuffle(&mut batches);
    Ok(batches)
}
