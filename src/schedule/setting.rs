//! How is a schedule written in the configuration? A text alone, or a map with more to say.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Range};

use chrono_tz::Tz;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de};
use serde_json::json;

use super::{
    Schedule, Times,
    crontab::Crontab,
    every::{self, Every},
    reader::{Part, Reader},
    zone,
};
use crate::{error::Problems, limits};

/// A schedule as it is written, not yet understood: [`Setting::parse`] does that, and finds every mistake at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `every 15m`, `@hourly`, `0 6 * * mon-fri`, `CRON_TZ=Europe/Berlin 0 6 * * *`. Without a zone it is UTC.
    Text(String),
    Map(Map),
}

/// A schedule with a time zone, catching up, or jitter: one of `cron` and `every`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// Five-field cron, six with seconds first, or a name as `@hourly`.
    pub cron: Option<String>,
    /// A period, as `15m`: its ticks are aligned in UTC.
    pub every: Option<String>,
    /// A zone of the tz database in which `cron` counts, as `Europe/Berlin`. UTC when not given.
    pub timezone: Option<String>,
    /// What becomes of ticks that could not start in time.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Start up to this much later, each audience by its own share, so that not all start at once: `30s`. At most 1h.
    pub jitter: Option<String>,
}

/// What becomes of ticks that could not start in time, because nothing ran or because the run before took longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// One run for all of them, now.
    #[default]
    Once,
    /// No run: the next tick is waited for.
    Skip,
}

impl Setting {
    /// Understands the schedule. `name` says whose it is, as `schedule of audience 'big_spenders'`.
    pub fn parse(&self, name: &str) -> Result<Schedule, Problems> {
        let (text, spans) = self.written();
        let mut reader = Reader::default();
        match self.read(&text, &spans, &mut reader) {
            Some(schedule) if reader.problems.is_empty() => Ok(schedule),
            _ => {
                reader.problems.sort_by_key(|problem| problem.span.start);
                Err(Problems { name: name.into(), text, problems: reader.problems })
            }
        }
    }

    /// The text in which problems are shown, a map as it could stand in the configuration, and where its values are.
    fn written(&self) -> (String, BTreeMap<&'static str, Range<usize>>) {
        let map = match self {
            Setting::Text(text) => return (text.clone(), BTreeMap::from([("cron", 0..text.len())])),
            Setting::Map(map) => map,
        };
        let (mut text, mut spans) = (String::new(), BTreeMap::new());
        let values = [("cron", &map.cron), ("every", &map.every), ("timezone", &map.timezone), ("jitter", &map.jitter)];
        for (key, value) in values {
            if let Some(value) = value {
                let start = text.len() + key.len() + 2;
                text += &format!("{key}: {value}\n");
                spans.insert(key, start..start + value.len());
            }
        }
        (text, spans)
    }

    fn read(&self, text: &str, spans: &BTreeMap<&str, Range<usize>>, reader: &mut Reader) -> Option<Schedule> {
        let whole = Part::at(text, 0);
        if text.len() > limits::SCHEDULE_BYTES {
            let message = format!("a schedule is longer than {} bytes", limits::SCHEDULE_BYTES);
            return reader.refuse(whole, message, "Shorten it, or make several audiences of it.");
        }
        let value = |key: &str| spans.get(key).map(|span| Part::at(&text[span.clone()], span.start).trim());
        let (cron, every) = match (value("cron"), value("every")) {
            (Some(cron), None) => (Some(cron), None),
            (None, Some(every)) => (None, Some(every)),
            (Some(_), Some(every)) => {
                return reader.refuse(every, "a schedule is either `cron` or `every`", "Leave one of them away.");
            }
            (None, None) => {
                return reader.refuse(
                    whole,
                    "a schedule needs `cron` or `every`",
                    "As `cron: 0 6 * * *` or `every: 15m`.",
                );
            }
        };
        // Without a key of their own, a zone stands before the fields and a period after the word `every`.
        let (prefix, cron) = cron.map_or((None, None), |cron| {
            match cron.strip_prefix("CRON_TZ=").or_else(|| cron.strip_prefix("TZ=")) {
                Some(rest) => {
                    let (zone, fields) = rest.split_at(rest.text.find(char::is_whitespace).unwrap_or(rest.text.len()));
                    (Some(zone), Some(fields.trim()))
                }
                None => (None, Some(cron)),
            }
        });
        let every = every.or_else(|| {
            let period = cron?.strip_prefix("every")?;
            (!period.text.starts_with(char::is_alphabetic)).then(|| period.trim())
        });
        let timezone = value("timezone");
        if let (Some(_), Some(timezone)) = (prefix, timezone) {
            reader.refuse::<()>(timezone, "the time zone is given twice", "Leave the prefix or `timezone` away.");
        }
        let timezone = timezone.or(prefix);
        if let (Some(_), Some(zone)) = (every, timezone) {
            let help = "Leave it away, or write local times as cron: `0 6 * * *`.";
            reader.refuse::<()>(zone, "`every` counts in UTC, so a time zone means nothing to it", help);
        }
        let zone = timezone.map_or(Some(Tz::UTC), |part| zone::parse(part, reader));
        let jitter_seconds = value("jitter").map_or(Some(0), |part| every::jitter(part, reader));
        let times = match (every, cron) {
            (Some(every), _) => Every::parse(every, reader).map(Times::Every),
            (None, cron) => Crontab::parse(cron?, reader).map(Times::Crontab),
        };
        let text = match every {
            Some(every) => format!("every {every}"),
            None => cron?.to_string(),
        };
        let catch_up = match self {
            Setting::Text(_) => CatchUp::Once,
            Setting::Map(map) => map.catch_up,
        };
        Some(Schedule { text, times: times?, zone: zone?, catch_up, jitter_seconds: jitter_seconds? })
    }
}

/// On one line, with all that it says.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let map = match self {
            Setting::Text(text) => return f.write_str(text),
            Setting::Map(map) => map,
        };
        match (&map.cron, &map.every) {
            (Some(cron), _) => f.write_str(cron)?,
            (None, every) => write!(f, "every {}", every.as_deref().unwrap_or_default())?,
        }
        map.timezone.as_ref().map_or(Ok(()), |zone| write!(f, " ({zone})"))?;
        if map.catch_up == CatchUp::Skip {
            f.write_str(", missed ones are skipped")?;
        }
        map.jitter.as_ref().map_or(Ok(()), |jitter| write!(f, ", up to {jitter} later"))
    }
}

/// By hand, since serde's untagged enums cannot say what is wrong with a map.
impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Setting;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schedule, as `every 15m`, `0 6 * * *` or a map with `cron`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting, E> {
                Ok(Setting::Text(text.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Setting, A::Error> {
                Map::deserialize(de::value::MapAccessDeserializer::new(map)).map(Setting::Map)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A text, or else a map: the schema of [`Map`] says nothing about a text.
impl JsonSchema for Setting {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Map::json_schema(generator);
        schema.insert("type".into(), json!(["string", "object"]));
        schema.insert(
            "description".into(),
            json!("`every 15m`, `@hourly`, `0 6 * * *`, or a map with `cron` or `every`."),
        );
        schema
    }
}
