//! What does a consumer of committed records see? Reads a topic from its beginning; writes nothing, joins no group.

use std::time::Duration;

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use super::Target;
use crate::{
    Error, Result,
    kafka::{
        cluster::{Cluster, Context},
        trouble,
    },
};

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A consumer of one topic's every partition.
pub struct Readback {
    consumer: BaseConsumer<Context>,
    topic: String,
}

impl Readback {
    /// From the beginning of a topic of the target's cluster.
    ///
    /// # Errors
    /// If there is no such topic, or the cluster does not answer within `timeout`.
    pub fn of(target: &Target, topic: &str, timeout: Duration) -> Result<Readback> {
        let cluster = Cluster::open(&target.name, &target.settings)?;
        let consumer = cluster.consumer(&[("isolation.level", "read_committed")])?;
        let doing = format!("read the topic '{topic}'");
        let metadata = consumer.fetch_metadata(Some(topic), timeout).map_err(|error| trouble::kafka(&error, &doing))?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(Error::settings(format!("there is no topic '{topic}'")).help("Create it, or name another."));
        }
        let mut assignment = TopicPartitionList::new();
        for partition in partitions {
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .map_err(|error| trouble::kafka(&error, &doing))?;
        }
        consumer.assign(&assignment).map_err(|error| trouble::kafka(&error, &doing))?;
        Ok(Readback { consumer, topic: topic.to_owned() })
    }

    /// The next record, if one comes within `timeout`.
    ///
    /// # Errors
    /// What does not pass by itself.
    pub fn next(&self, timeout: Duration) -> Result<Option<Read>> {
        match self.consumer.poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(Read {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
            })),
            Some(Err(error)) if trouble::passes(&error) => Ok(None),
            Some(Err(error)) => Err(trouble::kafka(&error, &format!("read the topic '{}'", self.topic))),
        }
    }
}
