//! The model of Kafka: transactional ids with their epochs, transactions, topics with ids, and requests that arrive late.

use std::collections::{BTreeMap, HashMap};

use rollcall::deliver::{
    cursor::{Cursor, Read},
    recover::Found,
};
use uuid::Uuid;

use super::log::Said;

/// A record, as a partition has it.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Under the key of a stream.
    Cursor(Uuid, Cursor),
    Said(Said),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Open,
    Committed,
    Aborted,
}

/// A transaction, with all that it wrote, in the order of writing.
#[derive(Debug)]
pub struct Transaction {
    pub state: State,
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
pub struct Topic {
    pub id: Uuid,
    /// Offsets below are deleted.
    pub start: usize,
    /// Each entry with its transaction; without one it is there at once.
    pub partitions: Vec<Vec<(Option<usize>, Entry)>>,
}

/// What the coordinator knows of a transactional id.
#[derive(Debug, Default)]
struct Producer {
    epoch: u64,
    open: Option<usize>,
}

/// A request of a producer with that epoch.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: String,
    pub epoch: u64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Write { topic: String, partition: usize, entries: Vec<Entry> },
    End { commit: bool },
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The epoch is an older one.
    Fenced,
    NoTopic,
}

/// A transaction that was committed, to be looked at by the witness.
pub struct Committed(pub usize);

#[derive(Debug, Default)]
pub struct Broker {
    pub topics: BTreeMap<String, Topic>,
    pub transactions: Vec<Transaction>,
    producers: HashMap<String, Producer>,
    /// Requests whose sender has given up on them; they arrive when they arrive.
    pub late: Vec<Request>,
    /// What consumers have read of topics that are gone: per partition, committed.
    pub archive: Vec<Vec<Said>>,
    topic_ids: u64,
    /// A topic went with records that were committed after: nobody has read them.
    pub unread: bool,
    /// A new producer fences nobody.
    pub unfenced: bool,
}

impl Broker {
    pub fn create(&mut self, name: &str, partitions: usize) {
        self.topic_ids += 1;
        let id = Uuid::from_u64_pair(7, self.topic_ids);
        self.topics.insert(name.to_owned(), Topic { id, start: 0, partitions: vec![Vec::new(); partitions] });
        self.archive.resize_with(self.archive.len().max(partitions), Vec::new);
    }

    /// Deletes a topic; what was committed has been read by then.
    pub fn delete(&mut self, name: &str) {
        let Some(topic) = self.topics.remove(name) else { return };
        let is_open = |at: &Option<usize>| at.is_some_and(|at| self.transactions[at].state == State::Open);
        self.unread |= topic.partitions.iter().flatten().any(|(transaction, _)| is_open(transaction));
        for (partition, entries) in topic.partitions.iter().enumerate() {
            let read: Vec<Said> = self.committed(entries).collect();
            self.archive[partition].extend(read);
        }
    }

    /// What a consumer of committed records has of a partition.
    fn committed<'a>(&'a self, entries: &'a [(Option<usize>, Entry)]) -> impl Iterator<Item = Said> + 'a {
        let is_there =
            |transaction: &Option<usize>| transaction.is_none_or(|at| self.transactions[at].state == State::Committed);
        entries.iter().filter(move |(transaction, _)| is_there(transaction)).filter_map(|(_, entry)| match entry {
            Entry::Said(said) => Some(*said),
            Entry::Cursor(..) => None,
        })
    }

    /// All that was ever told, partition by partition, in the order of a consumer that was there all the time.
    pub fn told(&self, topic: &str) -> Vec<Said> {
        let mut told = Vec::new();
        for (partition, archived) in self.archive.iter().enumerate() {
            told.extend(archived);
            if let Some(entries) = self.topics.get(topic).and_then(|topic| topic.partitions.get(partition)) {
                told.extend(self.committed(entries));
            }
        }
        told
    }

    /// `InitProducerId`: older producers of that id are fenced, what they had open is aborted.
    pub fn initialize(&mut self, id: &str) -> u64 {
        let producer = self.producers.entry(id.to_owned()).or_default();
        if self.unfenced {
            return producer.epoch;
        }
        producer.epoch += 1;
        let (epoch, open) = (producer.epoch, producer.open.take());
        if let Some(open) = open {
            self.transactions[open].state = State::Aborted;
        }
        epoch
    }

    /// The coordinator ends transactions that take too long, and fences who began them.
    pub fn time_out(&mut self) {
        let mut ids: Vec<String> = self.producers.keys().cloned().collect();
        ids.sort();
        for id in ids {
            if self.producers[&id].open.is_some() {
                self.initialize(&id);
            }
        }
    }

    /// Does what a request asks for, if its producer is not fenced.
    pub fn handle(&mut self, request: &Request) -> Result<Option<Committed>, Refusal> {
        let producer = self.producers.entry(request.id.clone()).or_default();
        if producer.epoch != request.epoch {
            return Err(Refusal::Fenced);
        }
        match &request.what {
            What::Write { topic, partition, entries } => {
                let Some(topic) = self.topics.get_mut(topic) else { return Err(Refusal::NoTopic) };
                let open = *producer.open.get_or_insert_with(|| {
                    self.transactions.push(Transaction { state: State::Open, entries: Vec::new() });
                    self.transactions.len() - 1
                });
                for entry in entries {
                    topic.partitions[*partition].push((Some(open), entry.clone()));
                    self.transactions[open].entries.push(entry.clone());
                }
                Ok(None)
            }
            // Whichever transaction is open is the one that ends: a late request may not mean it.
            What::End { commit } => {
                let Some(open) = producer.open.take() else { return Ok(None) };
                self.transactions[open].state = if *commit { State::Committed } else { State::Aborted };
                Ok(commit.then_some(Committed(open)))
            }
        }
    }

    /// Without transactions: there at once.
    pub fn write(&mut self, topic: &str, partition: usize, entries: &[Entry]) -> Result<(), Refusal> {
        let Some(topic) = self.topics.get_mut(topic) else { return Err(Refusal::NoTopic) };
        topic.partitions[partition].extend(entries.iter().map(|entry| (None, entry.clone())));
        Ok(())
    }

    /// The last committed cursor of a stream; `None` while a transaction is open there.
    pub fn cursor(&self, topic: &str, stream: Uuid) -> Option<Read> {
        let topic = self.topics.get(topic)?;
        let entries = &topic.partitions[0];
        let mut found = Found::Nothing;
        for (transaction, entry) in &entries[topic.start..] {
            match transaction.map_or(State::Committed, |at| self.transactions[at].state) {
                State::Open => return None,
                State::Aborted => {}
                State::Committed => match entry {
                    Entry::Cursor(key, cursor) if *key == stream => found = Found::Cursor(cursor.clone()),
                    _ => {}
                },
            }
        }
        Some(Read { found, start: topic.start as i64, end: entries.len() as i64 })
    }

    /// Whether nobody has a transaction open.
    pub fn is_quiet(&self) -> bool {
        self.late.is_empty() && self.producers.values().all(|producer| producer.open.is_none())
    }
}
