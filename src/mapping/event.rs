//! What does a mapping read? One Segment event, parsed only if something inside it is asked for.
//!
//! An Identify of ours comes as its text with the fields that stand at its top; the default mapping then neither parses
//! nor writes JSON. A foreign event is parsed at once, because its text may differ from what JavaScript would write.

use std::cell::OnceCell;

use serde_json::Value;

use super::{js, json::Json, path::Path};

/// One event.
#[derive(Debug)]
pub struct Event<'a> {
    /// Known to be what `JSON.stringify` gives for this event.
    text: Option<&'a str>,
    known: Option<Known<'a>>,
    tree: OnceCell<Json<'a>>,
}

/// The texts at the top of an event whose values are known without parsing it. `None` says that the event has no such member.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// `type`: `identify`, `track`, …
    pub kind: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub anonymous_id: Option<&'a str>,
    pub message_id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
    /// `event`: the name of a track call.
    pub event: Option<&'a str>,
    /// What an Engage event tells: in (true) or out (false) of its audience.
    pub member: Option<bool>,
}

impl<'a> Event<'a> {
    /// An event that we wrote. `text` must be compact JSON as `JSON.stringify` writes it, an object, and `known` its truth:
    /// the text goes to Kafka unchecked.
    pub fn known(text: &'a str, known: Known<'a>) -> Self {
        Event { text: Some(text), known: Some(known), tree: OnceCell::new() }
    }

    /// Any JSON text. Borrows from it.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        Ok(Self::of(serde_json::from_str(text)?))
    }

    /// An event that is already a tree.
    pub fn of_value(value: &'a Value) -> Self {
        Self::of(Json::from(value))
    }

    fn of(tree: Json<'a>) -> Self {
        Event { text: None, known: None, tree: OnceCell::from(tree) }
    }

    /// The whole event, parsed now if it was not yet.
    pub fn tree(&self) -> &Json<'a> {
        // `known` promises that its text is JSON; if the promise is broken the event has no members, and is rejected.
        self.tree.get_or_init(|| self.text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Undefined))
    }

    /// The value at a path.
    pub fn get<'v>(&'v self, path: &Path) -> Json<'v> {
        if let (Some(known), Some(key)) = (&self.known, path.single()) {
            let field = match key {
                "type" => Some(known.kind),
                "userId" => Some(known.user_id),
                "anonymousId" => Some(known.anonymous_id),
                "messageId" => Some(known.message_id),
                "timestamp" => Some(known.timestamp),
                "event" => Some(known.event),
                _ => None,
            };
            if let Some(field) = field {
                return field.map_or(Json::Undefined, Json::text);
            }
        }
        path.of(self.tree())
    }

    /// Whether the event is an object, as every event must be.
    pub fn is_object(&self) -> bool {
        self.text.is_some() || matches!(self.tree(), Json::Object(_))
    }

    pub fn is_null(&self) -> bool {
        self.text.is_none() && matches!(self.tree(), Json::Null)
    }

    /// Appends `JSON.stringify(event)`.
    pub fn write_json(&self, out: &mut String) {
        match self.text {
            Some(text) => out.push_str(text),
            None => js::write_json(self.tree(), out),
        }
    }

    /// Whether the event tells that somebody is in (`true`) or out (`false`) of an audience; see [`super::membership`].
    pub fn member(&self) -> Option<bool> {
        match &self.known {
            Some(known) => known.member,
            None => super::membership::told(self.tree()),
        }
    }
}
