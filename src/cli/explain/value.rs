//! Which value of a computed trait has this person, and which events is it made of?

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{
    audience::{
        Computed, ComputedTrait,
        catalogue::Audience,
        interpret,
        outlook::{Outlook, json},
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
        (of, definition): (&Audience, &ComputedTrait),
        outlook: &mut Outlook<'_>,
        at: DateTime<Utc>,
    ) -> Answer {
        let value_at_last_run = json(outlook.values.get(key).map(String::as_str));
        let value = json(outlook.value(key, definition, at).as_deref());
        let events = interpret::events(definition, &outlook.history, at);
        let listed = events.iter().rev().take(LISTED).map(|event| Event {
            at: event.occurred_at,
            message_id: event.message_id.clone(),
            properties: event.properties.clone(),
        });
        Answer {
            key: key.to_owned(),
            value,
            has_identifier: outlook.counts(of),
            value_at_last_run,
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
    /// What its statement yields of this person now; null for nothing. Absent where there is no statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Json>,
    /// By their keys, as of the last run; null if there were none, or it never ran.
    values_at_last_run: Json,
    /// The keys that can be explained one by one; none for a statement: what it looks at is not known.
    columns: Vec<String>,
}

impl Stored {
    pub(super) fn new(key: &str, now: Option<Option<String>>, stored: Option<&str>, computed: &Computed) -> Stored {
        let columns = match computed {
            Computed::Columns(columns) => columns.iter().map(|(key, _)| key.clone()).collect(),
            _ => Vec::new(),
        };
        let values = now.map(|now| json(now.as_deref()));
        Stored { key: key.to_owned(), values, values_at_last_run: json(stored), columns }
    }

    pub(super) fn describe(&self, user: &str) -> String {
        let Stored { key, values, values_at_last_run, columns } = self;
        let mut lines = vec![format!("{key} of {user}, as of the last run: {}", text(values_at_last_run))];
        if let Some(values) = values {
            lines.push(format!("The statement yields now: {}", text(values)));
        }
        for column in columns {
            lines.push(format!("  `rollcall explain {column} {user}` shows the events behind {column}."));
        }
        lines.join("\n")
    }
}

fn text(value: &Json) -> String {
    let mut text = String::new();
    js::push_value(&mut text, value);
    text
}
