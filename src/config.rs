//! What did the user ask for? `rollcall.yaml`, as types.
//!
//! Reading it (variables, unknown keys, several errors at once) is in `config/load.rs`; nothing here touches a network.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// The whole of `rollcall.yaml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Postgres URL. Without one an embedded Postgres is started and kept in the state folder.
    pub database: Option<String>,
    /// The space's id, told as `context.personas.space_id` and `namespace`.
    pub space_id: Option<String>,
    pub store: Store,
    /// By name.
    pub destinations: BTreeMap<String, Destination>,
    pub audiences: Vec<Audience>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Number properties that get a typed, indexed column: by event name, at most two paths each.
    pub promote: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Segment's settings of the Kafka destination, by its names.
    pub settings: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub delivery: Delivery,
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// The compacted topic that holds the cursor of each stream.
    #[serde(default = "cursor_topic")]
    pub cursor_topic: String,
    pub mappings: Vec<Mapping>,
    /// How many mappings there may be; the peer's 50 when not given.
    #[serde(default)]
    pub max_mappings: Option<usize>,
}

/// What is promised about each change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Kafka transactions that carry their own cursor.
    #[default]
    ExactlyOnce,
    /// Idempotent producer, cursor in Postgres: a crash may repeat the last records. For clusters without transactions.
    AtLeastOnce,
}

/// One Send mapping, as in a Segment workspace.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    pub name: String,
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Trigger in FQL; without one every track, identify, page, screen and group call.
    pub subscribe: Option<String>,
    /// Segment's mapping of the Send action's fields, unchanged.
    pub mapping: serde_json::Map<String, serde_json::Value>,
    /// What goes out when a profile leaves: the same record as on entry with `false`, or a null value for its key.
    #[serde(default)]
    pub on_exit: OnExit,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExit {
    #[default]
    Record,
    Tombstone,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    pub name: String,
    /// Derived from the name (snake_case) when not given; never changes afterwards.
    pub key: Option<String>,
    pub description: Option<String>,
    /// In the audience language.
    pub query: String,
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// When to compute: five-field cron, `@hourly`, or `every 15m`.
    pub schedule: Option<String>,
    /// Names of destinations; all of them when not given.
    pub destinations: Option<Vec<String>>,
    /// Whether profiles without a user_id are members, told by their anonymousId.
    #[serde(default)]
    pub include_anonymous: bool,
    /// Profile traits told beside the audience's own.
    #[serde(default)]
    pub include_traits: Vec<String>,
    /// Which identifiers are told, as Segment's ID Sync.
    #[serde(default)]
    pub id_sync: Vec<IdSync>,
    /// What members are told when the audience is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
}

#[derive(Debug, Clone, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdSync {
    /// An identifier type, as `user_id` or `email`.
    pub id: String,
    #[serde(default)]
    pub strategy: Strategy,
    /// The trait under which it is sent, instead of its own name.
    pub map_to: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    First,
    #[default]
    Last,
    All,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// Nothing is sent, as the peer does.
    #[default]
    Keep,
    /// `false` to every member first.
    Exit,
}

fn enabled() -> bool {
    true
}

fn cursor_topic() -> String {
    "rollcall.cursors".into()
}
