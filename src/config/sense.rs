//! Does it make sense? What a schema cannot say: names that exist, keys that nobody else has, limits, schedules.
//!
//! An audience's definition is not parsed here: a broken one stops that audience alone, not the program.

use std::collections::HashMap;

use super::{Config, shape::nearest, tree::Node};
use crate::{error::Problem, limits};

/// Everything about `config` that makes no sense; `tree` is where it was read from.
pub fn check(config: &Config, tree: &Node, problems: &mut Vec<Problem>) {
    let mut sense = Sense { tree, problems };
    sense.store(config);
    sense.destinations(config);
    sense.audiences(config);
}

struct Sense<'a> {
    tree: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Sense<'_> {
    fn tell(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { message: message.into(), span: self.tree.place(path), help: Some(help.into()) });
    }

    fn store(&mut self, config: &Config) {
        for (event, paths) in &config.store.promote {
            if paths.len() > limits::PROMOTED_PER_EVENT {
                let message = format!("`{event}` has {} promoted properties", paths.len());
                let help = format!("At most {} of an event get a column of their own.", limits::PROMOTED_PER_EVENT);
                self.tell(&["store", "promote", event], message, help);
            }
        }
    }

    fn destinations(&mut self, config: &Config) {
        for (name, destination) in &config.destinations {
            let here = ["destinations", name.as_str()];
            if !is_topic_name(name) {
                let help = "Use letters, digits, `.`, `_` and `-`; it becomes part of Kafka's transactional.id.";
                self.tell(&here, format!("`{name}` cannot name a destination"), help);
            }
            if !is_topic_name(&destination.cursor_topic) {
                let help = "Kafka allows letters, digits, `.`, `_` and `-`, at most 249 of them.";
                self.tell(&[here[0], here[1], "cursor_topic"], "this cannot name a topic", help);
            }
            let mappings = &destination.mappings;
            if mappings.len() > limits::MAPPINGS {
                let message = format!("`{name}` has {} mappings", mappings.len());
                let help = format!("A destination has at most {}, as in Segment; make a second one.", limits::MAPPINGS);
                self.tell(&[here[0], here[1], "mappings"], message, help);
            }
            for (index, mapping) in mappings.iter().enumerate() {
                if let Some(first) = mappings[..index].iter().position(|other| other.name == mapping.name) {
                    let message = format!("mapping {} of `{name}` has the name of mapping {}", index + 1, first + 1);
                    let path = [here[0], here[1], "mappings", &index.to_string(), "name"];
                    self.tell(&path, message, "Names of mappings are unique within a destination.");
                }
            }
        }
    }

    fn audiences(&mut self, config: &Config) {
        if config.audiences.len() > limits::AUDIENCES {
            let help = format!("At most {} can be defined in one file.", limits::AUDIENCES);
            self.tell(&["audiences"], format!("{} audiences", config.audiences.len()), help);
        }
        let mut keys = HashMap::<String, &str>::new();
        for (index, audience) in config.audiences.iter().enumerate() {
            let index = index.to_string();
            let at = |field: &'static str| [String::from("audiences"), index.clone(), field.into()];
            let mut tell = |field, message: String, help: String| {
                let path = at(field);
                self.tell(&path.each_ref().map(String::as_str), message, help);
            };

            let name = audience.name.as_str();
            if name.chars().count() > limits::AUDIENCE_NAME_CHARS {
                tell(
                    "name",
                    "the name is too long".into(),
                    format!("At most {} characters.", limits::AUDIENCE_NAME_CHARS),
                );
            }
            let (field, key) = (if audience.key.is_some() { "key" } else { "name" }, audience.key());
            if !is_key(&key) {
                let message = match field {
                    "key" => format!("`{key}` is no key"),
                    _ => format!("no key can be derived from the name `{name}`"),
                };
                let help = format!(
                    "Give a `key`: a lower-case letter, then lower-case letters, digits and `_`, at most {}.",
                    limits::AUDIENCE_KEY_BYTES
                );
                tell(field, message, help);
            } else if let Some(other) = keys.insert(key.clone(), name) {
                let message = format!("the key `{key}` is that of the audience `{other}` as well");
                tell(field, message, "Give one of them a `key` of its own.".into());
            }
            if audience.query.trim().is_empty() {
                let help = "For example: event('Order Completed').within(30 days).count() >= 1";
                tell("query", format!("`{name}` has an empty definition"), help.into());
            }
            if let Some(help) = audience.schedule.as_deref().and_then(schedule_problem) {
                tell("schedule", "this is no schedule".into(), help);
            }
            if audience.id_sync.len() > limits::ID_SYNCS {
                let message = format!("`{name}` asks for {} identifiers", audience.id_sync.len());
                tell("id_sync", message, format!("At most {}, as in Segment.", limits::ID_SYNCS));
            }
            for (place, wanted) in audience.destinations.iter().flatten().enumerate() {
                if !config.destinations.contains_key(wanted) {
                    let help = nearest(wanted, config.destinations.keys().map(String::as_str));
                    let path = ["audiences", &index, "destinations", &place.to_string()];
                    self.tell(&path, format!("no destination is called `{wanted}`"), help);
                }
            }
        }
    }
}

/// `[a-z][a-z0-9_]*`, at most 255 bytes.
fn is_key(key: &str) -> bool {
    key.len() <= limits::AUDIENCE_KEY_BYTES
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Kafka's rule for topics: `org.apache.kafka.common.internals.Topic`.
fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

/// How to mend a schedule that cannot be one. Whether its numbers make sense is for `schedule` to say.
fn schedule_problem(text: &str) -> Option<String> {
    const NAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    let text = text.trim();
    if text.starts_with('@') {
        return (!NAMES.contains(&text)).then(|| nearest(text, NAMES.into_iter()));
    }
    if let Some(interval) = text.strip_prefix("every") {
        let interval = interval.trim();
        let digits = interval.len() - interval.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let unit = interval[digits..].trim();
        let good = interval[..digits].parse::<u32>().is_ok_and(|amount| amount > 0)
            && ["s", "m", "h", "d", "second", "minute", "hour", "day", "seconds", "minutes", "hours", "days"]
                .contains(&unit);
        return (!good).then(|| "An interval is a number and a unit (s, m, h, d): every 15m.".into());
    }
    let fields: Vec<_> = text.split_whitespace().collect();
    let cron = |field: &&str| field.chars().all(|c| c.is_ascii_alphanumeric() || "*,-/?#".contains(c));
    (fields.len() != 5 || !fields.iter().all(cron)).then(|| {
        "Write five cron fields (minute hour day month weekday), a name such as @hourly, or an interval: every 15m."
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_cron_with_five_fields_or_names_or_intervals() {
        for good in ["*/15 * * * *", "0 6 * * MON-FRI", "@hourly", "every 15m", "every 2 hours"] {
            assert_eq!(schedule_problem(good), None, "{good}");
        }
        for bad in ["", "* * * *", "0 */5 * * * *", "@hourlly", "every", "every 0m", "every 15 moons", "6 o'clock"] {
            assert!(schedule_problem(bad).is_some(), "{bad}");
        }
    }
}
