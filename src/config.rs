//! What did the user ask for? `rollcall.yaml`, as types.
//!
//! Reading goes in four steps, each a file below: `tree` (YAML with its places), `variables` (`${…}`), `shape` (keys and
//! types, held against the JSON Schema that editors use), `sense` (what a schema cannot say). All that is wrong is told
//! at once, with lines. Nothing here touches a network, and nothing prints a secret.

mod guard;
mod http;
mod identity;
mod load;
mod mask;
mod retention;
mod secret;
mod sense;
mod settings;
mod shape;
mod sources;
mod streams;
mod tracking;
mod traits;
mod tree;
mod variables;
mod watch;

use std::{collections::BTreeMap, num::NonZeroU32};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::schedule::Setting;
pub use guard::{Bounds, Guard};
pub use http::{Http, Listen};
pub use identity::{Identifier, Identity, Normalize, Window};
pub use load::{load, parse, schema, value};
pub use retention::{Retention, days as retention_days};
pub use secret::Secret;
pub use settings::Settings;
pub use sources::{Cursor, Events, Lookback, Profiles, Source};
pub use streams::{Start, Stream};
pub use tracking::{Tracking, WriteKey};
pub use traits::Trait;
pub use variables::Surroundings;
pub use watch::Watch;

/// The whole of `rollcall.yaml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Postgres URL. Without one an embedded Postgres is started and kept in the state folder.
    pub database: Option<Secret>,
    /// The space's id, told as `context.personas.space_id` and `namespace`.
    #[schemars(extend("x-variables" = true))]
    pub space_id: Option<String>,
    /// Where `serve` answers for health, readiness and metrics.
    #[schemars(extend("x-variables" = true))]
    pub http: Http,
    /// Segment's tracking API, for its libraries to send to; `serve` takes messages in where this is given.
    pub tracking: Option<Tracking>,
    /// Tables whose rows become people and events, by a name of your choice.
    pub sources: BTreeMap<String, Source>,
    /// Topics of Kafka whose Segment events `serve` takes in, by a name of your choice.
    pub streams: BTreeMap<String, Stream>,
    /// How profiles and events are stored.
    pub store: Store,
    /// For how long what is kept.
    #[schemars(extend("x-variables" = true))]
    pub retention: Retention,
    /// Whose a message is.
    pub identity: Identity,
    /// Which runs are held until a person has decided, because they change too much.
    pub guard: Option<Guard>,
    /// Where changes are told: Kafka clusters, by a name of your choice.
    pub destinations: BTreeMap<String, Destination>,
    /// Whom you mean.
    pub audiences: Vec<Audience>,
    /// What you want to know of each person.
    pub traits: Vec<Trait>,
}

impl Config {
    /// The space's id; `spa_rollcall` where none is configured.
    pub fn space_id(&self) -> &str {
        self.space_id.as_deref().unwrap_or("spa_rollcall")
    }

    /// Every audience and trait: its key, whether it is enabled, and its schedule.
    pub fn computations(&self) -> impl Iterator<Item = (String, bool, Option<&Setting>)> {
        let audiences = self.audiences.iter().map(|of| (of.key(), of.enabled, of.schedule.as_ref()));
        audiences.chain(self.traits.iter().map(|of| (of.key(), of.enabled, of.schedule.as_ref())))
    }

    /// The keys of the enabled audiences and traits that have a schedule.
    pub fn schedules(&self) -> impl Iterator<Item = (String, &Setting)> {
        self.computations().filter_map(|(key, enabled, schedule)| Some((key, schedule.filter(|_| enabled)?)))
    }

    /// The destination of this name, enabled or not; every enabled one without a name.
    pub fn chosen_destinations(&self, name: Option<&str>) -> crate::Result<Vec<&str>> {
        let Some(name) = name else {
            let enabled = self.destinations.iter().filter(|(_, destination)| destination.enabled);
            return Ok(enabled.map(|(name, _)| name.as_str()).collect());
        };
        match self.destinations.get_key_value(name) {
            Some((name, _)) => Ok(vec![name]),
            None => {
                let known = self.destinations.keys().map(|known| format!("'{known}'")).collect::<Vec<_>>().join(", ");
                Err(crate::Error::settings(format!("the configuration has no destination '{name}'"))
                    .help(format!("It has {}.", if known.is_empty() { "none" } else { &known })))
            }
        }
    }
}

/// How profiles and events are stored.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Number properties that get a typed, indexed column: by event name, at most two paths each.
    pub promote: BTreeMap<String, Vec<String>>,
}

/// A Kafka cluster, and what each change becomes there.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Segment's settings of the Kafka destination, by its names.
    pub settings: Settings,
    /// What is promised about each change.
    #[serde(default)]
    pub delivery: Delivery,
    /// A disabled destination is told nothing, and catches up when it is enabled again.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// The compacted topic that holds the cursor of each stream.
    #[serde(default = "cursor_topic")]
    pub cursor_topic: String,
    /// What each change becomes; at most 50, or `max_mappings`.
    pub mappings: Vec<Mapping>,
    /// How many mappings there may be; the peer's 50 when not given.
    #[serde(default)]
    pub max_mappings: Option<usize>,
    /// Identify events told a second, at most; no limit when not given.
    #[serde(default)]
    pub rate_limit: Option<NonZeroU32>,
    /// More changes of one audience than this are told as a backfill, slice by slice, so that they do not hold up others.
    #[serde(default = "backfill_above")]
    pub backfill_above: NonZeroU32,
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
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// For messages and metrics; unique within the destination.
    pub name: String,
    /// A disabled mapping makes no records.
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

/// What goes out when a profile leaves an audience.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExit {
    /// The same record as on entry, with `false`.
    #[default]
    Record,
    /// A null value for the record's key, which a compacted topic then forgets.
    Tombstone,
}

/// A set of people, defined by what they did and who they are.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// For people; at most 255 characters.
    pub name: String,
    /// Derived from the name (snake_case) when not given; never changes afterwards.
    pub key: Option<String>,
    /// Lets it take the key of a deleted audience; what was told under that key counts as told.
    #[serde(default)]
    pub reuse_deleted_key: bool,
    /// Lets it take a key that is an imported trait's name too: definitions then read the audience, consumers are told it in its place.
    #[serde(default)]
    pub hides_trait: bool,
    /// For people; told to nobody.
    pub description: Option<String>,
    /// The definition, in the audience language.
    pub query: Option<String>,
    /// Instead of `query`, a statement that yields the user ids of those who are in, in one column.
    pub sql: Option<String>,
    /// The source in whose database `sql` runs; in the store's own when not given.
    pub source: Option<String>,
    /// A disabled audience is not computed, and nothing is told of it.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// When to compute: `every 15m`, `@hourly`, `0 6 * * *`, or a map with a time zone and more.
    pub schedule: Option<Setting>,
    /// How old what is told may get before the audience is overdue, as `2h`; by its schedule when not given.
    pub fresh_within: Option<String>,
    /// Which runs are held until a person has decided; as for all audiences, when not given.
    pub guard: Option<Guard>,
    /// Names of destinations; all of them when not given.
    pub destinations: Option<Vec<String>>,
    /// Identify events of this audience told a second, at most, so that it does not hold up others; no limit when not given.
    #[serde(default)]
    pub rate_limit: Option<NonZeroU32>,
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

/// One identifier that is told of each member.
#[derive(Debug, Clone, PartialEq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdSync {
    /// An identifier type, as `user_id` or `email`.
    pub id: String,
    /// Which one, when a profile has several.
    #[serde(default)]
    pub strategy: Strategy,
    /// The trait under which it is sent, instead of its own name.
    pub map_to: Option<String>,
}

/// Which identifiers are told, when a profile has several of a type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one that was added first.
    First,
    /// The one that was added last.
    #[default]
    Last,
    /// Each of them, in an Identify of its own.
    All,
}

/// What members are told when an audience is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// Nothing is sent, as the peer does.
    #[default]
    Keep,
    /// `false` to every member first.
    Exit,
}

impl Audience {
    /// Who is in, as it is written: `query`, or else `sql` and where it runs.
    pub fn definition(&self) -> String {
        match (&self.query, &self.sql) {
            (None, Some(sql)) => sources::statement(sql, self.source.as_deref()),
            (query, _) => query.clone().unwrap_or_default(),
        }
    }

    /// The given key, else the name in snake_case; [`load`] has checked that it is a key and nobody else's.
    pub fn key(&self) -> String {
        self.key.clone().unwrap_or_else(|| heck::ToSnakeCase::to_snake_case(self.name.as_str()))
    }
}

fn enabled() -> bool {
    true
}

fn backfill_above() -> NonZeroU32 {
    NonZeroU32::new(crate::limits::BACKFILL_ABOVE).unwrap_or(NonZeroU32::MIN)
}

fn cursor_topic() -> String {
    "rollcall.cursors".into()
}
