//! What does a mapping read? One Segment event, parsed only if something inside it is asked for.
//!
//! An Identify of ours comes as its text with the fields that stand at its top; the default mapping then neither parses
//! nor writes JSON. A foreign event is parsed at once, because its text may differ from what JavaScript would write.

use std::{borrow::Cow, cell::OnceCell};

use serde_json::Value;

use super::{
    path::{Path, Top},
    reads::Reads,
    sparse,
};
use crate::js::{self, Json, Members};

/// One event.
#[derive(Debug)]
pub struct Event<'a> {
    /// Known to be what `JSON.stringify` gives for this event.
    text: Option<&'a str>,
    known: Option<Known<'a>>,
    /// How much of the text the tree holds; `None`: all.
    reads: Option<&'a Reads>,
    tree: OnceCell<Json<'a>>,
}

/// What is known of an event without parsing it: the texts at its top, where `None` says that it has no such member, and
/// where its objects stand.
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
    /// `context`, which is the same for all events of a run and so parsed once for them; `None` leaves it to be found.
    pub context: Option<&'a Json<'static>>,
    /// The JSON text of `traits`; `None` leaves it to be found.
    pub traits: Option<&'a str>,
    /// What an Engage event tells: in (true) or out (false) of its audience.
    pub member: Option<bool>,
}

impl<'a> Known<'a> {
    /// The value of a top-level member.
    fn member(&self, top: Top) -> Option<&'a str> {
        match top {
            Top::Type => self.kind,
            Top::UserId => self.user_id,
            Top::AnonymousId => self.anonymous_id,
            Top::MessageId => self.message_id,
            Top::Timestamp => self.timestamp,
            Top::Event => self.event,
        }
    }

    /// An event of the members that are read, if all of them are objects that it is known of where they stand.
    fn objects(&self, reads: &'a Reads) -> Option<Json<'a>> {
        let Reads::Members(members) = reads else { return None };
        let object = |(name, reads): &'a (Box<str>, Reads)| {
            let value = match &**name {
                "context" => Json::Ref(self.context?),
                "traits" => sparse::parse(self.traits?, reads)?,
                _ => return None,
            };
            Some((Cow::Borrowed(&**name), value))
        };
        members.iter().map(object).collect::<Option<Members<'a>>>().map(Json::Object)
    }
}

impl<'a> Event<'a> {
    /// An event that we wrote. `text` must be compact JSON as `JSON.stringify` writes it, an object, and `known` its truth:
    /// the text goes to Kafka unchecked.
    pub fn known(text: &'a str, known: Known<'a>) -> Self {
        Event { text: Some(text), known: Some(known), reads: None, tree: OnceCell::new() }
    }

    /// The same event for readers who ask for no more than this of it, and parse it once for all of them.
    pub fn read_by(self, reads: &'a Reads) -> Self {
        Event { reads: Some(reads), ..self }
    }

    /// The same event for one reader; `None` if it was said already what is read, or it is parsed.
    pub(super) fn narrowed<'n>(&self, reads: &'n Reads) -> Option<Event<'n>>
    where
        'a: 'n,
    {
        let (None, None, Some(text)) = (self.reads, self.tree.get(), self.text) else { return None };
        Some(Event { text: Some(text), known: self.known, reads: Some(reads), tree: OnceCell::new() })
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
        Event { text: None, known: None, reads: None, tree: OnceCell::from(tree) }
    }

    /// The event as far as it is read, parsed now if it was not yet.
    pub fn tree(&self) -> &Json<'a> {
        self.tree.get_or_init(|| {
            let (text, reads) = (self.text.unwrap_or_default(), self.reads.unwrap_or(&Reads::All));
            let objects = self.known.and_then(|known| self.reads.and_then(|reads| known.objects(reads)));
            let parsed = objects.or_else(|| sparse::parse(text, reads));
            // `known` promises that its text is JSON; if the promise is broken the event has no members.
            parsed.or_else(|| serde_json::from_str(text).ok()).unwrap_or(Json::Undefined)
        })
    }

    /// The value at a path.
    pub fn get<'v>(&'v self, path: &Path) -> Json<'v> {
        if let (Some(known), Some(top)) = (&self.known, path.top()) {
            return known.member(top).map_or(Json::Undefined, Json::text);
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
