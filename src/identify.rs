//! What is told of one change? A sealed change and the person it is about become Identify events, with the peer's real
//! envelope. Pure: the same change and person give the same bytes, also when told again.

use std::{collections::BTreeMap, fmt::Write as _, ops::Range};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    audience::identities::Identity,
    delta::{Now, SealedRun},
    ids::{AudienceId, BackfillId, ProfileId, RunId},
    js::{self, push_string},
    ksuid, values,
};

/// What is known of the profile that a change is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Person {
    /// Type and value, oldest first.
    pub identifiers: Vec<(String, String)>,
    /// The enrichment traits that the audience asks for and the profile has.
    pub traits: Vec<(String, Value)>,
}

/// What all Identify events of one run for one destination have in common, ready to be written.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// From `"context"` up to the message id.
    head: String,
    /// Where the value of `context` stands in it.
    context: Range<usize>,
    /// From behind the message id up to what holds now.
    middle: String,
    /// Where the value of `traits` starts in it.
    traits: usize,
    key: String,
    timestamp: String,
    ids: MessageIds,
}

/// What the message ids of one run for one destination have in common.
#[derive(Debug, Clone)]
pub struct MessageIds {
    evaluated_at: DateTime<Utc>,
    seed: Sha256,
}

/// A written Identify: the text is in the buffer, these are its parts that a mapping most often asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identify<'a> {
    pub user_id: Option<&'a str>,
    pub anonymous_id: Option<&'a str>,
    pub message_id: String,
    /// Where `traits` stands in the buffer.
    pub traits: Range<usize>,
}

impl Envelope {
    /// `destination` is the name under `integrations`; `stream` makes message ids the destination's own.
    pub fn new(run: &SealedRun, space_id: &str, destination: &str, stream: Uuid) -> Self {
        let mut head = String::from(r#""context":"#);
        let start = head.len();
        head.push_str(r#"{"integrations":{"personas":false},"library":{"name":"rollcall","version":""#);
        head.push_str(env!("CARGO_PKG_VERSION"));
        head.push_str(r#""},"personas":{"computation_class":"#);
        push_string(&mut head, run.class.as_str());
        head.push_str(r#","computation_id":"#);
        push_string(&mut head, &run.computation_id);
        head.push_str(r#","computation_key":"#);
        push_string(&mut head, &run.key);
        head.push_str(r#","namespace":"#);
        push_string(&mut head, space_id);
        head.push_str(r#","space_id":"#);
        push_string(&mut head, space_id);
        head.push_str("}}");
        let context = start..head.len();
        head.push_str(r#","integrations":{"All":false,"#);
        push_string(&mut head, destination);
        head.push_str(r#":true},"messageId":""#);

        let mut middle = String::from(r#"","originalTimestamp":""#);
        let _ = write!(middle, "{}", run.evaluated_at.format("%Y-%m-%dT%H:%M:%S%.9fZ"));
        middle.push_str(r#"","sentAt":null,"timestamp":""#);
        let timestamp = run.evaluated_at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        middle.push_str(&timestamp);
        middle.push_str(r#"","traits":"#);
        let traits = middle.len();
        middle.push('{');

        let ids = MessageIds::new(stream, run.audience, run.run, run.backfill, run.evaluated_at);
        Envelope { head, context, middle, traits, key: run.key.clone(), timestamp, ids }
    }

    /// The JSON text of the `context` of every Identify of the run.
    pub fn context(&self) -> &str {
        &self.head[self.context.clone()]
    }

    /// The `timestamp` of every Identify of the run.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// Writes one Identify as compact JSON behind what `out` holds.
    pub fn write<'a>(
        &self,
        out: &mut String,
        profile: ProfileId,
        identity: &Identity<'a>,
        traits: &[(String, Value)],
        now: &Now,
    ) -> Identify<'a> {
        let message_id = self.ids.of(profile, identity);
        out.push('{');
        if let Some(anonymous_id) = identity.anonymous_id {
            out.push_str(r#""anonymousId":"#);
            push_string(out, anonymous_id);
            out.push(',');
        }
        out.push_str(&self.head);
        out.push_str(&message_id);
        let start = out.len() + self.traits;
        out.push_str(&self.middle);
        let several = match now {
            Now::Value(value) if value.starts_with('{') => values::columns::read(value),
            _ => BTreeMap::new(),
        };
        self.write_what_holds(out, now, &several);
        let is_told = |name: &str| name == self.key || several.contains_key(name);
        for (name, value) in &identity.traits {
            // What is told wins, also over a trait or identifier that goes by its key.
            if !is_told(name) {
                push_member(out, name, |out| push_string(out, value));
            }
        }
        for (name, value) in traits {
            if !is_told(name) && !identity.traits.iter().any(|(other, _)| other == name) {
                push_member(out, name, |out| js::push_value(out, value));
            }
        }
        out.push('}');
        let traits = start..out.len();
        out.push_str(r#","type":"identify""#);
        if let Some(user_id) = identity.user_id {
            push_member(out, "userId", |out| push_string(out, user_id));
        }
        out.push('}');
        Identify { user_id: identity.user_id, anonymous_id: identity.anonymous_id, message_id, traits }
    }

    /// What the change tells: several values, each under a key of its own, or what holds now under the key of the run.
    fn write_what_holds(&self, out: &mut String, now: &Now, several: &BTreeMap<String, &str>) {
        for (n, (key, value)) in several.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            push_string(out, key);
            out.push(':');
            push_json(out, value);
        }
        if several.is_empty() {
            push_string(out, &self.key);
            out.push(':');
            match now {
                Now::In => out.push_str("true"),
                Now::Out => out.push_str("false"),
                Now::Value(value) => push_json(out, value),
                Now::Nothing => out.push_str("null"),
            }
        }
    }
}

impl MessageIds {
    /// Those of a run, or of a slice of a backfill, for a stream.
    pub fn new(
        stream: Uuid,
        audience: AudienceId,
        run: RunId,
        backfill: Option<BackfillId>,
        evaluated_at: DateTime<Utc>,
    ) -> MessageIds {
        let mut seed = Sha256::new();
        seed.update(stream.as_bytes());
        seed.update(audience.0.to_be_bytes());
        seed.update(run.0.to_be_bytes());
        // What is told again is another message, also where no run lies between.
        if let Some(backfill) = backfill {
            seed.update(backfill.0.to_be_bytes());
        }
        MessageIds { evaluated_at, seed }
    }

    /// `personas_` and a KSUID, as the peer's; a function of destination, audience, run (and backfill), profile and identifiers.
    pub fn of(&self, profile: ProfileId, identity: &Identity<'_>) -> String {
        let mut hash = self.seed.clone();
        hash.update(profile.0.to_be_bytes());
        for (tag, part) in [(1u8, identity.user_id), (2, identity.anonymous_id)] {
            if let Some(part) = part {
                hash.update([tag]);
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        for (name, value) in &identity.traits {
            hash.update([3]);
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value);
        }
        format!("personas_{}", ksuid::of(self.evaluated_at, hash))
    }
}

/// A sealed value as JavaScript writes it: an exact decimal becomes the double that any reader would make of it.
fn push_json(out: &mut String, json: &str) {
    // Up to fifteen digits a plain decimal is the shortest text of its double, unless it is so small that it gets an exponent.
    if json.len() <= 15 && !json.starts_with(['"', '[', '{']) && !json.trim_start_matches('-').starts_with("0.00000") {
        return out.push_str(json);
    }
    match serde_json::from_str(json) {
        Ok(value) => js::push_value(out, &value),
        Err(_) => out.push_str("null"),
    }
}

/// What an Identify says of a change, as JSON text by name: one value, or of several each by its own.
pub fn said(key: &str, now: &Now) -> Vec<(String, String)> {
    let written = |value: &str| {
        let mut out = String::new();
        push_json(&mut out, value);
        out
    };
    match now {
        Now::In => vec![(key.to_owned(), "true".to_owned())],
        Now::Out => vec![(key.to_owned(), "false".to_owned())],
        Now::Nothing => vec![(key.to_owned(), "null".to_owned())],
        Now::Value(value) if value.starts_with('{') => {
            values::columns::read(value).into_iter().map(|(name, value)| (name, written(value))).collect()
        }
        Now::Value(value) => vec![(key.to_owned(), written(value))],
    }
}

fn push_member(out: &mut String, name: &str, value: impl FnOnce(&mut String)) {
    out.push(',');
    push_string(out, name);
    out.push(':');
    value(out);
}

#[cfg(test)]
mod tests;
