//! Which properties of librdkafka may a user set? All but those that the delivery guarantee rests on, and those with a setting.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Fault;
use crate::js::{Json, coerce};

/// librdkafka properties that are refused, whole or up to a dot, with the reason.
const REFUSED: [(&str, &str); 23] = [
    ("transactional.id", "it is fixed for each destination; another one would let two instances send at once"),
    ("enable.idempotence", "without it a retry repeats records"),
    ("enable.gapless.guarantee", "it changes how a failed record is dealt with"),
    ("acks", "anything but all loses records when a broker fails"),
    ("request.required.acks", "anything but all loses records when a broker fails"),
    ("max.in.flight", "more requests in flight reorder records when one is retried"),
    ("retries", "the guarantee rests on retrying until the transaction ends"),
    ("message.send.max.retries", "the guarantee rests on retrying until the transaction ends"),
    ("message.timeout.ms", "a record that times out alone would leave a gap"),
    ("delivery.timeout.ms", "a record that times out alone would leave a gap"),
    ("partitioner", "records of one key must stay in the partition that Segment and Java choose"),
    ("isolation.level", "the cursor must be read committed"),
    ("group.", "no consumer group is used"),
    ("enable.auto.", "positions live in the transaction, not in consumer offsets"),
    ("auto.offset.reset", "the cursor is read from its beginning"),
    ("bootstrap.servers", "write it as brokers"),
    ("metadata.broker.list", "write it as brokers"),
    ("client.id", "write it as clientId"),
    ("security.protocol", "it follows from mechanism and the ssl settings"),
    ("sasl.", "it follows from mechanism and its settings"),
    ("ssl.", "it follows from the ssl settings"),
    ("enable.ssl.certificate.verification", "write it as ssl_reject_unauthorized_ca"),
    ("plugin.", "foreign code is not loaded"),
];

/// The properties to pass on, and what is wrong with the others.
pub(super) fn read(given: Option<&Value>) -> (BTreeMap<String, String>, Vec<Fault>) {
    let (mut kept, mut faults) = (BTreeMap::new(), Vec::new());
    let given = match given {
        None | Some(Value::Null) => return (kept, faults),
        Some(Value::Object(given)) => given,
        Some(other) => {
            faults.push(Fault::of_kind("properties", "a map of librdkafka properties", Json::from(other).kind()));
            return (kept, faults);
        }
    };
    for (name, value) in given {
        let value = Json::from(value);
        if let Some(reason) = refusal(name) {
            faults.push(Fault {
                code: "PROPERTY_REFUSED",
                setting: "properties".into(),
                message: format!("the property {name} cannot be set: {reason}"),
                help: Some(format!("Remove {name}.")),
            });
        } else if matches!(value, Json::Array(_) | Json::Object(_) | Json::Null) {
            let setting = format!("properties.{name}");
            faults.push(Fault::of_kind(&setting, "a text, a number or a boolean", value.kind()));
        } else if let Some(text) = coerce::text(&value) {
            kept.insert(name.clone(), text.into_owned());
        }
    }
    (kept, faults)
}

/// Why this property cannot be set; `None` if it can.
fn refusal(name: &str) -> Option<&'static str> {
    let covers = |stem: &str| {
        name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || stem.ends_with('.') || rest.starts_with('.'))
    };
    REFUSED.iter().find(|(stem, _)| covers(stem)).map(|(_, reason)| *reason)
}
