//! What the Send fields make beyond the vectors: timestamps, tombstones, headers, refusals, limits.

use rollcall::{
    config::{self, OnExit},
    mapping::{
        Event, Known, Mapping, Outcome, Trigger,
        partition::{Absent, Partitioner},
    },
};
use serde_json::{Value, json};

use super::{compile, compile_with, record, rejection, text};

fn identify() -> Value {
    json!({"type": "identify", "userId": "u1", "traits": {"vip": true},
        "context": {"personas": {"computation_class": "audience", "computation_key": "vip"}}})
}

#[test]
fn a_known_event_goes_out_as_it_came_without_being_read() {
    // Not JSON at all: had it been parsed, the record could not be this.
    let event = Event::known("{not read}", Known { kind: Some("identify"), user_id: Some("u1"), ..Known::default() });
    let mapping = compile(json!({"topic": "t", "payload": {"@path": "$."}, "key": {"@path": "$.userId"}})).unwrap();
    let Outcome::Record(record) = mapping.apply(&event) else { panic!("not sent") };
    assert_eq!((text(&record), record.key.as_deref()), ("{not read}", Some("u1")));
}

#[test]
fn a_known_event_and_the_same_event_parsed_give_the_same_record() {
    let event = identify().to_string();
    let known = Known { kind: Some("identify"), user_id: Some("u1"), member: Some(true), ..Known::default() };
    let mapping = compile(json!({
        "topic": {"@template": "{{type}}.{{context.personas.computation_key}}.{{messageId}}"},
        "payload": {"@path": "$.traits"}, "key": {"@path": "$.userId"},
    }))
    .unwrap();
    assert_eq!(mapping.apply(&Event::known(&event, known)), mapping.apply(&Event::parse(&event).unwrap()));
}

#[test]
fn integers_beyond_53_bits_stay_exact() {
    let event: Value =
        serde_json::from_str(r#"{"type":"track","id":9007199254740993,"big":18446744073709551615}"#).unwrap();
    let mapped = record(json!({"topic": {"@path": "$.id"}, "payload": {"@path": "$."}}), &event);
    assert_eq!(mapped.topic, "9007199254740993");
    assert_eq!(text(&mapped), r#"{"type":"track","id":9007199254740993,"big":18446744073709551615}"#);
}

#[test]
fn an_exit_is_told_as_a_tombstone_when_the_mapping_says_so() {
    let fields = json!({"topic": "t", "payload": {"@path": "$."}, "key": {"@path": "$.userId"}});
    let mapping = compile_with(fields, None, OnExit::Tombstone).unwrap();
    let mut event = identify();
    let Outcome::Record(entered) = mapping.apply(&Event::of_value(&event)) else { panic!("not sent") };
    assert!(entered.value.is_some());
    event["traits"]["vip"] = false.into();
    let Outcome::Record(exited) = mapping.apply(&Event::of_value(&event)) else { panic!("not sent") };
    assert_eq!((exited.value, exited.key.as_deref()), (None, Some("u1")));
}

#[test]
fn a_tombstone_without_a_key_is_refused_up_front_or_rejected() {
    let error = compile_with(json!({"topic": "t", "payload": {"@path": "$."}}), None, OnExit::Tombstone).unwrap_err();
    assert!(error.message.contains("maps no key"));
    let fields = json!({"topic": "t", "payload": {"@path": "$."}, "key": {"@path": "$.nope"}});
    let mapping = compile_with(fields, None, OnExit::Tombstone).unwrap();
    let mut event = identify();
    event["traits"]["vip"] = false.into();
    let Outcome::Rejected(rejection) = mapping.apply(&Event::of_value(&event)) else { panic!("not rejected") };
    assert_eq!(rejection.code, "TOMBSTONE_WITHOUT_KEY");
}

#[test]
fn a_timestamp_is_milliseconds_or_a_time() {
    let at = |value: Value| {
        record(
            json!({"topic": "t", "payload": {}, "timestamp": {"@path": "$.at"}}),
            &json!({"type": "page", "at": value}),
        )
        .timestamp_ms
    };
    assert_eq!(at(json!(1741944413589_i64)), Some(1_741_944_413_589));
    assert_eq!(at(json!("2025-03-14T09:26:53.589Z")), Some(1_741_944_413_589));
    assert_eq!(at(json!("2025-03-14T11:26:53.589+02:00")), Some(1_741_944_413_589));
    assert_eq!(at(json!(null)), None);
    let mapping = json!({"topic": "t", "payload": {}, "timestamp": "soon"});
    assert_eq!(rejection(mapping, &json!({"type": "page"})).code, "FIELD_TYPE");
}

#[test]
fn headers_that_are_no_texts_become_their_text_and_nulls_are_left_out() {
    let headers = json!({"n": 1.50, "t": true, "o": {"a": 1}, "gone": null, "empty": "", "twice": ["a", 2]});
    let mapped = record(json!({"topic": "t", "payload": {}, "headers": headers}), &json!({"type": "track"}));
    let expected = [("n", "1.5"), ("t", "true"), ("o", "{\"a\":1}"), ("empty", ""), ("twice", "a"), ("twice", "2")];
    assert_eq!(mapped.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_value_that_holds_a_placeholder_is_not_expanded_again() {
    let event = json!({"type": "identify", "userId": "u1", "traits": {"name": "{{userId}}"}});
    let mapped = record(json!({"topic": "t", "payload": {}, "key": {"@template": "{{{traits.name}}}"}}), &event);
    assert_eq!(mapped.key.as_deref(), Some("{{userId}}"));
}

#[test]
fn every_flaw_of_a_trigger_and_a_mapping_is_in_one_report_with_its_place() {
    let fields = json!({"topic": {"@pth": "$.a"}, "payload": {"x": [{"@case": {"operator": "up", "value": 5}}]}});
    let error =
        compile_with(fields, Some("type = \"identify\" and trait.vip = true\nor nope"), OnExit::Record).unwrap_err();
    let problems = error.problems.unwrap();
    let shown: Vec<(&str, &str)> =
        problems.problems.iter().map(|p| (p.message.as_str(), &problems.text[p.span.clone()])).collect();
    let messages: Vec<&str> = shown.iter().map(|(message, _)| *message).collect();
    assert_eq!(
        messages,
        [
            "there is no field trait",
            "there is no field nope",
            "/topic has an invalid directive: @pth; did you mean @path?",
            "/payload/x/0/@case/operator should be lower or upper but it is \"up\"",
        ]
    );
    assert_eq!(shown[0].1, "trait.vip");
    assert_eq!(shown[3].1, "\"up\"");
}

#[test]
fn the_version_changes_exactly_when_the_mapping_does() {
    let version = |topic: &str, on_exit| {
        let fields = json!({"topic": topic, "payload": {}, "key": "k"});
        compile_with(fields, None, on_exit).unwrap().version().to_owned()
    };
    assert_eq!(version("a", OnExit::Record), version("a", OnExit::Record));
    assert_ne!(version("a", OnExit::Record), version("b", OnExit::Record));
    assert_ne!(version("a", OnExit::Record), version("a", OnExit::Tombstone));
}

#[test]
fn a_destination_has_up_to_fifty_mappings_unless_it_says_more() {
    let mapping = |at: usize| json!({"name": format!("m{at}"), "mapping": {"topic": "t", "payload": {}}});
    let destination = |count: usize, max: Value| -> config::Destination {
        let mappings: Vec<Value> = (0..count).map(mapping).collect();
        serde_json::from_value(json!({"settings": {}, "mappings": mappings, "max_mappings": max})).unwrap()
    };
    assert_eq!(Mapping::compile_all("d", &destination(50, json!(null))).unwrap().len(), 50);
    assert!(Mapping::compile_all("d", &destination(51, json!(null))).unwrap_err().message.contains("may have 50"));
    assert_eq!(Mapping::compile_all("d", &destination(51, json!(60))).unwrap().len(), 51);
}

#[test]
fn an_event_that_is_no_object_is_rejected_by_itself() {
    // `type != "x"` holds for anything.
    let mapping =
        compile_with(json!({"topic": "t", "payload": {"@path": "$."}}), Some("type != \"x\""), OnExit::Record).unwrap();
    let Outcome::Rejected(rejection) = mapping.apply(&Event::of_value(&json!([1]))) else { panic!("not rejected") };
    assert_eq!(rejection.code, "EVENT_NOT_AN_OBJECT");
}

#[test]
fn a_trigger_reads_any_field_by_its_full_path() {
    let trigger = Trigger::parse(r#"$.anonymousId = "x" and length($.messageId) > 2"#).unwrap();
    assert!(trigger.matches(&Event::of_value(&json!({"anonymousId": "x", "messageId": "abc"}))));
    assert!(!trigger.matches(&Event::of_value(&json!({"anonymousId": "x"}))));
}

#[test]
fn and_binds_tighter_than_or_and_parentheses_nest() {
    let matches = |fql: &str| Trigger::parse(fql).unwrap().matches(&Event::of_value(&identify()));
    assert!(matches(r#"type = "identify" or type = "page" and userId = "zzz""#));
    assert!(!matches(r#"((type = "identify") or (type = "page")) and userId = "zzz""#));
    assert!(matches(r#"!(type = "track" or !(userId = "u1"))"#));
    assert!(matches(r#"type in ["track", 'identify'] and lowercase(userId) = "u1" and typeof(traits.nope) = "null""#));
}

#[test]
fn round_robin_fills_a_batch_before_it_moves_on_and_passes_over_partitions_without_a_leader() {
    let mut partitioner = Partitioner::default();
    let leaders = [true, false, true];
    let chosen: Vec<i32> = (0..6).map(|_| partitioner.choose(None, None, 400, 1000, &leaders).unwrap()).collect();
    assert_eq!(chosen, [0, 0, 2, 2, 0, 0]);
}

#[test]
fn a_partition_that_the_topic_does_not_have_is_absent_and_says_so() {
    let absent = Partitioner::default().choose(Some(6), Some(b"k"), 1, 1, &[true; 6]).unwrap_err();
    assert_eq!(absent, Absent::Partition { asked: 6, count: 6 });
    assert_eq!(absent.to_string(), "partition 6 is asked for, but the topic's 6 partitions are 0 to 5");
    let mapping = json!({"topic": "t", "payload": {}, "partition": -1});
    assert_eq!(rejection(mapping, &json!({"type": "track"})).code, "PARTITION_ABSENT");
}

#[test]
fn a_liquid_template_cannot_run_away() {
    let grows =
        "{% assign a = 'xxxxxxxxxxxxxxxx' %}".to_owned() + &"{% assign a = a | append: a %}".repeat(30) + "{{ a }}";
    let endless = "{{ (1..999999999) | join: '' }}";
    for template in [grows.as_str(), endless] {
        let mapping = json!({"topic": "t", "payload": {}, "key": {"@liquid": template}});
        let rejection = rejection(mapping, &json!({"type": "track"}));
        assert!(rejection.detail.contains("long"), "{}", rejection.detail);
    }
    assert!(compile(json!({"topic": "t", "payload": {}, "key": {"@liquid": "x".repeat(1001)}})).is_err());
}

#[test]
fn a_rejection_names_kinds_and_never_values() {
    let event = json!({"type": "identify", "traits": {"email": ["ada@example.org", "b"]}});
    let rejected = rejection(json!({"topic": {"@path": "$.traits.email"}, "payload": {}}), &event);
    assert_eq!(rejected.detail, "Topic must be a string but it was an array.");
}
