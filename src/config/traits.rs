//! What does the user want to know of each person? A computed trait, as it stands below `traits:`.

use std::{collections::BTreeMap, num::NonZeroU32};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Guard, IdSync, OnDelete, enabled, sources};
use crate::schedule::Setting;

/// A value of each person, computed from what they did.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trait {
    /// For people; at most 255 characters.
    pub name: String,
    /// Derived from the name (snake_case) when not given; never changes afterwards. Audiences and traits share their keys.
    pub key: Option<String>,
    /// Lets it take the key of a deleted trait; what was told under that key counts as told.
    #[serde(default)]
    pub reuse_deleted_key: bool,
    /// Lets it take a key that is an identifier's name, which is then told in its place.
    #[serde(default)]
    pub hides_trait: bool,
    /// For people; told to nobody.
    pub description: Option<String>,
    /// The definition, in the audience language: events, their filters and a reducer.
    pub query: Option<String>,
    /// Instead of `query`, several values by their keys, all told in one Identify.
    pub queries: Option<BTreeMap<String, String>>,
    /// Instead of `query`, a statement that yields `user_id` and up to 25 columns, each a value under its own name.
    pub sql: Option<String>,
    /// The source in whose database `sql` runs; in the store's own when not given.
    pub source: Option<String>,
    /// Whether users that `sql` no longer yields keep their values.
    #[serde(default)]
    pub additive: bool,
    /// A disabled trait is not computed, and nothing is told of it.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// When to compute: `every 15m`, `@hourly`, `0 6 * * *`, or a map with a time zone and more.
    pub schedule: Option<Setting>,
    /// How old what is told may get before the trait is overdue, as `2h`; by its schedule when not given.
    pub fresh_within: Option<String>,
    /// Which runs are held until a person has decided; as for all audiences, when not given.
    pub guard: Option<Guard>,
    /// Names of destinations; all of them when not given.
    pub destinations: Option<Vec<String>>,
    /// Identify events of this trait told a second, at most, so that it does not hold up others; no limit when not given.
    #[serde(default)]
    pub rate_limit: Option<NonZeroU32>,
    /// Whether profiles without a user_id have a value, told by their anonymousId.
    #[serde(default)]
    pub include_anonymous: bool,
    /// Other traits told beside this one.
    #[serde(default)]
    pub include_traits: Vec<String>,
    /// Which identifiers are told, as Segment's ID Sync.
    #[serde(default)]
    pub id_sync: Vec<IdSync>,
    /// What is told when the trait is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
}

impl Trait {
    /// What is computed, as one text; for people, and to notice that it changed.
    pub fn definition(&self) -> String {
        match (&self.query, &self.queries, &self.sql) {
            (Some(query), ..) => query.clone(),
            (_, Some(queries), _) => {
                queries.iter().map(|(key, query)| format!("{key}: {query}")).collect::<Vec<_>>().join("\n")
            }
            (.., sql) => {
                let sql = sources::statement(sql.as_deref().unwrap_or_default(), self.source.as_deref());
                if self.additive { format!("{sql}\n-- additive") } else { sql }
            }
        }
    }

    /// The given key, else the name in snake_case; `sense` has checked that it is a key and nobody else's.
    pub fn key(&self) -> String {
        self.key.clone().unwrap_or_else(|| heck::ToSnakeCase::to_snake_case(self.name.as_str()))
    }
}
