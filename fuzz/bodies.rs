//! What must hold for any input, one function for each fuzz target.
//!
//! libFuzzer calls them by `fuzz_targets/`, the tests (`tests/fuzz.rs`) with kept and with mutated inputs.

use std::sync::Arc;

use rollcall::{
    config::{self, OnExit},
    http::tracking::call::{Address, Call, Received},
    js,
    mapping::{Event, Known, Liquid, Mapping, Trigger, compile},
    profile::{
        Defaults,
        rules::Rules,
        source::{Format, Reading, Source},
    },
};

/// Any text as a trigger: no panic, problems that lie in the text, and printing that parses to the same trigger.
pub fn trigger(text: &str) {
    match Trigger::parse(text) {
        Ok(trigger) => {
            assert_eq!(Trigger::parse(&trigger.to_string()).as_ref(), Ok(&trigger));
            if let Ok(event) = Event::parse(r#"{"type":"identify","traits":{"a":[1,"x",null]},"userId":5}"#) {
                trigger.matches(&event);
            }
        }
        Err(problems) => assert!(problems.iter().all(|problem| text.get(problem.span.clone()).is_some())),
    }
}

/// Any JSON as a mapping, over any JSON as an event, separated by a zero byte: no panic, and an event of ours, which is parsed only as
/// far as it is read, becomes the same record as one of others.
pub fn mapping(text: &str) {
    let (mapping, event) = text.split_once('\0').unwrap_or((text, "{}"));
    let (Ok(fields), Ok(event)) = (serde_json::from_str::<serde_json::Value>(mapping), Event::parse(event)) else {
        return;
    };
    if let Ok(plan) = compile(&fields) {
        let _ = plan.output(&event);
    }
    let serde_json::Value::Object(mapping) = fields else { return };
    let config =
        config::Mapping { name: "fuzz".into(), enabled: true, subscribe: None, mapping, on_exit: OnExit::Record };
    if let (Ok(mapping), true) = (Mapping::compile("fuzz", &config), event.is_object()) {
        let text = js::json_text(event.tree());
        let foreign = Event::parse(&text).expect("what we write is JSON");
        assert_eq!(mapping.apply(&Event::known(&text, known(&foreign))), mapping.apply(&foreign));
    }
}

/// What is known of an event, where all of it are texts.
fn known<'a>(event: &'a Event<'_>) -> Known<'a> {
    let text = |name: &str| event.tree().member(name).and_then(|value| value.as_str());
    Known {
        kind: text("type"),
        user_id: text("userId"),
        anonymous_id: text("anonymousId"),
        message_id: text("messageId"),
        timestamp: text("timestamp"),
        event: text("event"),
        context: None,
        traits: None,
        member: event.member(),
    }
}

/// Any text as a Liquid template: no panic, and an end within the bounds.
pub fn liquid(template: &str) {
    let event = Event::parse(r#"{"a":1,"b":[1,"x",null,{"c":2}],"d":{"e":"text"},"f":"2025-03-14T09:26:53.589Z"}"#);
    if let (Ok(liquid), Ok(event)) = (Liquid::parse(template), event)
        && let Ok(text) = liquid.render(event.tree())
    {
        assert!(text.len() <= rollcall::limits::LIQUID_OUTPUT_BYTES);
    }
}

/// Any text as a request of the tracking API: no panic, and each message that is taken can be stored.
pub fn tracking(text: &str) {
    for address in [Address::Batch, Address::One("identify"), Address::One("track")] {
        let Ok(call) = Call::read(address, text) else { continue };
        let rules = Arc::new(Rules::default());
        let received = Received { at: Default::default(), source: Some("fuzz"), rules: &rules };
        let messages = call.messages(received, || [7; 16]);
        assert_eq!(messages.len(), call.count());
        for message in messages.into_iter().flatten() {
            assert!(!message.message_id.is_empty() && !message.message_id.contains('\0'));
            assert!(message.user_id.is_some() || message.anonymous_id.is_some());
        }
        let _ = call.write_key();
    }
}

/// Any text as a file of either format: no panic, an end, messages that can be stored, and the same ones when it is read on from the
/// middle.
pub fn file(text: &str) {
    for format in [Format::Json, Format::Csv] {
        let read = |after: u64| {
            let reading = Reading { format: Some(format), ..Reading::default() };
            let source = Source::stream("fuzz", Box::new(std::io::Cursor::new(text.to_owned())), reading).ok()?;
            let defaults = Defaults {
                now: Default::default(),
                is_arrival: false,
                place: Some("fuzz".into()),
                source_id: None,
                rules: Arc::default(),
            };
            let (mut messages, mut refused) = (Vec::new(), 0);
            let keep = |batch: rollcall::profile::source::Batch| {
                refused += batch.refusals.len() as u64;
                messages.extend(batch.messages);
                true
            };
            source.read(after, 3, &defaults, keep).expect("memory can be read");
            Some((messages, refused))
        };
        let Some((all, refused)) = read(0) else { continue };
        let half = (all.len() as u64 + refused) / 2;
        let (rest, _) = read(half).expect("it was read before");
        assert_eq!(rest[..], all[all.len() - rest.len()..]);
        assert!(all.iter().all(|message| !message.message_id.is_empty() && !message.message_id.contains('\0')));
    }
}
