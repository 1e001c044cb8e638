//! Which message is a row? Its columns as JSON in, a line of Segment's form out. Pure.
//!
//! The line is then read as any other message is: so limits, refusals and identity are those of all ways in.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{
    config::{self, Events},
    profile::{
        Defaults, Message, Refusal,
        json::{quote, text_of, write_member},
        pulled::Page,
    },
};

type Columns<'r> = BTreeMap<String, &'r RawValue>;

/// What the rows of a source are.
pub(super) struct Rows<'a> {
    name: &'a str,
    kind: Kind<'a>,
    /// Which tells new rows from old, and is no trait or property of theirs.
    cursor: Option<&'a str>,
}

enum Kind<'a> {
    /// By the column of the user id.
    Profiles(&'a str),
    Events(&'a Events),
}

impl<'a> Rows<'a> {
    pub fn of(name: &'a str, source: &'a config::Source) -> Rows<'a> {
        let kind = match (&source.events, &source.profiles) {
            (Some(events), _) => Kind::Events(events),
            (None, profiles) => Kind::Profiles(profiles.as_ref().map_or("user_id", |of| &of.user_id)),
        };
        let cursor = source.cursor.as_ref().and_then(|cursor| cursor.column.as_deref().or(cursor.xid.as_deref()));
        Rows { name, kind, cursor }
    }

    /// The column of the user id, where rows are people.
    pub fn key(&self) -> Option<&str> {
        if let Kind::Profiles(user_id) = &self.kind { Some(user_id) } else { None }
    }

    /// The columns that it must have.
    pub fn needed(&self) -> Vec<&str> {
        let mut needed = match &self.kind {
            Kind::Profiles(user_id) => vec![*user_id],
            Kind::Events(events) => {
                let mut needed = vec![events.timestamp.as_str(), &events.message_id];
                needed.extend(events.name_column.as_deref());
                // Either says who it was.
                needed.extend(events.anonymous_id.as_deref().or(Some(&events.user_id)));
                needed
            }
        };
        needed.extend(self.cursor);
        needed
    }

    /// The columns that are traits or properties.
    pub fn others<'c>(&self, columns: &'c [String]) -> impl Iterator<Item = &'c str> {
        columns.iter().map(String::as_str).filter(|column| self.is_other(column))
    }

    fn is_other(&self, column: &str) -> bool {
        let is = |name: &Option<String>| name.as_deref() == Some(column);
        let named = match &self.kind {
            Kind::Profiles(user_id) => *user_id == column,
            Kind::Events(events) => {
                [&events.user_id, &events.timestamp, &events.message_id].into_iter().any(|name| name == column)
                    || is(&events.anonymous_id)
                    || is(&events.name_column)
            }
        };
        !named && self.cursor != Some(column)
    }

    /// Reads a row into `page`, with the message id `id` if it is a person whose rows have none of their own. `json` is none for a row
    /// that is too long to be a message.
    pub fn read(&self, json: Option<&str>, id: Option<&str>, at: DateTime<Utc>, defaults: &Defaults, page: &mut Page) {
        let refuse = |field, reason: &str| Refusal { line: 0, field, reason: reason.to_owned() };
        let read = match json.map(|json| (json, serde_json::from_str::<Columns>(json))) {
            None => Err(refuse("line", "is too long for a message")),
            Some((_, Err(_))) => Err(refuse("line", "is no object")),
            Some((json, Ok(columns))) => self
                .line(json, &columns, id, at)
                .map_err(|field| refuse(field, "is missing"))
                .and_then(|line| Message::parse(0, line.as_bytes(), defaults)),
        };
        match read {
            Ok(message) => page.messages.push(message),
            Err(refusal) => page.refused.push(refusal),
        }
    }

    /// The line, or the field without which there is none.
    fn line(&self, json: &str, columns: &Columns, id: Option<&str>, at: DateTime<Utc>) -> Result<String, &'static str> {
        let column = |name: &str| columns.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null");
        let mut line = String::from("{");
        match &self.kind {
            Kind::Profiles(user_id) => {
                let id = id.map_or_else(|| digest(&[json]), ToOwned::to_owned);
                write_member(&mut line, "type", "\"identify\"");
                write_member(&mut line, "messageId", &quote(&format!("{}:{id}", self.name)));
                write_member(&mut line, "userId", column(user_id).ok_or("userId")?);
                write_member(&mut line, "timestamp", &quote(&instant(at)));
            }
            Kind::Events(events) => {
                let raw = columns.get(&events.message_id).ok_or("messageId")?;
                let id = text_of(raw).unwrap_or_else(|| raw.get().into());
                column(&events.message_id).filter(|_| !id.is_empty()).ok_or("messageId")?;
                write_member(&mut line, "type", "\"track\"");
                write_member(&mut line, "messageId", &quote(&format!("{}:{id}", self.name)));
                let fixed = events.name.as_deref().map(quote);
                let name = fixed.as_deref().or(events.name_column.as_deref().and_then(column));
                write_member(&mut line, "event", name.ok_or("event")?);
                write_member(&mut line, "timestamp", column(&events.timestamp).ok_or("timestamp")?);
                for (field, name) in [("userId", Some(&events.user_id)), ("anonymousId", events.anonymous_id.as_ref())]
                {
                    if let Some(raw) = name.and_then(|name| column(name)) {
                        write_member(&mut line, field, raw);
                    }
                }
            }
        }
        let mut members = String::from("{");
        for (name, value) in columns.iter().filter(|(name, _)| self.is_other(name)) {
            write_member(&mut members, name, value.get());
        }
        members.push('}');
        let field = if matches!(self.kind, Kind::Profiles(_)) { "traits" } else { "properties" };
        write_member(&mut line, field, &members);
        line.push('}');
        Ok(line)
    }

    /// What is said of somebody who vanished: nothing of what was said before holds.
    pub fn vanished(
        &self,
        user_id: &str,
        traits: &[String],
        id: &str,
        at: DateTime<Utc>,
        defaults: &Defaults,
        page: &mut Page,
    ) {
        let mut line = String::from("{");
        write_member(&mut line, "type", "\"identify\"");
        write_member(&mut line, "messageId", &quote(&format!("{}:{id}", self.name)));
        write_member(&mut line, "userId", &quote(user_id));
        write_member(&mut line, "timestamp", &quote(&instant(at)));
        let mut nulls = String::from("{");
        traits.iter().for_each(|name| write_member(&mut nulls, name, "null"));
        nulls.push('}');
        write_member(&mut line, "traits", &nulls);
        line.push('}');
        // What was once taken in is no worse now.
        match Message::parse(0, line.as_bytes(), defaults) {
            Ok(message) => page.messages.push(message),
            Err(refusal) => page.refused.push(refusal),
        }
    }
}

/// 128 bits of SHA-256 over all of these, in hex.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
