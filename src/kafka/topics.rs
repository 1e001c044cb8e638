//! Which topics are there? What the Topic field offers, and the nearest names when one is misspelt.

use std::time::Duration;

use rdkafka::{metadata::Metadata, producer::Producer as _};
use serde::Serialize;
use serde_json::Value;

use super::{
    cluster::{Cluster, Unanswered},
    trouble,
};
use crate::{Result, config};

/// How alike two names must be (Jaro–Winkler) for one to be offered for the other.
const ALIKE: f64 = 0.75;
/// How many names are offered.
const OFFERED: usize = 3;

/// A topic that may be sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub topic: String,
    pub partitions: usize,
    pub replicas: usize,
}

/// What the cluster says of itself and its topics. Blocks.
///
/// # Errors
/// The diagnosis, if it cannot be reached or does not let us in.
pub fn metadata(cluster: &Cluster, patience: Duration) -> Result<Metadata> {
    let context = cluster.context();
    let client = cluster.producer(&cluster.config(), context.clone())?;
    let answer =
        context.until_answered(patience, |time| client.poll(time), |slice| client.client().fetch_metadata(None, slice));
    answer.map_err(|unanswered| match unanswered {
        Unanswered::Diagnosed(error) => error,
        Unanswered::Failed(error) => trouble::kafka(&error, "ask for the topics"),
    })
}

/// The topics that we may see, without Kafka's own, by name.
pub fn list(metadata: &Metadata) -> Vec<Listed> {
    let ours = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__") && topic.error().is_none());
    let mut listed: Vec<_> = ours
        .map(|topic| Listed {
            topic: topic.name().to_owned(),
            partitions: topic.partitions().len(),
            replicas: topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
        })
        .collect();
    listed.sort_by(|a, b| a.topic.cmp(&b.topic));
    listed
}

/// The topics that a destination's enabled mappings name outright; others are known only from events.
pub fn named(destination: &config::Destination) -> Vec<String> {
    let enabled = destination.mappings.iter().filter(|mapping| mapping.enabled);
    let mut topics: Vec<String> = enabled.filter_map(literal).map(str::to_owned).collect();
    topics.sort();
    topics.dedup();
    topics
}

/// The enabled mappings whose topic is known only from each event.
pub fn unnamed(destination: &config::Destination) -> Vec<&str> {
    let enabled = destination.mappings.iter().filter(|mapping| mapping.enabled);
    enabled.filter(|mapping| literal(mapping).is_none()).map(|mapping| mapping.name.as_str()).collect()
}

/// The topic of a mapping that names it outright.
fn literal(mapping: &config::Mapping) -> Option<&str> {
    match mapping.mapping.get("topic")? {
        Value::String(topic) => Some(topic),
        Value::Object(directive) => directive.get("@literal")?.as_str(),
        _ => None,
    }
}

/// The names most like `name`, the likest first; none if nothing is like it.
pub fn nearest<'a>(name: &str, topics: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let alike = topics.into_iter().map(|topic| (strsim::jaro_winkler(name, topic), topic));
    let mut alike: Vec<_> = alike.filter(|(alike, _)| *alike >= ALIKE).collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    alike.into_iter().take(OFFERED).map(|(_, topic)| topic).collect()
}

/// What to do about a topic that is not there.
pub fn remedy<'a>(name: &str, topics: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, topics).iter().map(|near| format!("'{near}'")).collect::<Vec<_>>().join(", ");
    match near.is_empty() {
        true => {
            "`rollcall topics create` makes it; or allow this user to Describe it. `rollcall topics` lists those that it sees.".into()
        }
        false => format!("Did you mean {near}? Else `rollcall topics create` makes it, or allow this user to Describe it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_topic_gets_the_nearest_names() {
        let topics = ["orders", "audiences", "audience-changes", "payments"];
        assert_eq!(nearest("audeinces", topics), ["audiences", "audience-changes"]);
        assert_eq!(nearest("zzz", topics), [""; 0]);
    }
}
