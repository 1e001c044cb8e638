//! Which value of a computed trait has this person, and which events is it made of?

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    audience::{
        Computed, ComputedTrait,
        interpret::{self, Profile},
    },
    js,
};

/// Events that are listed one by one; the others are counted.
const LISTED: usize = 20;

/// What is printed.
#[derive(Serialize)]
pub(super) struct Answer {
    key: String,
    /// The value; null if there is none.
    value: Json,
    /// Whether the profile has an identifier of a type that this trait tells.
    has_identifier: bool,
    /// As of the trait's last run; null if there was none then, or it never ran.
    value_at_last_run: Json,
    evaluated_at: DateTime<Utc>,
    /// How many events the value is made of.
    events: usize,
    /// The latest of them.
    latest: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    at: DateTime<Utc>,
    message_id: String,
    properties: Json,
}

impl Answer {
    pub(super) fn new(
        key: &str,
        definition: &ComputedTrait,
        history: &Profile,
        has_identifier: bool,
        stored: Option<&str>,
        at: DateTime<Utc>,
    ) -> Answer {
        let events = interpret::events(definition, history, at);
        let listed = events.iter().rev().take(LISTED).map(|event| Event {
            at: event.occurred_at,
            message_id: event.message_id.clone(),
            properties: event.properties.clone(),
        });
        Answer {
            key: key.to_owned(),
            value: json(now(definition, history, stored, at).as_deref()),
            has_identifier,
            value_at_last_run: json(stored),
            evaluated_at: at,
            events: events.len(),
            latest: listed.collect(),
        }
    }

    pub(super) fn describe(&self, user: &str) -> String {
        let at = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let shown = |value: &Json| match value {
            Json::Null => "no value".to_owned(),
            value => text(value),
        };
        let (key, value) = (&self.key, shown(&self.value));
        let mut lines = vec![format!("{key} of {user} is {value} as of {}", at(self.evaluated_at)), String::new()];
        for event in &self.latest {
            lines.push(format!("  {}  {}  {}", at(event.at), event.message_id, text(&event.properties)));
        }
        match self.events - self.latest.len() {
            0 if self.events == 0 => lines.push("  No event passes its filters.".into()),
            0 => {}
            more => lines.push(format!("  … and {more} earlier events")),
        }
        lines.push(String::new());
        if !self.has_identifier {
            lines.push("The profile has no identifier that this trait tells, so nothing is told of it.".into());
        }
        lines.push(format!("As of the last run: {}.", shown(&self.value_at_last_run)));
        lines.join("\n")
    }
}

/// Several values, told together.
#[derive(Serialize)]
pub(super) struct Stored {
    key: String,
    /// By their keys, as of the last run; null if there were none, or it never ran.
    values_at_last_run: Json,
    /// The keys that can be explained one by one; none for a statement, whose rows are explained where they come from.
    columns: Vec<String>,
}

impl Stored {
    pub(super) fn new(key: &str, stored: Option<&str>, computed: &Computed) -> Stored {
        let columns = match computed {
            Computed::Columns(columns) => columns.iter().map(|(key, _)| key.clone()).collect(),
            _ => Vec::new(),
        };
        Stored { key: key.to_owned(), values_at_last_run: json(stored), columns }
    }

    pub(super) fn describe(&self, user: &str) -> String {
        let Stored { key, values_at_last_run, columns } = self;
        let mut lines = vec![format!("{key} of {user}, as of the last run: {}", text(values_at_last_run))];
        for column in columns {
            lines.push(format!("  `rollcall explain {column} {user}` shows the events behind {column}."));
        }
        lines.join("\n")
    }
}

/// The value at an instant. What is 0 without events is so for whoever had a value, as in a run.
pub(super) fn now(
    definition: &ComputedTrait,
    history: &Profile,
    stored: Option<&str>,
    at: DateTime<Utc>,
) -> Option<String> {
    let zero = stored.filter(|_| definition.reducer.is_zero_of_nothing()).map(|_| "0".to_owned());
    interpret::value(definition, history, at).0.or(zero)
}

/// Several values as one, as it would be stored.
pub(super) fn whole(values: &serde_json::Map<String, Json>) -> Json {
    let there: serde_json::Map<_, _> =
        values.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())).collect();
    if there.is_empty() { Json::Null } else { there.into() }
}

pub(super) fn json(text: Option<&str>) -> Json {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Null)
}

fn text(value: &Json) -> String {
    let mut text = String::new();
    js::push_value(&mut text, value);
    text
}
