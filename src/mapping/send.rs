//! What record do the fields of the Send action make? Coercion, required fields, headers, timestamp, tombstones.

use serde_json::{Map, Value};

use super::{
    compile::{self, Flaw},
    event::Event,
    plan::{Plan, Scope},
    reads::Reads,
    record::{Outcome, Record, Rejection},
};
use crate::js::{self, Json, coerce};

/// The fields of the Send action, compiled.
#[derive(Debug)]
pub enum Send {
    /// Each field by itself.
    Fields(Box<Fields>),
    /// A directive makes all of them (`{"@path": "$.traits"}` as the whole mapping).
    Whole(Plan),
}

/// One plan a field. A field that is not mapped resolves to nothing.
#[derive(Debug)]
pub struct Fields {
    plans: [Plan; NAMES.len()],
    batching: Batching,
}

/// The fields, in the peer's words; `timestamp` is ours. Others are ignored, as in the peer.
pub const NAMES: [&str; 11] = [
    "topic",
    "payload",
    "headers",
    "partition",
    "default_partition",
    "key",
    "enable_batching",
    "batch_keys",
    "batch_bytes",
    "batch_size",
    "timestamp",
];
const TOPIC: usize = 0;
const PAYLOAD: usize = 1;
const KEY: usize = 5;
const ENABLE_BATCHING: usize = 6;
const BATCH_BYTES: usize = 8;
const BATCH_SIZE: usize = 9;

/// How large batches may grow. The Kafka client batches by itself; these bound it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batching {
    pub enabled: bool,
    /// At least 5,000.
    pub bytes: f64,
    pub size: f64,
}

impl Default for Batching {
    /// The peer's defaults.
    fn default() -> Self {
        Batching { enabled: true, bytes: 1_000_000.0, size: 1002.0 }
    }
}

impl Batching {
    fn of(plans: &[Plan; NAMES.len()]) -> Batching {
        let literal = |at: usize| match &plans[at] {
            Plan::Literal(value) => present(value),
            _ => None,
        };
        let default = Batching::default();
        Batching {
            enabled: literal(ENABLE_BATCHING).and_then(coerce::boolean).unwrap_or(default.enabled),
            bytes: literal(BATCH_BYTES).and_then(coerce::number).unwrap_or(default.bytes),
            size: literal(BATCH_SIZE).and_then(coerce::number).unwrap_or(default.size),
        }
    }
}

impl Fields {
    /// Whether the payload is the whole event, which then needs no tree.
    fn as_it_is(&self) -> bool {
        matches!(&self.plans[PAYLOAD], Plan::Path(path) if path.is_root())
    }
}

impl Send {
    /// Checks and compiles a mapping's fields.
    pub fn compile(mapping: &Map<String, Value>) -> Result<Send, Vec<Flaw>> {
        let members: Vec<(String, Plan)> = match compile::compile(&Value::Object(mapping.clone()))? {
            Plan::Object(members) => members,
            Plan::Literal(Json::Object(members)) => {
                members.into_iter().map(|(name, value)| (name.into_owned(), Plan::Literal(value))).collect()
            }
            whole => return Ok(Send::Whole(whole)),
        };
        let mut plans = NAMES.map(|_| Plan::Nothing);
        for (name, plan) in members {
            if let Some(at) = NAMES.iter().position(|known| *known == name) {
                plans[at] = plan;
            }
        }
        let batching = Batching::of(&plans);
        Ok(Send::Fields(Box::new(Fields { plans, batching })))
    }

    /// The record for an event that the trigger let through.
    pub fn record(&self, event: &Event<'_>) -> Result<Record, Rejection> {
        if !event.is_object() {
            return Err(reject("EVENT_NOT_AN_OBJECT", "an event must be a JSON object"));
        }
        let fault = |fault| reject("MAPPING_FAULT", fault);
        match self {
            Send::Fields(fields) => {
                let as_it_is = fields.as_it_is();
                let mut values = NAMES.map(|_| Json::Undefined);
                for (at, (value, plan)) in values.iter_mut().zip(&fields.plans).enumerate() {
                    if !(matches!(plan, Plan::Nothing) || (as_it_is && at == PAYLOAD)) {
                        *value = plan.resolve(Scope::Event(event)).map_err(fault)?;
                    }
                }
                let payload = as_it_is.then(|| {
                    let mut text = String::new();
                    event.write_json(&mut text);
                    text
                });
                record(values, payload, fields.batching.enabled)
            }
            Send::Whole(plan) => {
                let whole = plan.resolve(Scope::Event(event)).map_err(fault)?;
                if !matches!(whole.view(), Json::Object(_)) {
                    let message = format!("The root value must be an object but it was {}.", article(whole.kind()));
                    return Err(reject("FIELD_TYPE", message));
                }
                let values = NAMES.map(|name| whole.member(name).map_or(Json::Undefined, Json::Ref));
                record(values, None, true)
            }
        }
    }

    /// What is read of an event.
    pub fn reads(&self) -> Reads {
        let mut reads = Reads::default();
        match self {
            Send::Fields(fields) => {
                let parsed = |at: usize| !(at == PAYLOAD && fields.as_it_is());
                let plans = fields.plans.iter().enumerate().filter(|(at, _)| parsed(*at));
                plans.for_each(|(_, plan)| plan.add_reads(&mut reads));
            }
            Send::Whole(plan) => plan.add_reads(&mut reads),
        }
        reads
    }

    /// The batching that the mapping's literals ask for.
    pub fn batching(&self) -> Batching {
        match self {
            Send::Fields(fields) => fields.batching,
            Send::Whole(_) => Batching::default(),
        }
    }

    /// Whether a key is mapped, so that a tombstone can have one.
    pub fn has_key(&self) -> bool {
        match self {
            Send::Fields(fields) => !matches!(&fields.plans[KEY], Plan::Nothing),
            Send::Whole(_) => true,
        }
    }

    /// The topic, if it is the same for every event.
    pub fn literal_topic(&self) -> Option<String> {
        match self {
            Send::Fields(fields) => match &fields.plans[TOPIC] {
                Plan::Literal(topic) => present(topic).and_then(coerce::text).map(|topic| topic.into_owned()),
                _ => None,
            },
            Send::Whole(_) => None,
        }
    }

    /// The fields that are mapped, with their plans, for people.
    pub fn fields(&self) -> Vec<(&'static str, &Plan)> {
        match self {
            Send::Fields(fields) => {
                NAMES.into_iter().zip(&fields.plans).filter(|(_, plan)| !matches!(plan, Plan::Nothing)).collect()
            }
            Send::Whole(plan) => vec![("(all fields)", plan)],
        }
    }
}

/// A field with a value. Nothing, null and the empty text are none: the peer removes them before it validates.
fn present<'v, 'a>(value: &'v Json<'a>) -> Option<&'v Json<'a>> {
    match value.view() {
        Json::Undefined | Json::Null => None,
        Json::Text(text) if text.is_empty() => None,
        value => Some(value),
    }
}

/// The record from the values of the fields in the order of [`NAMES`]. `text` is the payload's, if it is known already.
fn record(mut values: [Json<'_>; NAMES.len()], text: Option<String>, batching: bool) -> Result<Record, Rejection> {
    let mut taken = |at: usize| std::mem::replace(&mut values[at], Json::Undefined);
    let (topic, key) = (taken(TOPIC), taken(KEY));
    // In a batch the peer keeps the empty text where a text is wanted: it is a key, and a topic that cannot be.
    let has_text = |value: &Json<'_>| if batching { !value.is_absent() } else { present(value).is_some() };
    if !has_text(&topic) {
        return Err(missing("topic"));
    }
    let topic = into_text("Topic", topic)?;
    if topic.is_empty() {
        return Err(reject("TOPIC_EMPTY", "Topic is the empty text, and no topic has that name."));
    }
    let key = if has_text(&key) { Some(into_text("Message Key", key)?) } else { None };
    let [_, payload, headers, partition, default_partition, _, enable, keys, bytes, size, timestamp] =
        values.each_ref().map(present);
    let value = match text {
        Some(text) => text,
        None => {
            let payload = payload.ok_or_else(|| missing("payload"))?;
            js::json_text(object(payload).ok_or_else(|| wrong_type("Payload", "an object", payload))?)
        }
    };
    let headers = match headers {
        Some(headers) => header_list(object(headers).ok_or_else(|| wrong_type("Headers", "an object", headers))?),
        None => Vec::new(),
    };
    let partition = number_of_partition("Partition", partition)?;
    let default_partition = number_of_partition("Default Partition", default_partition)?;
    check_batching(enable, keys, bytes, size)?;
    let timestamp_ms = timestamp.map(instant).transpose()?;
    let partition = partition.or(default_partition);
    Ok(Record { topic, partition, key, headers, value: Some(value.into_bytes()), timestamp_ms })
}

fn into_text(label: &str, value: Json<'_>) -> Result<String, Rejection> {
    let kind = value.kind();
    coerce::into_text(value)
        .ok_or_else(|| reject("FIELD_TYPE", format!("{label} must be a string but it was {}.", article(kind))))
}

fn object<'v, 'a>(value: &'v Json<'a>) -> Option<&'v Json<'a>> {
    Some(value.view()).filter(|value| matches!(value, Json::Object(_)))
}

/// Headers as text: what is no text becomes its text, null is left out, an array is the same header several times.
fn header_list(headers: &Json<'_>) -> Vec<(String, String)> {
    let Json::Object(members) = headers.view() else { return Vec::new() };
    let mut list = Vec::with_capacity(members.len());
    let mut push = |name: &str, value: &Json<'_>| match value.view() {
        Json::Undefined | Json::Null => {}
        container @ (Json::Array(_) | Json::Object(_)) => list.push((name.to_owned(), js::json_text(container))),
        scalar => list.push((name.to_owned(), js::string(scalar))),
    };
    js::in_javascript_order(members, |name, value| match value.view() {
        Json::Array(items) => items.iter().for_each(|item| push(name, item)),
        _ => push(name, value),
    });
    list
}

fn number_of_partition(label: &str, value: Option<&Json<'_>>) -> Result<Option<i32>, Rejection> {
    let Some(value) = value else { return Ok(None) };
    let number = coerce::integer(value).ok_or_else(|| wrong_type(label, "an integer", value))?;
    if !(0.0..=f64::from(i32::MAX)).contains(&number) {
        return Err(reject("PARTITION_ABSENT", format!("{label} is {number}, and no topic has such a partition.")));
    }
    // The range was checked just above.
    Ok(Some(number as i32))
}

fn check_batching(
    enable: Option<&Json<'_>>,
    keys: Option<&Json<'_>>,
    bytes: Option<&Json<'_>>,
    size: Option<&Json<'_>>,
) -> Result<(), Rejection> {
    if let Some(value) = enable.filter(|value| coerce::boolean(value).is_none()) {
        return Err(wrong_type("Batch Data to Kafka?", "a boolean", value));
    }
    let names = match keys.map(Json::view) {
        Some(Json::Array(names)) => names.as_slice(),
        Some(name) => std::slice::from_ref(name),
        None => &[],
    };
    if let Some(name) = names.iter().find(|name| !name.is_absent() && coerce::text(name).is_none()) {
        return Err(wrong_type("Batch Keys", "an array of strings", name));
    }
    if let Some(value) = bytes {
        match coerce::number(value) {
            Some(bytes) if bytes < 5000.0 => {
                return Err(reject("FIELD_RANGE", "Batch Bytes must be equal or greater than 5000."));
            }
            Some(_) => {}
            None => return Err(wrong_type("Batch Bytes", "a number", value)),
        }
    }
    match size.filter(|value| coerce::number(value).is_none()) {
        Some(value) => Err(wrong_type("Batch Size", "a number", value)),
        None => Ok(()),
    }
}

/// Milliseconds since 1970: a number as it is, a text as RFC 3339.
fn instant(value: &Json<'_>) -> Result<i64, Rejection> {
    let millis = match value.view() {
        Json::Number(number) => number.as_f64().map(|millis| millis as i64),
        Json::Text(text) => chrono::DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.timestamp_millis()),
        _ => None,
    };
    millis.filter(|millis| *millis >= 0).ok_or_else(|| {
        reject("FIELD_TYPE", "Timestamp must be milliseconds since 1970 or a time as 2025-03-14T09:26:53Z.")
    })
}

fn missing(field: &str) -> Rejection {
    reject("FIELD_MISSING", format!("The root value is missing the required field '{field}'."))
}

fn wrong_type(label: &str, wanted: &str, value: &Json<'_>) -> Rejection {
    reject("FIELD_TYPE", format!("{label} must be {wanted} but it was {}.", article(value.kind())))
}

fn article(kind: &str) -> String {
    match kind {
        "undefined" | "null" => kind.to_owned(),
        "array" | "object" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

pub fn reject(code: &'static str, detail: impl Into<String>) -> Rejection {
    Rejection { code, detail: detail.into() }
}

/// A tombstone in place of the record: nothing under its key.
pub fn tombstone(record: Record) -> Outcome {
    match record.key {
        Some(_) => Outcome::Record(Record { value: None, ..record }),
        None => {
            Outcome::Rejected(reject("TOMBSTONE_WITHOUT_KEY", "a tombstone needs a key, and this event gives none"))
        }
    }
}
