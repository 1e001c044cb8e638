//! Does this program agree with the peer? Runs a file of conformance vectors (their README tells the formats).

use std::collections::{BTreeMap, HashMap};

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use crate::{
    config::{self, OnExit},
    error::{Error, Result},
    js,
    kafka::settings::{Mechanism, Pem, Settings, Tls},
    mapping::{
        Event, Mapping, Outcome, Record, Rejection, Trigger, compile, membership, murmur2, partition, partition_for_key,
    },
};

/// One case, run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub id: String,
    pub kind: String,
    /// `core`: must agree; `edge`: should agree; `quirk`: an accident of the peer.
    pub tier: String,
    /// What differs; `None` if nothing does.
    pub difference: Option<String>,
}

/// Runs every case of a file.
pub fn run(text: &str) -> Result<Vec<Case>> {
    let file: Value = serde_json::from_str(text).map_err(|cause| {
        Error::settings("the vectors are not JSON").because(cause).help("Give a file of the vectors' formats.")
    })?;
    let check: fn(&Value, &Map<String, Value>) -> Result<(), String> = match file["format"].as_str() {
        Some("mapping/1") => mapping_case,
        Some("fql/1") => fql_case,
        Some("send/1") => send_case,
        Some("partitioner/1") => partitioner_case,
        Some("membership/1") => membership_case,
        other => {
            let formats = "mapping/1, fql/1, send/1, partitioner/1 and membership/1";
            return Err(
                Error::settings(format!("the vectors have the format {other:?}")).help(format!("Known are {formats}."))
            );
        }
    };
    let none = Map::new();
    let events = file["events"].as_object().unwrap_or(&none);
    let cases = file["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |case: &Value, name: &str| case[name].as_str().unwrap_or_default().to_owned();
    let run = |case| Case {
        id: text(case, "id"),
        kind: text(case, "kind"),
        tier: text(case, "tier"),
        difference: check(case, events).err(),
    };
    Ok(cases.iter().map(run).collect())
}

/// Agreement or what differs.
fn agree(what: &str, expected: &Value, actual: &Value) -> Result<(), String> {
    if same(expected, actual) { Ok(()) } else { Err(format!("{what}: expected {expected}, got {actual}")) }
}

/// Equal as JSON values: the order of keys does not matter, and 1 equals 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || (!(a.is_u64() && b.is_u64()) && a.as_f64() == b.as_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// The event of a case, as JSON text.
fn event_text(case: &Value, events: &Map<String, Value>) -> String {
    match (case["event_raw"].as_str(), case["event_ref"].as_str()) {
        (Some(raw), _) => raw.to_owned(),
        (_, Some(name)) => events.get(name).unwrap_or(&Value::Null).to_string(),
        _ => case["event"].to_string(),
    }
}

fn mapping_case(case: &Value, events: &Map<String, Value>) -> Result<(), String> {
    let text = event_text(case, events);
    let expect = &case["expect"];
    let output = |plan: &crate::mapping::Plan| -> Result<(Value, String), String> {
        let event = Event::parse(&text).map_err(|cause| cause.to_string())?;
        let output = plan.output(&event)?;
        let nothing = matches!(output.view(), crate::js::Json::Undefined);
        let value = if nothing { json!({"undefined": true}) } else { json!({"output": output.to_value()}) };
        Ok((value, js::json_text(&output)))
    };
    let compiled =
        compile(&case["mapping"]).map_err(|flaws| flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    match compiled.and_then(|plan| output(&plan)) {
        Err(_) if expect["error"] == true => Ok(()),
        Err(message) => Err(format!("expected {expect}, got the error: {message}")),
        Ok((value, _)) if expect["error"] == true => Err(format!("expected an error, got {value}")),
        Ok((value, text)) => {
            let wanted = if expect["undefined"] == true {
                json!({"undefined": true})
            } else {
                json!({"output": expect["output"]})
            };
            match expect["text"].as_str() {
                Some(wanted) if wanted == text => Ok(()),
                Some(wanted) => Err(format!("text: expected {wanted}, got {text}")),
                None => agree("output", &wanted, &value),
            }
        }
    }
}

fn fql_case(case: &Value, events: &Map<String, Value>) -> Result<(), String> {
    let text = event_text(case, events);
    let event = Event::parse(&text).map_err(|cause| cause.to_string())?;
    let trigger = Trigger::parse(case["fql"].as_str().unwrap_or_default());
    let refused = trigger.is_err();
    let matched = trigger.is_ok_and(|trigger| trigger.matches(&event));
    let actual = json!({"parse_error": refused, "match": matched});
    let expected =
        json!({"parse_error": case["expect"]["parse_error"] == true, "match": case["expect"]["match"] == true});
    agree("trigger", &expected, &actual)
}

fn membership_case(case: &Value, events: &Map<String, Value>) -> Result<(), String> {
    let text = event_text(case, events);
    let event = Event::parse(&text).map_err(|cause| cause.to_string())?;
    agree("member", &case["expect"], &json!(membership::told(event.tree())))
}

fn partitioner_case(case: &Value, _: &Map<String, Value>) -> Result<(), String> {
    if let Some(leaders) = case["leaders"].as_array() {
        let leaders: Vec<bool> = leaders.iter().map(|leader| leader.as_i64() != Some(-1)).collect();
        let message = &case["message"];
        let asked = message["partition"].as_i64().and_then(|asked| i32::try_from(asked).ok());
        let key = message["key"].as_str().map(str::as_bytes);
        // A partition that does not exist is reported as absent, with its number.
        let chosen = match partition::Partitioner::default().choose(asked, key, 1, 1, &leaders) {
            Ok(chosen) | Err(partition::Absent::Partition { asked: chosen, .. }) => json!(chosen),
            Err(absent @ partition::Absent::Topic) => json!(absent.to_string()),
        };
        return match &case["expect_partition"] {
            Value::Array(allowed) if allowed.contains(&chosen) => Ok(()),
            expected => agree("partition", expected, &chosen),
        };
    }
    let key = case["key"].as_str().unwrap_or_default().as_bytes();
    agree("murmur2", &case["murmur2"], &json!(murmur2(key)))?;
    for (count, expected) in case["partition"].as_object().into_iter().flatten() {
        let count = count.parse().map_err(|_| format!("{count} is no number of partitions"))?;
        agree(&format!("partition of {count}"), expected, &json!(partition_for_key(key, count)))?;
    }
    Ok(())
}

fn send_case(case: &Value, events: &Map<String, Value>) -> Result<(), String> {
    if let Some(settings) = case["settings"].as_object() {
        return settings_case(settings, &case["expect"]);
    }
    let texts = event_texts(case, events)?;
    let outcomes = outcomes(case, &texts)?;
    let expect = &case["expect"];
    let isolated = expect["isolated"].as_array();
    let results = isolated.or(expect["results"].as_array());
    let Some(results) = results else {
        let refused = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Rejected(_)));
        return if refused { Ok(()) } else { Err(format!("expected a refusal, got {outcomes:?}")) };
    };
    if results.len() != outcomes.len() {
        return Err(format!("expected {} results, got {}", results.len(), outcomes.len()));
    }
    // The messages of the peer, in the order of the events that were sent.
    let mut sends = match isolated {
        Some(results) => isolated_queues(results),
        None => queues(expect),
    };
    for (result, outcome) in results.iter().zip(&outcomes) {
        let said = match outcome {
            Outcome::Record(_) => "sent",
            Outcome::Rejected(_) => "rejected",
            Outcome::Unsubscribed => "unsubscribed",
        };
        let wanted = result["outcome"].as_str().unwrap_or_default();
        match outcome {
            // The peer hands on a topic or partition that cannot exist, and loses the message; we say so instead.
            Outcome::Rejected(rejection) if wanted == "sent" => {
                let lost = sends.values_mut().flatten().find(|(_, placed)| placed == "lost");
                lost.map(|slot| slot.1 = "rejected".into()).ok_or_else(|| format!("rejected: {}", rejection.detail))?;
            }
            Outcome::Rejected(rejection) if wanted != said => {
                return Err(format!("expected {wanted}, got rejected: {}", rejection.detail));
            }
            _ if wanted != said => return Err(format!("expected {wanted}, got {said}")),
            Outcome::Record(record) => {
                let queue = sends
                    .get_mut(&record.topic)
                    .ok_or_else(|| format!("nothing is expected in topic {}", record.topic))?;
                queue.retain(|(_, placed)| placed != "rejected");
                if queue.is_empty() {
                    return Err(format!("more records than expected in topic {}", record.topic));
                }
                let (message, placed) = queue.remove(0);
                same_message(&message, &placed, record)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The JSON text of each event.
fn event_texts(case: &Value, events: &Map<String, Value>) -> Result<Vec<String>, String> {
    if let Some(raw) = case["events_raw"].as_str() {
        let raw: Vec<Box<serde_json::value::RawValue>> =
            serde_json::from_str(raw).map_err(|cause| cause.to_string())?;
        return Ok(raw.iter().map(|event| event.get().to_owned()).collect());
    }
    let resolved = |event: &Value| match event["$ref"].as_str() {
        Some(name) => events.get(name).unwrap_or(&Value::Null).to_string(),
        None => event.to_string(),
    };
    Ok(case["events"].as_array().into_iter().flatten().map(resolved).collect())
}

/// What each event becomes; all of them are rejected if the trigger or the mapping is refused.
fn outcomes(case: &Value, texts: &[String]) -> Result<Vec<Outcome>, String> {
    let mapping = case["mapping"].as_object().cloned().unwrap_or_default();
    let as_it_is = compiled(case, mapping.clone());
    // By itself an event is sent as if batching was off, whatever the mapping says; that it says something valid still counts.
    let alone = (case["mode"] == "single" && !mapping.keys().any(|key| key.starts_with('@'))).then(|| {
        let mut alone = mapping;
        alone.insert("enable_batching".into(), json!(false));
        compiled(case, alone)
    });
    let applied = |compiled: &crate::Result<Mapping>, text: &str| match (compiled, Event::parse(text)) {
        (Ok(mapping), Ok(event)) => mapping.apply(&event),
        (Err(error), _) => Outcome::Rejected(Rejection { code: "MAPPING", detail: error.message.clone() }),
        (_, Err(cause)) => Outcome::Rejected(Rejection { code: "EVENT", detail: cause.to_string() }),
    };
    let outcome = |text: &String| match (applied(&as_it_is, text), &alone) {
        (Outcome::Record(_), Some(alone)) => applied(alone, text),
        (outcome, _) => outcome,
    };
    Ok(texts.iter().map(outcome).collect())
}

fn compiled(case: &Value, mapping: Map<String, Value>) -> crate::Result<Mapping> {
    // A trigger that is no text is as good as an empty one, which is refused.
    let subscribe = Some(case["subscribe"].as_str().unwrap_or_default().to_owned());
    let config = config::Mapping { name: "vector".into(), enabled: true, subscribe, mapping, on_exit: OnExit::Record };
    Mapping::compile("vector", &config)
}

type Queues = HashMap<String, Vec<(Value, String)>>;

/// By topic the messages that the peer handed to its producer, each with where it was placed.
fn queues(expect: &Value) -> Queues {
    let placed: Vec<String> = expect["wire"]["placed"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|place| place.as_str().map_or(place.to_string(), str::to_owned))
        .collect();
    let mut queues = Queues::new();
    let mut at = 0;
    for send in expect["sends"].as_array().into_iter().flatten() {
        for message in send["messages"].as_array().into_iter().flatten() {
            let place = placed.get(at).cloned().unwrap_or_else(|| "unknown".into());
            queues
                .entry(send["topic"].as_str().unwrap_or_default().to_owned())
                .or_default()
                .push((message.clone(), place));
            at += 1;
        }
    }
    queues
}

fn isolated_queues(results: &[Value]) -> Queues {
    let mut queues = Queues::new();
    for result in results.iter().filter(|result| result["outcome"] == "sent") {
        let queue = queues.entry(result["topic"].as_str().unwrap_or_default().to_owned()).or_default();
        queue.push((result["message"].clone(), "unknown".into()));
    }
    queues
}

fn same_message(message: &Value, placed: &str, record: &Record) -> Result<(), String> {
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    record.headers.iter().for_each(|(name, value)| headers.entry(name).or_default().push(value));
    let headers: Map<String, Value> = headers
        .into_iter()
        .map(|(name, values)| (name.to_owned(), if values.len() == 1 { json!(values[0]) } else { json!(values) }))
        .collect();
    let value = record.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
    agree("value", &message["value"], &json!(value))?;
    agree("key", &message["key"], &json!(record.key))?;
    agree("partition", &message["partition"], &json!(record.partition))?;
    let none = json!({});
    agree("headers", message.get("headers").unwrap_or(&none), &Value::Object(headers))?;
    match placed.parse::<i32>() {
        Ok(place) => {
            let by_key = || record.key.as_ref().map(|key| partition_for_key(key.as_bytes(), 6));
            agree("place", &json!(place), &json!(record.partition.or_else(by_key)))
        }
        Err(_) if placed == "any" && (record.key.is_some() || record.partition.is_some()) => {
            Err("place: expected any, got one that is fixed".into())
        }
        Err(_) => Ok(()),
    }
}

fn settings_case(settings: &Map<String, Value>, expect: &Value) -> Result<(), String> {
    let (read, faults) = Settings::read(settings);
    let codes: Vec<&str> = faults.iter().map(|fault| fault.code).collect();
    match (read, expect.get("error")) {
        (None, Some(error)) => match error["code"].as_str() {
            Some(code) if !codes.contains(&code) => Err(format!("expected {code}, got {codes:?}")),
            _ => Ok(()),
        },
        (None, None) => Err(format!("expected {}, got {codes:?}", expect["client"])),
        (Some(settings), None) => agree("client", &expect["client"], &client(&settings, &expect["client"])),
        (Some(_), Some(error)) => Err(format!("expected the error {error}, got none")),
    }
}

/// Settings as the options of the peer's client. Verification that is on is said only where the peer says it.
fn client(settings: &Settings, expected: &Value) -> Value {
    let login = |name: &str, login: &crate::kafka::settings::Login| json!({"username": login.username, "password": login.password.expose_secret(), "mechanism": name});
    let sasl = match &settings.mechanism {
        Mechanism::Plain(given) => login("plain", given),
        Mechanism::ScramSha256(given) => login("scram-sha-256", given),
        Mechanism::ScramSha512(given) => login("scram-sha-512", given),
        Mechanism::Aws(iam) => json!({
            "accessKeyId": iam.access_key_id, "secretAccessKey": iam.secret_access_key.expose_secret(),
            "authorizationIdentity": iam.role_arn, "mechanism": "aws",
        }),
        _ => Value::Null,
    };
    let pem = |pem: &Option<Pem>, label| {
        pem.as_ref().and_then(|pem| pem.read(label).ok()).map(|text| text.expose_secret().to_owned())
    };
    let ssl = match &settings.tls {
        None => Value::Null,
        Some(Tls { ca: None, certificate: None, .. }) => json!(true),
        Some(tls) => {
            let mut ssl = Map::new();
            ssl.extend(pem(&tls.ca, "CERTIFICATE").map(|ca| ("ca".to_owned(), json!([ca]))));
            ssl.extend(pem(&tls.key, "PRIVATE KEY").map(|key| ("key".to_owned(), json!(key))));
            ssl.extend(pem(&tls.certificate, "CERTIFICATE").map(|certificate| ("cert".to_owned(), json!(certificate))));
            if !tls.reject_unauthorized || expected["ssl"].get("rejectUnauthorized").is_some() {
                ssl.insert("rejectUnauthorized".into(), json!(tls.reject_unauthorized));
            }
            Value::Object(ssl)
        }
    };
    json!({"clientId": settings.client_id, "brokers": settings.brokers, "sasl": sasl, "ssl": ssl})
}
