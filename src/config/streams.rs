//! Which topics of Kafka are messages taken in from?

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Settings, tree::Node};
use crate::error::Problem;

/// Topics whose records are Segment events, as Segment's Kafka destination writes them.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// How to reach the cluster: Segment's settings of the Kafka destination, by its names.
    pub settings: Settings,
    /// The topics to read, all of their partitions.
    pub topics: Vec<String>,
    /// Where reading begins in a topic that was never read, or was deleted and made anew.
    #[serde(default)]
    pub start: Start,
    /// A disabled stream is not read, and goes on where it was when it is enabled again.
    #[serde(default = "super::enabled")]
    pub enabled: bool,
}

/// Where reading begins in a topic that was never read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
}

/// Tells what is wrong with the section `streams`.
pub(super) fn check(streams: &Node, problems: &mut Vec<Problem>) {
    let mut tell = |span: &std::ops::Range<usize>, message: String, help: &str| {
        problems.push(Problem { message, span: span.clone(), help: Some(help.into()) });
    };
    for (key, stream) in streams.entries() {
        if !is_topic_name(&key.name) {
            let help = "Use letters, digits, `.`, `_` and `-`; it is the source of what is taken in.";
            tell(&key.span, format!("`{}` cannot name a stream", key.name), help);
        }
        let Some(topics) = stream.get("topics") else { continue };
        if topics.items().is_empty() {
            tell(&topics.start(), format!("the stream `{}` has no topics", key.name), "Name at least one.");
        }
        let mut seen = Vec::new();
        for (node, topic) in topics.items().iter().filter_map(|node| Some((node, node.as_text()?))) {
            if !is_topic_name(topic) {
                let help = "Kafka allows letters, digits, `.`, `_` and `-`, at most 249 of them.";
                tell(&node.span, "this cannot name a topic".into(), help);
            } else if seen.contains(&topic) {
                tell(&node.span, format!("the topic `{topic}` is named twice"), "Keep one of them.");
            }
            seen.push(topic);
        }
    }
}

/// Kafka's rule for topics: `org.apache.kafka.common.internals.Topic`.
pub(super) fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}
