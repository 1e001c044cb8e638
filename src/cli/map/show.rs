//! How are mapped events shown? As lines for people, or as one JSON object a line.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
};

use serde_json::{Value, json};

use super::{super::output::unwritten, events::Events, vectors::Case};
use crate::{
    config::OnExit,
    error::{Error, Result},
    mapping::{Event, Mapping, Outcome, Record, Rejection, Trigger, murmur2},
};

/// Per event and enabled mapping, the record that would be sent, or why none is; then how many.
pub fn outcomes(
    mappings: &[Mapping],
    events: &mut Events<impl BufRead>,
    json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let (mut number, mut unread, mut counts) = (0, 0, [0; 3]);
    while let Some(found) = events.next().map_err(cut_off)? {
        number += 1;
        let event = found.as_ref().map_err(Clone::clone).and_then(|text| parsed(text));
        unread += usize::from(event.is_err());
        for mapping in mappings.iter().filter(|mapping| mapping.enabled()) {
            let outcome = match &event {
                Ok(event) => mapping.apply(event),
                Err(cause) => Outcome::Rejected(Rejection { code: "EVENT_NOT_JSON", detail: cause.clone() }),
            };
            let name = mapping.name();
            counts[match outcome {
                Outcome::Record(_) => 0,
                Outcome::Unsubscribed => 1,
                Outcome::Rejected(_) => 2,
            }] += 1;
            if json {
                write_line(out, &as_json(number, name, &outcome))?
            } else {
                for_people(number, name, &outcome, out)?
            }
        }
    }
    let [sent, unsubscribed, rejected] = counts;
    if !json {
        let events = if number == 1 { "event" } else { "events" };
        write_text(out, &format!("{number} {events}: {sent} sent, {unsubscribed} not matched, {rejected} rejected\n"))?;
    }
    all_read(number, unread)
}

/// What is no event fails the command, once all that are were shown.
fn all_read(events: usize, unread: usize) -> Result<()> {
    if unread == 0 {
        return Ok(());
    }
    Err(Error::settings(format!("{unread} of {events} events cannot be read"))
        .help("Give JSON objects, one a line, or an array of them."))
}

fn cut_off(cause: std::io::Error) -> Error {
    Error::settings("the events cannot be read to their end").because(cause)
}

fn as_json(number: usize, mapping: &str, outcome: &Outcome) -> Value {
    let mut shown = match outcome {
        Outcome::Record(record) => json!({"outcome": "sent", "record": record_json(record)}),
        Outcome::Unsubscribed => json!({"outcome": "unsubscribed"}),
        Outcome::Rejected(rejection) => {
            json!({"outcome": "rejected", "code": rejection.code, "reason": rejection.detail})
        }
    };
    shown["event"] = number.into();
    shown["mapping"] = mapping.into();
    shown
}

fn record_json(record: &Record) -> Value {
    let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, value])).collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "key": record.key,
        "headers": headers,
        "value": record.value.as_ref().map(|value| String::from_utf8_lossy(value)),
        "timestamp_ms": record.timestamp_ms,
    })
}

fn for_people(number: usize, mapping: &str, outcome: &Outcome, out: &mut dyn Write) -> Result<()> {
    let mut text = format!("event {number}, {mapping}: ");
    match outcome {
        Outcome::Unsubscribed => text.push_str("not sent, the trigger does not match\n"),
        Outcome::Rejected(rejection) => text.push_str(&format!("rejected, {}: {}\n", rejection.code, rejection.detail)),
        Outcome::Record(record) => {
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition.to_string(),
                // The hash is a fact; the partition needs the topic's count.
                (None, Some(key)) => format!("by key, murmur2 {}", murmur2(key.as_bytes()) & i32::MAX),
                (None, None) => "any".into(),
            };
            text.push_str(&format!("sent\n  topic      {}\n  partition  {partition}\n", record.topic));
            text.push_str(&format!("  key        {}\n", record.key.as_deref().unwrap_or("(none)")));
            for (name, value) in &record.headers {
                text.push_str(&format!("  header     {name}: {value}\n"));
            }
            if let Some(timestamp_ms) = record.timestamp_ms {
                let instant = chrono::DateTime::from_timestamp_millis(timestamp_ms);
                let shown = instant.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
                text.push_str(&format!("  timestamp  {timestamp_ms} ({})\n", shown.unwrap_or_default()));
            }
            let value = record.value.as_ref().map(|value| String::from_utf8_lossy(value));
            text.push_str(&format!("  value      {}\n", value.as_deref().unwrap_or("(tombstone)")));
        }
    }
    write_text(out, &text)
}

/// Which events a trigger lets through.
pub fn trigger(trigger: &Trigger, events: &mut Events<impl BufRead>, json: bool, out: &mut dyn Write) -> Result<()> {
    if !json {
        write_text(out, &format!("trigger: {trigger}\n"))?;
    }
    let (mut number, mut unread, mut matching) = (0, 0, 0);
    while let Some(found) = events.next().map_err(cut_off)? {
        number += 1;
        let event = found.as_ref().map_err(Clone::clone).and_then(|text| parsed(text));
        let matches = event.as_ref().is_ok_and(|event| trigger.matches(event));
        unread += usize::from(event.is_err());
        matching += usize::from(matches);
        match (&event, json) {
            (Err(cause), true) => write_line(out, &json!({"event": number, "match": false, "reason": cause}))?,
            (Err(cause), false) => write_text(out, &format!("event {number}: {cause}\n"))?,
            (Ok(_), true) => write_line(out, &json!({"event": number, "match": matches}))?,
            (Ok(_), false) => {
                write_text(out, &format!("event {number}: {}\n", if matches { "matches" } else { "no match" }))?
            }
        }
    }
    if !json {
        write_text(out, &format!("{matching} of {number} events match\n"))?;
    }
    all_read(number, unread)
}

/// An event of its text, or why it cannot be one.
fn parsed(text: &str) -> std::result::Result<Event<'_>, String> {
    Event::parse(text).map_err(|cause| format!("not JSON: {cause}"))
}

/// Where each field of the record comes from.
pub fn explanation(mappings: &[Mapping], json: bool, out: &mut dyn Write) -> Result<()> {
    for mapping in mappings {
        let fields: Vec<(&str, String)> =
            mapping.fields().into_iter().map(|(name, plan)| (name, plan.to_string())).collect();
        let (name, version) = (mapping.name(), mapping.version());
        if json {
            let fields: serde_json::Map<_, _> =
                fields.into_iter().map(|(name, from)| (name.to_owned(), from.into())).collect();
            let trigger = mapping.trigger().to_string();
            let shown = json!({"mapping": name, "version": version, "enabled": mapping.enabled(), "trigger": trigger, "fields": fields,
                "on_exit": if mapping.on_exit() == OnExit::Tombstone { "tombstone" } else { "record" }});
            write_line(out, &shown)?;
            continue;
        }
        let disabled = if mapping.enabled() { "" } else { ", disabled" };
        write_text(
            out,
            &format!("{name} (version {version}{disabled})\n  trigger            {}\n", mapping.trigger()),
        )?;
        for (field, from) in fields {
            write_text(out, &format!("  {field:<18} {from}\n"))?;
        }
        if mapping.on_exit() == OnExit::Tombstone {
            write_text(out, "  on exit            a tombstone in place of the payload\n")?;
        }
    }
    Ok(())
}

/// Each case with pass or fail and the difference, then totals for each tier.
pub fn cases(cases: &[Case], json: bool, out: &mut dyn Write) -> Result<()> {
    let mut totals: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for case in cases {
        let total = totals.entry(&case.tier).or_default();
        total.1 += 1;
        total.0 += usize::from(case.difference.is_none());
        if json {
            let pass = case.difference.is_none();
            let shown = json!({"id": case.id, "kind": case.kind, "tier": case.tier, "pass": pass, "difference": case.difference});
            write_line(out, &shown)?;
        } else {
            let result = match &case.difference {
                None => "pass".to_owned(),
                Some(difference) => format!("fail  {difference}"),
            };
            write_text(out, &format!("{} {} {}\n", case.id, case.tier, result))?;
        }
    }
    for (tier, (passed, count)) in totals {
        if json {
            write_line(out, &json!({"tier": tier, "passed": passed, "cases": count}))?;
        } else {
            write_text(out, &format!("{tier}: {passed} of {count}\n"))?;
        }
    }
    Ok(())
}

fn write_line(out: &mut dyn Write, value: &Value) -> Result<()> {
    write_text(out, &format!("{value}\n"))
}

fn write_text(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(unwritten)
}
