//! Which topics does a destination need that are not there, and how are they made? What is there is never changed.

use std::time::Duration;

use rdkafka::{
    admin::{AdminOptions, NewTopic, TopicReplication},
    metadata::Metadata,
    types::RDKafkaErrorCode as Code,
};
use serde::Serialize;

use super::cursor;
use crate::{
    Error, Result,
    config::{self, Delivery},
    kafka::{
        cluster::Cluster,
        topics::{list, metadata, named},
        trouble,
    },
};

const MS_A_DAY: i64 = 24 * 60 * 60 * 1_000;

/// How new topics are made. What is not given is the brokers' own default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Partitions of a topic for records. The cursor topic always has one.
    pub partitions: Option<u16>,
    /// Copies of each partition.
    pub replicas: Option<u16>,
    /// How many copies must have a record before it counts as stored.
    pub min_insync: Option<u16>,
    /// For how many days records are kept. The cursor topic keeps its records by compaction.
    pub retention_days: Option<u32>,
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// What the mappings make.
    Records,
    /// How far each stream has been told.
    Cursors,
}

/// What became of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was there before, and was left as it is.
    Exists,
    /// It is made now.
    Created,
    /// It is not there; the brokers would make it (dry run).
    Missing,
    /// The brokers do not make it.
    Refused,
}

/// A topic that a destination needs.
#[derive(Debug)]
pub struct Needed {
    /// Its name.
    pub topic: String,
    /// What it is for.
    pub holds: Holds,
    /// What became of it, or why the brokers refuse it.
    pub made: Result<State>,
}

/// Makes the topics that a destination's enabled mappings name outright, and its cursor topic, where they are missing. With
/// `is_dry_run` the brokers are asked whether they would. Blocks; not for a tokio worker.
///
/// # Errors
/// The diagnosis, if the cluster cannot be reached; what it refuses to make is told by topic.
pub fn create(
    cluster: &Cluster,
    destination: &config::Destination,
    shape: &Shape,
    is_dry_run: bool,
    timeout: Duration,
) -> Result<Vec<Needed>> {
    let before = metadata(cluster, timeout)?;
    let there: Vec<String> = list(&before).into_iter().map(|listed| listed.topic).collect();
    let mut wanted: Vec<(String, Holds)> =
        named(destination).into_iter().map(|topic| (topic, Holds::Records)).collect();
    if destination.delivery == Delivery::ExactlyOnce {
        wanted.push((destination.cursor_topic.clone(), Holds::Cursors));
    }
    let admin = cluster.admin()?;
    let options =
        AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout)).validate_only(is_dry_run);
    let retention_ms = shape.retention_days.map(|days| (i64::from(days) * MS_A_DAY).to_string());
    let min_insync = shape.min_insync.map(|copies| copies.to_string());
    let mut needed = Vec::new();
    for (topic, holds) in wanted {
        if there.contains(&topic) {
            needed.push(Needed { topic, holds, made: Ok(State::Exists) });
            continue;
        }
        let mut new = match holds {
            Holds::Cursors => cursor::new_topic(&topic, replication(shape)),
            Holds::Records => NewTopic::new(&topic, shape.partitions.map_or(-1, i32::from), replication(shape)),
        };
        if let (Holds::Records, Some(ms)) = (holds, &retention_ms) {
            new = new.set("retention.ms", ms);
        }
        if let Some(copies) = &min_insync {
            new = new.set("min.insync.replicas", copies);
        }
        let answer = cursor::wait_for(admin.create_topics([&new], &options))
            .map_err(|error| trouble::kafka(&error, "create topics"))?;
        let made = match answer.into_iter().next() {
            None | Some(Ok(_)) if is_dry_run => Ok(State::Missing),
            None | Some(Ok(_)) => Ok(State::Created),
            // Somebody was faster, or it is hidden from this user.
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(State::Exists),
            Some(Err((_, code))) => Err(refused(code, &topic, &before)),
        };
        needed.push(Needed { topic, holds, made });
    }
    Ok(needed)
}

fn replication(shape: &Shape) -> TopicReplication<'static> {
    // -1 is the brokers' own default.
    TopicReplication::Fixed(shape.replicas.map_or(-1, i32::from))
}

fn refused(code: Code, topic: &str, cluster: &Metadata) -> Error {
    let error = trouble::code(code, &format!("create the topic '{topic}'"));
    match code {
        Code::InvalidReplicationFactor => {
            error.help(format!("The cluster has {} brokers: give --replicas, at most that.", cluster.brokers().len()))
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            error.help(format!("Allow this user Create on the topic '{topic}', or have somebody else create it."))
        }
        Code::InvalidTopic => error.help("A topic's name has at most 249 letters, digits, '.', '_' and '-'."),
        Code::PolicyViolation | Code::InvalidConfig | Code::InvalidPartitions => error.help(
            "Try other --partitions, --replicas, --min-insync or --retention; the brokers' log says which rule it is.",
        ),
        _ => error,
    }
}
