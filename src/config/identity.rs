//! Whose is a message? The rules of identity resolution, by the words of Segment's Unify.

use schemars::JsonSchema;
use serde::Deserialize;

/// How messages find their profile. Without it: Segment's defaults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// Rules of single identifier types, and types of your own.
    pub identifiers: Vec<Identifier>,
    /// Values that identify nobody, whatever their type: regular expressions that a whole value matches, in any case.
    pub blocked: Option<Vec<String>>,
}

/// The rule of one identifier type.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// As `user_id`, `email`, or one of your own, which is then also read from the trait or property of that name.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many values one profile may have; 1 of `user_id`, 5 of others when not given.
    pub limit: Option<u32>,
    /// The time in which they are counted.
    #[serde(default)]
    pub window: Window,
    /// 1 is the strongest. `user_id` has 1 and `email` 2 when not given; others come after all that have one, by name.
    pub priority: Option<u32>,
    /// Values of this type that identify nobody, beside those that are blocked for all.
    #[serde(default)]
    pub blocked: Vec<String>,
    /// Which spellings are one value. Of `email` lower-trim when not given, of others none.
    pub normalize: Option<Normalize>,
}

/// What of an identifier's spelling does not matter: it is stored, looked up and told without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Every spelling is a value of its own.
    None,
    /// Spaces around it.
    Trim,
    /// Spaces around it, and upper or lower case.
    LowerTrim,
}

/// The time in which the values of a profile are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// All of them.
    #[default]
    Ever,
    /// Those added within 7 days before the message.
    Weekly,
    /// Those added within 30 days before the message.
    Monthly,
    /// Those added within 365 days before the message.
    Annually,
}
