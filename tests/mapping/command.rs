//! `rollcall map`, called as the command line calls it.

use std::{fs, path::PathBuf};

use rollcall::{
    Result,
    cli::map::{MapArgs, run},
    config::Config,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn file(folder: &TempDir, name: &str, text: &str) -> Option<PathBuf> {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file can be written");
    Some(path)
}

fn output(args: MapArgs) -> Result<String> {
    output_as(false, args)
}

fn output_as(json: bool, args: MapArgs) -> Result<String> {
    let mut out = Vec::new();
    run(args, json, || Ok(config()), &mut out)?;
    Ok(String::from_utf8(out).expect("UTF-8"))
}

fn config() -> Config {
    let mapping = |name: &str, enabled: bool| json!({"name": name, "enabled": enabled, "mapping": {"topic": name, "payload": {"@path": "$."}}});
    serde_json::from_value(
        json!({"destinations": {"prod": {"settings": {}, "mappings": [mapping("on", true), mapping("off", false)]}}}),
    )
    .expect("a configuration")
}

const EVENTS: &str = "{\"type\":\"identify\",\"userId\":\"u1\"}\n[{\"type\":\"alias\"}, 5]\n";

#[test]
fn each_event_and_mapping_is_shown_with_its_record_or_the_reason() {
    let folder = TempDir::new().unwrap();
    let mapping = "topic: t\npayload:\n  '@path': $.\nkey:\n  '@path': $.userId\nheaders:\n  a: 1\n";
    let args = MapArgs {
        mapping: file(&folder, "m.yaml", mapping),
        events: file(&folder, "e.ndjson", EVENTS),
        ..MapArgs::default()
    };
    insta::assert_snapshot!(output(args).unwrap(), @r#"
    event 1, mapping 1: sent
      topic      t
      partition  by key, murmur2 745337584
      key        u1
      header     a: 1
      value      {"type":"identify","userId":"u1"}
    event 2, mapping 1: not sent, the trigger does not match
    event 3, mapping 1: not sent, the trigger does not match
    3 events: 1 sent, 2 not matched, 0 rejected
    "#);
}

#[test]
fn json_output_is_one_object_for_each_event_and_mapping() {
    let folder = TempDir::new().unwrap();
    let args = MapArgs { destination: Some("prod".into()), events: file(&folder, "e", EVENTS), ..MapArgs::default() };
    let lines: Vec<Value> =
        output_as(true, args).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["outcome"], "sent");
    assert_eq!(lines[0]["record"]["topic"], "on");
    assert_eq!(lines[1]["outcome"], "unsubscribed");
}

#[test]
fn a_trigger_is_shown_with_the_events_that_match() {
    let folder = TempDir::new().unwrap();
    let trigger = Some("type = 'identify' and (userId != null)".into());
    let args = MapArgs { trigger, events: file(&folder, "e", EVENTS), ..MapArgs::default() };
    insta::assert_snapshot!(output(args).unwrap(), @r#"
    trigger: type = "identify" and userId != null
    event 1: matches
    event 2: no match
    event 3: no match
    1 of 3 events match
    "#);
}

#[test]
fn explain_shows_where_each_field_comes_from() {
    let folder = TempDir::new().unwrap();
    let mapping = r#"{"name": "m", "subscribe": "type = \"identify\"", "mapping": {
        "topic": {"@template": "a.{{context.personas.computation_key}}"}, "payload": {"@path": "$."},
        "key": {"@if": {"exists": {"@path": "$.userId"}, "then": {"@path": "$.userId"}, "else": {"@path": "$.anonymousId"}}}}}"#;
    let args = MapArgs { mapping: file(&folder, "m.json", mapping), explain: true, ..MapArgs::default() };
    let shown = output(args).unwrap();
    let version = shown.split(['(', ')']).nth(1).expect("a version").to_owned();
    insta::assert_snapshot!(shown.replace(&version, "version …"), @r#"
    m (version …)
      trigger            type = "identify"
      topic              the text "a.{$.context.personas.computation_key}"
      payload            the whole event
      key                if ($.userId) exists ($.userId) else ($.anonymousId)
    "#);
}

#[test]
fn vectors_are_run_and_fail_if_a_core_or_edge_case_differs() {
    let folder = TempDir::new().unwrap();
    let vectors = |tier: &str, expect: bool| {
        json!({"format": "membership/1", "cases": [{"id": "x-1", "kind": "k", "tier": tier, "event": {}, "expect": expect}]}).to_string()
    };
    let run = |tier: &str| output(MapArgs { vectors: file(&folder, tier, &vectors(tier, true)), ..MapArgs::default() });
    assert!(run("core").unwrap_err().message.contains("1 core or edge cases differ"));
    insta::assert_snapshot!(run("quirk").unwrap(), @r"
    x-1 quirk fail  member: expected true, got null
    quirk: 0 of 1
    ");
    let real = MapArgs { vectors: Some("tests/data/vectors/partitioner.json".into()), ..MapArgs::default() };
    assert!(output(real).unwrap().ends_with("core: 95 of 95\nedge: 22 of 22\n"));
}

#[test]
fn what_cannot_be_used_says_how_to_fix_it() {
    let folder = TempDir::new().unwrap();
    let missing = output(MapArgs { destination: Some("nope".into()), ..MapArgs::default() }).unwrap_err();
    assert_eq!(missing.help.as_deref(), Some("There are prod."));
    let wrong = output(MapArgs { mapping: file(&folder, "m", "[1]"), ..MapArgs::default() }).unwrap_err();
    assert!(wrong.help.is_some_and(|help| help.contains("{topic: …, payload: …}")));
    assert!(output(MapArgs::default()).unwrap_err().help.is_some());
}

#[test]
fn what_is_no_json_is_told_costs_no_other_event_and_fails_the_command() {
    let folder = TempDir::new().unwrap();
    let text =
        "{\"type\":\"identify\",\"userId\":\"u1\"}\n{\"type\":\"identify\"\n{\"type\":\"track\",\"userId\":\"u2\"}\n";
    let args = |json| {
        let mut out = Vec::new();
        let args = MapArgs { destination: Some("prod".into()), events: file(&folder, "e", text), ..MapArgs::default() };
        let error = run(args, json, || Ok(config()), &mut out).expect_err("one is no event");
        (error.message, String::from_utf8(out).expect("UTF-8"))
    };
    let (message, shown) = args(false);
    assert_eq!(message, "1 of 3 events cannot be read");
    assert!(shown.contains("event 2, on: rejected, EVENT_NOT_JSON: line 2: not JSON"), "{shown}");
    assert!(shown.ends_with("3 events: 2 sent, 0 not matched, 1 rejected\n"), "{shown}");
    let lines: Vec<Value> = args(true).1.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!([0, 1, 2].map(|at| lines[at]["outcome"].as_str()), [Some("sent"), Some("rejected"), Some("sent")]);
}

#[test]
fn events_may_be_compressed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("e.ndjson.zst");
    fs::write(&path, zstd::encode_all(EVENTS.as_bytes(), 0).unwrap()).unwrap();
    let args = MapArgs { destination: Some("prod".into()), events: Some(path), ..MapArgs::default() };
    assert!(output(args).unwrap().ends_with("3 events: 1 sent, 2 not matched, 0 rejected\n"));
}

#[test]
fn every_problem_of_every_mapping_of_a_file_is_told_under_its_name() {
    let folder = TempDir::new().unwrap();
    let list = json!([
        {"name": "one", "subscribe": "type = ", "mapping": {"topic": {"@case": {"operator": "up", "value": "x"}}, "payload": {"@path": 5}}},
        {"name": "two", "mapping": {"topic": {"@nope": 1}, "payload": {"@path": "$."}}},
    ]);
    let args = MapArgs { mapping: file(&folder, "m.json", &list.to_string()), explain: true, ..MapArgs::default() };
    let error = output(args).expect_err("both are wrong");
    assert!(error.message.starts_with("2 mappings of "), "{}", error.message);
    let problems = error.problems.expect("each with its place");
    assert_eq!(problems.problems.len(), 4, "{:?}", problems.problems);
    assert!(problems.text.contains("# one\n") && problems.text.contains("# two\n"), "{}", problems.text);
}

#[test]
fn explain_tells_what_is_disabled_and_what_goes_out_on_exit() {
    let folder = TempDir::new().unwrap();
    let mapping = r#"{"name": "m", "enabled": false, "on_exit": "tombstone", "mapping": {"topic": "t", "payload": {"@path": "$."}, "key": "k"}}"#;
    let args = |explain| MapArgs {
        mapping: file(&folder, "m.json", mapping),
        explain,
        events: (!explain).then(|| file(&folder, "e", EVENTS)).flatten(),
        ..MapArgs::default()
    };
    let shown = output(args(true)).unwrap();
    assert!(shown.contains(", disabled)") && shown.contains("on exit            a tombstone"), "{shown}");
    assert_eq!(output(args(false)).unwrap_err().message, "no mapping is enabled");
}

#[test]
fn a_timestamp_and_a_tombstone_are_shown() {
    let folder = TempDir::new().unwrap();
    let mapping = r#"{"name": "m", "on_exit": "tombstone", "mapping": {"topic": "t", "payload": {"@path": "$."}, "key": {"@path": "$.userId"},
        "timestamp": {"@path": "$.timestamp"}}}"#;
    let exit = r#"{"type":"identify","userId":"u1","timestamp":"2025-03-14T09:26:53.589Z","traits":{"vip":false},
        "context":{"personas":{"computation_class":"audience","computation_key":"vip"}}}"#;
    let args = MapArgs { mapping: file(&folder, "m", mapping), events: file(&folder, "e", exit), ..MapArgs::default() };
    let shown = output(args).unwrap();
    assert!(shown.contains("timestamp  1741944413589 (2025-03-14T09:26:53.589Z)"), "{shown}");
    assert!(shown.contains("value      (tombstone)"), "{shown}");
}
