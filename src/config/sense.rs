//! Does it make sense? What a schema cannot say: names that exist, keys that nobody else has, limits, schedules.
//!
//! An audience's definition is not parsed here: a broken one stops that audience alone, not the program.

use std::{collections::HashMap, ops::Range};

use heck::ToSnakeCase;

use super::{
    http, retention,
    shape::nearest,
    sources, streams, tracking,
    tree::{Node, Value},
};
use crate::{
    database::statement,
    error::Problem,
    limits,
    schedule::{Promise, Setting},
};

/// Tells everything that makes no sense below `root`. Values of a wrong type are passed over: `shape` told them.
pub fn check(root: &Node, problems: &mut Vec<Problem>) {
    if let Some(http) = root.get("http") {
        http::check(http, problems);
    }
    if let Some(section) = root.get("tracking") {
        tracking::check(section, problems);
    }
    if let Some(section) = root.get("sources") {
        sources::check(section, problems);
    }
    sources::check_named(root, problems);
    if let Some(section) = root.get("streams") {
        streams::check(section, problems);
    }
    let mut sense = Sense { problems };
    for (_, source) in root.get("sources").map_or(&[][..], Node::entries) {
        source.get("schedule").into_iter().for_each(|schedule| sense.schedule(schedule));
    }
    for (event, paths) in root.path(&["store", "promote"]).map_or(&[][..], Node::entries) {
        if paths.items().len() > limits::PROMOTED_PER_EVENT {
            let message = format!("`{}` has {} promoted properties", event.name, paths.items().len());
            let help = format!("At most {} of an event get a column of their own.", limits::PROMOTED_PER_EVENT);
            sense.tell(&event.span, message, help);
        }
    }
    sense.identity(root);
    root.get("guard").into_iter().for_each(|guard| sense.guard(guard));
    for key in ["runs", "events", "message_ids"] {
        if let Some((node, text)) = root.get("retention").and_then(|retention| retention.text(key))
            && let Err(help) = retention::days(text)
        {
            sense.tell(&node.span, format!("`retention.{key}` is no length of time to keep"), help);
        }
    }
    let destinations = root.get("destinations").map_or(&[][..], Node::entries);
    for (key, destination) in destinations {
        if !streams::is_topic_name(&key.name) {
            let help = "Use letters, digits, `.`, `_` and `-`; it becomes part of Kafka's transactional.id.";
            sense.tell(&key.span, format!("`{}` cannot name a destination", key.name), help);
        }
        sense.destination(&key.name, destination);
    }
    let names: Vec<_> = destinations.iter().map(|(key, _)| key.name.as_str()).collect();
    sense.computations(root, &names);
}

struct Sense<'a> {
    problems: &'a mut Vec<Problem>,
}

impl Sense<'_> {
    fn tell(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { message: message.into(), span: span.clone(), help: Some(help.into()) });
    }

    /// Audiences and computed traits: their keys, their definitions, and the destinations that they name.
    fn computations(&mut self, root: &Node, destinations: &[&str]) {
        let mut keys = HashMap::new();
        for class in ["audience", "trait"] {
            let all = root.get(&format!("{class}s")).map_or(&[][..], Node::items);
            if let Some(extra) = all.get(limits::AUDIENCES) {
                let help = format!("At most {} can be defined in one file.", limits::AUDIENCES);
                self.tell(&extra.span, format!("{} {class}s", all.len()), help);
            }
            for one in all {
                self.key(class, one, &mut keys);
                match class {
                    "trait" => self.definition(class, one, &["query", "queries", "sql"]),
                    _ => self.definition(class, one, &["query", "sql"]),
                }
                self.columns(one, &mut keys);
                self.audience(class, one, destinations);
            }
        }
    }

    /// Types are named once, in lower case; a limit of none would leave nobody; patterns are regular expressions.
    fn identity(&mut self, root: &Node) {
        let identifiers = root.path(&["identity", "identifiers"]).map_or(&[][..], Node::items);
        let mut seen = Vec::new();
        for identifier in identifiers {
            if let Some((node, kind)) = identifier.text("type") {
                if seen.contains(&kind) {
                    self.tell(&node.span, format!("`{kind}` has a rule already"), "Give each type one rule.");
                }
                if kind.is_empty() || kind.len() > limits::IDENTIFIER_TYPE_BYTES || kind != kind.to_lowercase() {
                    let help = format!("Use lower case, as `crm_id`; at most {} bytes.", limits::IDENTIFIER_TYPE_BYTES);
                    self.tell(&node.span, "this cannot name an identifier type", help);
                }
                seen.push(kind);
            }
            if let Some(node) = identifier.get("limit")
                && matches!(&node.value, Value::Number(limit) if limit.as_u64() == Some(0))
            {
                self.tell(
                    &node.start(),
                    "a limit of 0 leaves no identifier",
                    "Write 1 or more; block `.*` to ignore a type.",
                );
            }
        }
        let own = identifiers.iter().filter_map(|identifier| identifier.get("blocked"));
        for pattern in own.chain(root.path(&["identity", "blocked"])).flat_map(Node::items) {
            if pattern.as_text().is_some_and(|text| regex::Regex::new(&format!("^(?:{text})$")).is_err()) {
                let help =
                    "Escape `.`, `(`, `[`, `*`, `+`, `?` and `\\` with a backslash where they stand for themselves.";
                self.tell(&pattern.span, "this is no regular expression", help);
            }
        }
    }

    fn destination(&mut self, name: &str, destination: &Node) {
        if let Some((node, topic)) = destination.text("cursor_topic")
            && !streams::is_topic_name(topic)
        {
            let help = "Kafka allows letters, digits, `.`, `_` and `-`, at most 249 of them.";
            self.tell(&node.span, "this cannot name a topic", help);
        }
        let mappings = destination.get("mappings").map_or(&[][..], Node::items);
        let most = match destination.get("max_mappings").map(|node| &node.value) {
            Some(Value::Number(most)) => most.as_u64().and_then(|most| most.try_into().ok()),
            _ => None,
        };
        let most = most.unwrap_or(limits::MAPPINGS_PER_DESTINATION);
        if let Some(extra) = mappings.get(most) {
            let help = format!("A destination has at most {most}; set `max_mappings`, or make a second one.");
            self.tell(&extra.start(), format!("`{name}` has {} mappings", mappings.len()), help);
        }
        let mut seen = Vec::new();
        for (node, name) in mappings.iter().filter_map(|mapping| mapping.text("name")) {
            if seen.contains(&name) {
                let message = format!("a mapping called `{name}` is there already");
                self.tell(&node.span, message, "Names of mappings are unique within a destination.");
            }
            seen.push(name);
        }
    }

    /// The key, given or derived, must be one, and nobody else's.
    fn key<'t>(
        &mut self,
        class: &'static str,
        audience: &'t Node,
        keys: &mut HashMap<String, (&'static str, &'t str)>,
    ) {
        let name = audience.text("name");
        let Some((node, text)) = audience.text("key").or(name) else { return };
        let given = audience.get("key").is_some();
        let key = if given { text.to_owned() } else { text.to_snake_case() };
        if !is_key(&key) {
            let message = match given {
                true => format!("`{key}` is no key"),
                false => format!("no key can be derived from the name `{text}`"),
            };
            let help = "Give a `key`: a lower-case letter, then lower-case letters, digits and `_`";
            self.tell(&node.span, message, format!("{help}, at most {}.", limits::AUDIENCE_KEY_BYTES));
        } else if let Some((other_class, other)) = keys.get(&key) {
            let message = format!("the key `{key}` is that of the {other_class} `{other}` as well");
            self.tell(&node.span, message, "Give one of them a `key` of its own.");
        } else {
            keys.insert(key, (class, name.map_or(text, |(_, name)| name)));
        }
    }

    /// What is computed is defined in one of several ways.
    fn definition(&mut self, class: &str, computed: &Node, ways: &[&str]) {
        let given = ways.iter().filter(|way| computed.get(way).is_some()).count();
        if given != 1 {
            let many = if given == 0 { "no definition" } else { "several definitions" };
            let ways = ways.join("`, `");
            let ways = ways.rsplit_once(", ").map_or(ways.clone(), |(first, last)| format!("{first} and {last}"));
            self.tell(&computed.start(), format!("the {class} has {many}"), format!("Give it one of `{ways}`."));
        }
        if let Some((node, sql)) = computed.text("sql")
            && statement::one(sql).is_empty()
        {
            self.tell(
                &node.span,
                "the statement is empty",
                "For example: select user_id from subscriptions where active",
            );
        }
    }

    /// The keys of several values are keys like others.
    fn columns<'t>(&mut self, computed: &'t Node, keys: &mut HashMap<String, (&'static str, &'t str)>) {
        let queries = computed.get("queries").map_or(&[][..], Node::entries);
        if let Some((extra, _)) = queries.get(limits::COLUMNS) {
            let help = format!("At most {} are told together.", limits::COLUMNS);
            self.tell(&extra.span, format!("{} values", queries.len()), help);
        }
        let name = computed.text("name").map_or("", |(_, name)| name);
        for (key, _) in queries {
            if !is_key(&key.name) {
                let help = "A key is a lower-case letter, then lower-case letters, digits and `_`.";
                self.tell(&key.span, format!("`{}` is no key", key.name), help);
            } else if let Some((class, other)) = keys.insert(key.name.clone(), ("trait", name)) {
                let message = format!("the key `{}` is that of the {class} `{other}` as well", key.name);
                self.tell(&key.span, message, "Give one of them another key.");
            }
        }
    }

    fn audience(&mut self, class: &str, audience: &Node, destinations: &[&str]) {
        if let Some((node, name)) = audience.text("name")
            && name.chars().count() > limits::AUDIENCE_NAME_CHARS
        {
            self.tell(
                &node.span,
                "the name is too long",
                format!("At most {} characters.", limits::AUDIENCE_NAME_CHARS),
            );
        }
        if let Some((node, _)) = audience.text("name").filter(|(_, name)| name.contains(char::is_control)) {
            self.tell(&node.span, "the name has a line end or another control character", "Write it on one line.");
        }
        if let Some((node, query)) = audience.text("query")
            && query.trim().is_empty()
        {
            let help = match class {
                "trait" => "For example: event('Order Completed').within(90 days).sum(property('revenue'))",
                _ => "For example: event('Order Completed').within(30 days).count() >= 1",
            };
            self.tell(&node.span, "the definition is empty", help);
        }
        if let Some(schedule) = audience.get("schedule") {
            self.schedule(schedule);
        }
        if let Some((node, text)) = audience.text("fresh_within")
            && let Err(help) = Promise::within(text)
        {
            self.tell(&node.span, "this is not a length of time", help);
        }
        audience.get("guard").into_iter().for_each(|guard| self.guard(guard));
        let id_sync = audience.get("id_sync").map_or(&[][..], Node::items);
        if let Some(extra) = id_sync.get(limits::ID_SYNCS) {
            let help = format!("At most {}, as in Segment.", limits::ID_SYNCS);
            self.tell(&extra.start(), format!("{} identifiers are asked for", id_sync.len()), help);
        }
        for node in audience.get("destinations").map_or(&[][..], Node::items) {
            if let Some(wanted) = node.as_text().filter(|wanted| !destinations.contains(wanted)) {
                let help = nearest(wanted, destinations.iter().copied());
                self.tell(&node.span, format!("no destination is called `{wanted}`"), help);
            }
        }
    }

    fn guard(&mut self, guard: &Node) {
        if guard.as_text().is_some_and(|word| !["on", "off"].contains(&word)) {
            let help = "Write `off`, or a map with `share`, `over` or `max_changes`.";
            self.tell(&guard.span, "the guard has no such value", help);
        }
    }

    fn schedule(&mut self, schedule: &Node) {
        // What has the wrong shape was told.
        let Ok(setting) = serde_json::from_value::<Setting>(schedule.clone().into_json()) else { return };
        let Err(wrong) = setting.parse("schedule") else { return };
        for problem in wrong.problems {
            // The text in which the problem was found is the value, or else lines of `key: value`.
            let before = &wrong.text[..problem.span.start];
            let line = before.rfind('\n').map_or(0, |end| end + 1);
            let (node, start) = match before[line..].split_once(": ") {
                Some((key, _)) if schedule.as_text().is_none() => (schedule.get(key), line + key.len() + 2),
                _ => (Some(schedule), 0),
            };
            let span = match node {
                // A value without quotes stands in the file as it is.
                Some(node) if node.as_text().is_some_and(|text| text.len() == node.span.len()) => {
                    node.span.start + problem.span.start - start..node.span.start + problem.span.end - start
                }
                Some(node) => node.start(),
                None => schedule.start(),
            };
            self.problems.push(Problem { span, ..problem });
        }
    }
}

/// `[a-z][a-z0-9_]*`, at most 255 bytes.
fn is_key(key: &str) -> bool {
    key.len() <= limits::AUDIENCE_KEY_BYTES
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
