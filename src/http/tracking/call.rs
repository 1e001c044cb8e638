//! What does a request say? Its body in, messages out, each or why not. Pure.
//!
//! A message becomes what `rollcall import` reads: its type from the address, what its batch says for all, an id, and a time by
//! our clock. One that is wrong is refused by itself; its neighbours are stored.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use chrono::{DateTime, Datelike, Utc};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::apart;
use crate::{
    limits,
    profile::{
        Defaults, Message, Refusal,
        json::{Members, quote, text_of, write_member},
        read_time,
        rules::Rules,
    },
};

/// What an address takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// One message of this type.
    One(&'static str),
    Batch,
}

impl Address {
    /// By the last part of its path.
    pub fn of(name: &str) -> Option<Address> {
        Some(match name {
            "identify" | "i" => Address::One("identify"),
            "track" | "t" => Address::One("track"),
            "page" | "p" => Address::One("page"),
            "screen" | "s" => Address::One("screen"),
            "group" | "g" => Address::One("group"),
            "alias" | "a" => Address::One("alias"),
            "batch" | "b" | "import" => Address::Batch,
            _ => return None,
        })
    }
}

/// A request whose body has been understood so far that its messages can be looked at one by one.
#[derive(Debug)]
pub struct Call<'a> {
    kind: Option<&'static str>,
    /// The batch without its messages; of a single message, all of it.
    envelope: Members<'a>,
    items: Vec<&'a RawValue>,
}

/// When and by whom a request came in.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    pub at: DateTime<Utc>,
    /// The name of its write key.
    pub source: Option<&'a str>,
    /// Which identifiers count.
    pub rules: &'a Arc<Rules>,
}

/// Why nothing of a request can be looked at: a code for programs, and a sentence.
pub type Wrong = (&'static str, String);

/// Of a batch's context, what no message keeps needs not be merged into any.
const KEPT_BY_NOBODY: [&str; 1] = ["library"];
/// Says when something was sent, not what happened: it differs between two tries of the same message.
const OF_THE_SENDING: [&str; 4] = ["sentAt", "receivedAt", "writeKey", "_metadata"];

impl<'a> Call<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is no JSON object, or a batch without a list, or with too many messages.
    pub fn read(address: Address, body: &'a str) -> Result<Call<'a>, Wrong> {
        let body: &RawValue = serde_json::from_str(body).map_err(|error| {
            let mut place = format!("line {}, column {}", error.line(), error.column());
            if let (Address::Batch, Err(Some(nth))) = (address, apart::mended(body)) {
                place += &format!(", in batch[{nth}]");
            }
            ("invalid_json", format!("the body is not JSON ({place})"))
        })?;
        let envelope = Members::of(body).ok_or_else(|| ("invalid_json", "the body is not a JSON object".to_owned()))?;
        let kind = match address {
            Address::One(kind) => return Ok(Call { kind: Some(kind), envelope, items: vec![body] }),
            Address::Batch => None,
        };
        let batch = envelope.get("batch").ok_or_else(|| ("invalid_batch", "`batch` is missing".to_owned()))?;
        let items: Vec<&RawValue> = serde_json::from_str(batch.get())
            .map_err(|_| ("invalid_batch", "`batch` is not a list of messages".to_owned()))?;
        if items.len() > limits::TRACKING_MESSAGES {
            let message = format!("`batch` has {} messages; the most is {}", items.len(), limits::TRACKING_MESSAGES);
            return Err(("too_many_messages", message));
        }
        Ok(Call { kind, envelope, items })
    }

    /// The body to read in place of one that cannot be read because some messages of its batch are no JSON: those are refused alone.
    pub fn mended(address: Address, body: &str) -> Option<String> {
        let is_broken = address == Address::Batch && serde_json::from_str::<&RawValue>(body).is_err();
        is_broken.then(|| apart::mended(body).ok()).flatten()
    }

    /// How many messages it brings.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// The write key in the body: of the batch, else of its first message.
    pub fn write_key(&self) -> Option<Cow<'a, str>> {
        let first = || Members::of(self.items.first()?)?.get("writeKey").and_then(text_of);
        self.envelope.get("writeKey").and_then(text_of).or_else(first)
    }

    /// Reads the messages, each or why not. `random` is asked for ids of messages that bring none and name no time.
    pub fn messages(&self, received: Received, mut random: impl FnMut() -> [u8; 16]) -> Vec<Result<Message, Refusal>> {
        let mut reader = Reader {
            defaults: Defaults {
                now: received.at,
                is_arrival: true,
                place: None,
                source_id: None,
                rules: received.rules.clone(),
            },
            sent_at: self.envelope.get("sentAt").and_then(time),
            context: self.context(),
            alike: HashMap::new(),
            random: &mut random,
        };
        let read = |(place, item): (usize, &&'a RawValue)| {
            let mut message = reader.message(place as u64, self.kind, item)?;
            // What a write key is called is ours to say, not a message's.
            if let Some(source) = received.source {
                message.source_id = Some(source.to_owned());
            }
            Ok(message)
        };
        self.items.iter().enumerate().map(read).collect()
    }

    /// What a batch says of the context of each of its messages.
    fn context(&self) -> Members<'a> {
        if self.kind.is_some() {
            return Members::default();
        }
        let mut context = self.envelope.get("context").and_then(Members::of_field).unwrap_or_default();
        context.0.retain(|(name, _)| !KEPT_BY_NOBODY.contains(&&**name));
        context
    }
}

struct Reader<'a, 'r> {
    defaults: Defaults,
    sent_at: Option<DateTime<Utc>>,
    context: Members<'a>,
    /// Of messages without an id: how many of the same content this request had.
    alike: HashMap<[u8; 16], u32>,
    random: &'r mut dyn FnMut() -> [u8; 16],
}

impl<'a> Reader<'a, '_> {
    fn message(&mut self, place: u64, kind: Option<&str>, item: &'a RawValue) -> Result<Message, Refusal> {
        // What is too large or no object at all is refused with its reason by `parse` itself.
        let members = match Members::of(item) {
            Some(members) if item.get().len() <= limits::MESSAGE_BYTES => members,
            _ => return Message::parse(place, item.get().as_bytes(), &self.defaults),
        };
        let has = |name| members.get(name).is_some_and(|value| value.get() != "\"\"");
        let dated = ["timestamp", "originalTimestamp"].map(has);
        let set_kind = kind.filter(|kind| members.get("type").and_then(text_of).as_deref() != Some(kind));
        let set_id = (!has("messageId")).then(|| self.id(&members, kind, dated != [false, false]));
        let set_context = self.merged_context(&members);
        // Times of the sending are none of the message's.
        let drop_times = dated == [false, false] && (has("sentAt") || has("receivedAt"));
        let changed = set_kind.is_some() || set_id.is_some() || drop_times;
        let rewritten = |set_context: Option<&str>| {
            let mut out = String::with_capacity(item.get().len() + 256);
            out.push('{');
            for (name, value) in &members.0 {
                let replaced = match &**name {
                    "type" => set_kind.is_some(),
                    "messageId" => set_id.is_some(),
                    "context" => set_context.is_some(),
                    "sentAt" | "receivedAt" => true,
                    _ => false,
                };
                if !replaced {
                    write_member(&mut out, name, value.get());
                }
            }
            let quoted = [("type", set_kind.map(quote)), ("messageId", set_id.as_deref().map(quote))];
            for (name, value) in quoted.into_iter().chain([("context", set_context.map(str::to_owned))]) {
                if let Some(value) = value {
                    write_member(&mut out, name, &value);
                }
            }
            out.push('}');
            out
        };
        let parse = |text: &str| Message::parse(place, text.as_bytes(), &self.defaults);
        let alone = || if changed { parse(&rewritten(None)) } else { parse(item.get()) };
        let mut message = match &set_context {
            // What a batch says for all must spoil none of them.
            Some(context) => parse(&rewritten(Some(context))).or_else(|_| alone()),
            None => alone(),
        }?;
        // A message with both times has been corrected by whoever wrote the second.
        if !message.misdated && (dated == [true, false] || dated == [false, true]) {
            let sent_at = self.sent_at.or_else(|| members.get("sentAt").and_then(time));
            message.occurred_at = by_our_clock(message.occurred_at, sent_at, self.defaults.now);
        }
        Ok(message)
    }

    /// The context of the message and of its batch, where the batch has more to say.
    fn merged_context(&self, members: &Members<'a>) -> Option<String> {
        let own = match members.get("context") {
            // Whatever else it is, it is refused.
            Some(context) => Members::of_field(context)?,
            None => Members::default(),
        };
        let mut more = self.context.0.iter().filter(|(name, _)| own.get(name).is_none()).peekable();
        more.peek()?;
        let mut merged = own.write();
        merged.pop();
        more.for_each(|(name, value)| write_member(&mut merged, name, value.get()));
        merged.push('}');
        Some(merged)
    }

    /// An id for a message that brings none. If it names its time, from what it says, so that a second try of it is known; else two
    /// that look alike may well be two, and each gets its own.
    fn id(&mut self, members: &Members, kind: Option<&str>, is_dated: bool) -> String {
        if !is_dated {
            return format!("auto-{:032x}", u128::from_be_bytes((self.random)()));
        }
        let mut hash = Sha256::new_with_prefix(kind.unwrap_or_default());
        for (name, value) in members.0.iter().filter(|(name, _)| !OF_THE_SENDING.contains(&&**name)) {
            for part in [name.as_bytes(), value.get().as_bytes()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut head = [0; 16];
        head.copy_from_slice(&hash[..16]);
        let nth = self.alike.entry(head).and_modify(|nth| *nth += 1).or_insert(0);
        format!("auto-{:032x}-{nth}", u128::from_be_bytes(head))
    }
}

/// `receivedAt - (sentAt - originalTimestamp)`: how long before the sending it happened is right even by a wrong clock.
fn by_our_clock(at: DateTime<Utc>, sent_at: Option<DateTime<Utc>>, received_at: DateTime<Utc>) -> DateTime<Utc> {
    let corrected = sent_at.and_then(|sent_at| received_at.checked_sub_signed(sent_at - at));
    // A clock so wrong that it leads out of all years corrects nothing.
    corrected.filter(|at| limits::EVENT_YEARS.contains(&at.year())).unwrap_or(at)
}

fn time(raw: &RawValue) -> Option<DateTime<Utc>> {
    read_time(raw).ok()
}
