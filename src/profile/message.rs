//! What does one Segment message say? A line of JSON in, what the store keeps of it out, or why not. Pure.
//!
//! Field names and limits are those of Segment's tracking API. A refusal names a field and a rule, never a value.

use std::{borrow::Cow, sync::Arc};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    external_ids::external_ids,
    json::{Members, check_storable, compact, digits_of, is_empty_list, quote, text_of, write_member},
    rules::Rules,
    time::read_time,
};
use crate::limits;

/// One message as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it stood in its file, from 1.
    pub line: u64,
    pub message_id: String,
    /// 128 bits of the id's SHA-256: a message counts once.
    pub digest: Uuid,
    pub occurred_at: DateTime<Utc>,
    /// Whether it named no time of its own.
    pub undated: bool,
    /// Whether the time that it named could not be read, so that the one of its arrival counts.
    pub misdated: bool,
    /// Whether its id was made from its content, since it brought none.
    pub derived_id: bool,
    pub user_id: Option<String>,
    pub anonymous_id: Option<String>,
    /// Other identifiers it carries, as (type, value). Blocked values are left out, here and above.
    pub other_ids: Vec<(Cow<'static, str>, String)>,
    pub source_id: Option<String>,
    pub body: Body,
}

/// What kind of call, and what only that kind carries. JSON is kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Identify {
        traits: Vec<(String, String)>,
    },
    /// A track call, or a page or screen call as the event that it is for audiences.
    Event {
        name: String,
        properties: String,
        context: String,
    },
    Group {
        group_id: String,
        traits: Vec<(String, String)>,
    },
    Alias {
        previous_id: String,
        user_id: String,
    },
}

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    pub line: u64,
    /// A path in the message, or `line` for the whole.
    pub field: &'static str,
    pub reason: String,
}

/// What a message does not say itself.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// When a message without any time is taken to have happened.
    pub now: DateTime<Utc>,
    /// Whether that is when the message arrived: then none is refused for a time that cannot be read.
    pub is_arrival: bool,
    /// What, with the line, names the message's place for ever: messages without an id get theirs from it. Else from their content.
    pub place: Option<String>,
    pub source_id: Option<String>,
    /// Which identifiers count.
    pub rules: Arc<Rules>,
}

/// The fields we read. All optional and untyped here, so that each refusal can name its field.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    message_id: Option<&'a RawValue>,
    user_id: Option<&'a RawValue>,
    anonymous_id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    original_timestamp: Option<&'a RawValue>,
    sent_at: Option<&'a RawValue>,
    received_at: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    category: Option<&'a RawValue>,
    properties: Option<&'a RawValue>,
    traits: Option<&'a RawValue>,
    context: Option<&'a RawValue>,
    group_id: Option<&'a RawValue>,
    previous_id: Option<&'a RawValue>,
    source_id: Option<&'a RawValue>,
    project_id: Option<&'a RawValue>,
}

/// Why a line is refused that is not UTF-8.
pub(super) const NOT_UTF_8: &str =
    "is not UTF-8, perhaps Latin-1 or Windows-1252: convert it, as by iconv -f WINDOWS-1252 -t UTF-8";

type Checked<T> = Result<T, (&'static str, String)>;

impl Message {
    /// Reads one line. `bytes` is the line without its end.
    pub fn parse(line: u64, bytes: &[u8], defaults: &Defaults) -> Result<Message, Refusal> {
        parse(line, bytes, defaults).map_err(|(field, reason)| Refusal { line, field, reason })
    }

    /// Tells it apart from `nth` messages of the same content before it, none of which brought an id.
    pub(super) fn be_nth(&mut self, nth: u32) {
        if nth > 0 {
            self.message_id = format!("{}-{nth}", self.message_id);
            self.digest = digest(&self.message_id);
        }
    }
}

fn parse(line: u64, bytes: &[u8], defaults: &Defaults) -> Checked<Message> {
    if bytes.len() > limits::MESSAGE_BYTES {
        return Err(("line", format!("is {} bytes; the most is {}", bytes.len(), limits::MESSAGE_BYTES)));
    }
    let json =
        str::from_utf8(bytes).map_err(|error| ("line", format!("{NOT_UTF_8} (byte {})", error.valid_up_to() + 1)))?;
    check_storable(json).map_err(|reason| ("line", reason))?;
    if json.trim_ascii_start().starts_with('[') {
        // Taken for the fields in their order otherwise.
        return Err(("line", "is not a JSON object".into()));
    }
    let raw: Line = serde_json::from_str(json).map_err(|error| ("line", syntax(&error)))?;

    let user_id = identifier("userId", raw.user_id)?;
    let anonymous_id = identifier("anonymousId", raw.anonymous_id)?;
    let kind = raw.kind.and_then(text_of).ok_or(("type", ONE_OF_TYPES.to_owned()))?;
    if user_id.is_none() && anonymous_id.is_none() {
        return Err(("userId", "is missing, and anonymousId too: a message needs one of them".into()));
    }
    let message_id = id("messageId", raw.message_id, limits::MESSAGE_ID_CHARS)?;
    let derived_id = message_id.is_none() && defaults.place.is_none();
    let message_id = message_id.unwrap_or_else(|| self::derived_id(line, bytes, defaults));
    let time = occurred_at(&raw, defaults)?;
    let properties = object("properties", raw.properties)?;
    let traits = object("traits", raw.traits)?;
    let context = object("context", raw.context)?;
    let other_ids = external_ids(&kind, &properties, &traits, &context, &defaults.rules);
    let user_id = user_id.filter(|id| defaults.rules.allow("user_id", id));
    let anonymous_id = anonymous_id.filter(|id| defaults.rules.allow("anonymous_id", id));
    if user_id.is_none() && anonymous_id.is_none() && other_ids.is_empty() {
        return Err(("userId", "is a blocked value, as are all its identifiers: they stand for nobody".into()));
    }
    let body = match &*kind {
        "identify" => Body::Identify { traits: owned(traits) },
        "track" => Body::Event {
            name: required("event", text("event", raw.event, limits::EVENT_NAME_CHARS))?,
            properties: raw_or_empty(raw.properties),
            context: useful(raw.context, context),
        },
        "page" => viewed("Page Viewed", "page_name", &raw, properties, context)?,
        "screen" => viewed("Screen Viewed", "screen_name", &raw, properties, context)?,
        "group" => {
            Body::Group { group_id: required("groupId", identifier("groupId", raw.group_id))?, traits: owned(traits) }
        }
        "alias" => Body::Alias {
            previous_id: required("previousId", identifier("previousId", raw.previous_id)).and_then(|id| {
                let allowed = defaults.rules.allow("user_id", &id) && defaults.rules.allow("anonymous_id", &id);
                if allowed { Ok(id) } else { Err(("previousId", "is a blocked value: it stands for nobody".into())) }
            })?,
            user_id: user_id.clone().ok_or(("userId", "is missing or blocked, and an alias needs it".to_owned()))?,
        },
        _ => return Err(("type", ONE_OF_TYPES.into())),
    };
    let source_id = match identifier("sourceId", raw.source_id.or(raw.project_id))? {
        None => defaults.source_id.clone(),
        some => some,
    };
    Ok(Message {
        line,
        digest: digest(&message_id),
        message_id,
        occurred_at: time.unwrap_or(defaults.now),
        undated: time == Time::None,
        misdated: matches!(time, Time::Instead(_)),
        derived_id,
        user_id,
        anonymous_id,
        other_ids,
        source_id,
        body,
    })
}

const ONE_OF_TYPES: &str = "must be one of identify, track, page, screen, group, alias";

/// What counts a message once: the first 128 bits of its id's SHA-256.
pub fn digest(message_id: &str) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(message_id.as_bytes()).into();
    Uuid::from_u128(hash[..16].iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
}

/// At its place for ever, where it has one; else the same content gets the same id, whatever file it stands in.
fn derived_id(line: u64, bytes: &[u8], defaults: &Defaults) -> String {
    match &defaults.place {
        Some(place) => format!("import-{place:.32}-{line}"),
        None => {
            let content = compact(bytes);
            format!("import-{}", digest(str::from_utf8(&content).unwrap_or_default()).simple())
        }
    }
}

/// When a message happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Named(DateTime<Utc>),
    /// The time that it named cannot be read; it arrived then.
    Instead(DateTime<Utc>),
    None,
}

impl Time {
    fn unwrap_or(self, default: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Time::Named(time) | Time::Instead(time) => time,
            Time::None => default,
        }
    }
}

/// The first time it names, in the order in which Segment trusts them. If that cannot be read, the one of its arrival; no message
/// is lost whose arrival is known.
fn occurred_at(raw: &Line, defaults: &Defaults) -> Checked<Time> {
    let times = [
        ("timestamp", raw.timestamp),
        ("originalTimestamp", raw.original_timestamp),
        ("sentAt", raw.sent_at),
        ("receivedAt", raw.received_at),
    ];
    let mut named = times.into_iter().filter_map(|(field, time)| Some((field, present(time)?)));
    let Some((field, time)) = named.next() else { return Ok(Time::None) };
    let reason = match read_time(time) {
        Ok(time) => return Ok(Time::Named(time)),
        Err(reason) => reason,
    };
    if defaults.is_arrival {
        return Ok(Time::Instead(defaults.now));
    }
    let received = present(raw.received_at).and_then(|time| read_time(time).ok());
    let arrival = received.or_else(|| named.find_map(|(_, time)| read_time(time).ok()));
    arrival.map(Time::Instead).ok_or((field, reason.to_owned()))
}

fn viewed(event: &str, renamed: &str, raw: &Line, mut properties: Members, context: Members) -> Checked<Body> {
    let name = text("name", raw.name, limits::EVENT_NAME_CHARS)?;
    let category = text("category", raw.category, limits::EVENT_NAME_CHARS)?;
    if name.is_some() {
        properties.0.retain(|(key, _)| key != "name" && key != renamed);
    }
    let mut out = properties.write();
    out.pop();
    if let Some(name) = &name {
        write_member(&mut out, "name", &quote(name));
        write_member(&mut out, renamed, &quote(name));
    }
    if let Some(category) = category.filter(|_| properties.get("category").is_none()) {
        write_member(&mut out, "category", &quote(&category));
    }
    out.push('}');
    Ok(Body::Event { name: event.into(), properties: out, context: useful(raw.context, context) })
}

/// The context without what no condition can ask for: traits and ids are kept elsewhere, the library is ours to forget.
fn useful(raw: Option<&RawValue>, mut context: Members) -> String {
    let before = context.0.len();
    context.0.retain(|(key, _)| !matches!(&**key, "library" | "traits" | "externalIds"));
    if context.0.len() == before { raw_or_empty(raw) } else { context.write() }
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null" && raw.get() != "\"\"")
}

/// Ids are text; whole numbers, as many languages and exports write them, are taken as their digits.
fn id(field: &'static str, raw: Option<&RawValue>, max_chars: usize) -> Checked<Option<String>> {
    match present(raw).and_then(digits_of) {
        Some(digits) => Ok(Some(digits.to_owned())),
        None if present(raw).is_some_and(|raw| text_of(raw).is_none()) => {
            Err((field, "is neither text nor a whole number".to_owned()))
        }
        None => text(field, raw, max_chars),
    }
}

fn text(field: &'static str, raw: Option<&RawValue>, max_chars: usize) -> Checked<Option<String>> {
    let Some(raw) = present(raw) else { return Ok(None) };
    let text = text_of(raw).ok_or((field, "is not text".to_owned()))?;
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err((field, format!("is longer than {max_chars} characters")));
    }
    Ok(Some(text.into_owned()))
}

fn required(field: &'static str, value: Checked<Option<String>>) -> Checked<String> {
    value?.ok_or((field, "is missing".to_owned()))
}

fn identifier(field: &'static str, raw: Option<&RawValue>) -> Checked<Option<String>> {
    id(field, raw, limits::IDENTIFIER_CHARS)
}

fn object<'a>(field: &'static str, raw: Option<&'a RawValue>) -> Checked<Members<'a>> {
    let Some(raw) = present(raw) else { return Ok(Members::default()) };
    let members = Members::of_field(raw).ok_or((field, "is not an object".to_owned()))?;
    if members.0.len() > limits::FIELDS {
        return Err((field, format!("has {} members; the most is {}", members.0.len(), limits::FIELDS)));
    }
    Ok(members)
}

fn owned(members: Members) -> Vec<(String, String)> {
    members.0.into_iter().map(|(key, value)| (key.into_owned(), value.get().to_owned())).collect()
}

fn raw_or_empty(raw: Option<&RawValue>) -> String {
    present(raw).filter(|raw| !is_empty_list(raw)).map_or_else(|| "{}".into(), |raw| raw.get().to_owned())
}

/// What serde_json says, without the line number, which is always 1 here. Of a value that is no object it would show the value.
fn syntax(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    if error.is_data() && !said.starts_with("duplicate field") {
        return "is not a JSON object".into();
    }
    format!("is not a JSON object: {said} (byte {})", error.column())
}
