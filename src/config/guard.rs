//! How large a change may be told without a person? The guard as it is written, and the bounds that it becomes.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};
use serde_json::json;

/// A guard as it is written: `off`, or bounds. What is not given is that of the level above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guard {
    /// Every change is told, however large.
    Off,
    On(Written),
}

/// Bounds as they are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Written {
    /// Hold a run in which more than this share of the members enter and leave, taken together: `0.5` is half. With `0`
    /// every change is held.
    #[schemars(range(min = 0.0))]
    pub share: Option<f64>,
    /// Only where more members than this were told.
    pub over: Option<u64>,
    /// Hold a run in which more people than this enter and leave, however many there were: also the first run.
    pub max_changes: Option<u64>,
}

/// What a run may change without being held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Of the members before the run.
    pub share: f64,
    /// Members before the run up to which `share` says nothing.
    pub over: u64,
    /// Whatever there was before.
    pub max_changes: Option<u64>,
}

impl Default for Bounds {
    /// More than half of a membership of over 1,000.
    fn default() -> Self {
        Bounds { share: 0.5, over: 1_000, max_changes: None }
    }
}

impl Guard {
    /// The bounds of an audience with a guard of its `own` in a configuration with one for `all`; none if it is off.
    pub fn bounds(own: Option<&Guard>, all: Option<&Guard>) -> Option<Bounds> {
        let all = match all {
            None => Some(Bounds::default()),
            Some(guard) => guard.resolve(Bounds::default()),
        };
        match own {
            None => all,
            // Who writes bounds for an audience wants them, also where the others have none.
            Some(guard) => guard.resolve(all.unwrap_or_default()),
        }
    }

    fn resolve(&self, above: Bounds) -> Option<Bounds> {
        let Guard::On(written) = self else { return None };
        Some(Bounds {
            share: written.share.unwrap_or(above.share),
            over: written.over.unwrap_or(above.over),
            max_changes: written.max_changes.or(above.max_changes),
        })
    }
}

/// As a person writes it.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share {} over {}", self.share, self.over)?;
        self.max_changes.map_or(Ok(()), |most| write!(f, ", at most {most} changes"))
    }
}

/// By hand, since serde's untagged enums cannot say what is wrong with a map.
impl<'de> Deserialize<'de> for Guard {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Guard;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map with `share` and `over`")
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Guard, E> {
                Ok(if on { Guard::On(Written::default()) } else { Guard::Off })
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Guard, E> {
                match text {
                    "off" => Ok(Guard::Off),
                    "on" => Ok(Guard::On(Written::default())),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Guard, A::Error> {
                Written::deserialize(de::value::MapAccessDeserializer::new(map)).map(Guard::On)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A word, or else a map: the schema of `Written` says nothing about words.
impl JsonSchema for Guard {
    fn schema_name() -> Cow<'static, str> {
        "Guard".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Written::json_schema(generator);
        schema.insert("type".into(), json!(["string", "boolean", "object"]));
        schema.insert("description".into(), json!("`off`, or a map with `share`, `over` and `max_changes`."));
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(json: serde_json::Value) -> Option<Guard> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_not_given_is_that_of_the_level_above() {
        let bounds = |own, all| Guard::bounds(guard(own).as_ref(), guard(all).as_ref());
        let none = serde_json::Value::Null;
        assert_eq!(bounds(none.clone(), none.clone()), Some(Bounds { share: 0.5, over: 1_000, max_changes: None }));
        assert_eq!(bounds(none.clone(), json!("off")), None);
        assert_eq!(bounds(json!(false), none.clone()), None);
        let all = json!({"share": 0.2, "max_changes": 9});
        assert_eq!(bounds(none, all.clone()), Some(Bounds { share: 0.2, over: 1_000, max_changes: Some(9) }));
        assert_eq!(bounds(json!({"over": 0}), all), Some(Bounds { share: 0.2, over: 0, max_changes: Some(9) }));
        assert_eq!(bounds(json!({"over": 5}), json!("off")).unwrap().over, 5, "on for this one alone");
    }
}
