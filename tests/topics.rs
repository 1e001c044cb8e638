//! `rollcall topics create`: makes what the mappings name on a real broker, and touches nothing that is there.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use serde_json::{Value, json};

use crate::support::kafka;

/// A destination whose topics begin with `prefix`: one is named outright, one was there before, one is taken from the event, one is disabled.
struct Place {
    folder: tempfile::TempDir,
    prefix: String,
}

impl Place {
    fn new(broker: &str) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap(), prefix: kafka::unique("topics") };
        let prefix = &place.prefix;
        let text = format!(
            r#"
destinations:
  kafka:
    settings: {{brokers: "{broker}", mechanism: none, ssl_enabled: false}}
    cursor_topic: {prefix}.cursors
    mappings:
      - {{name: new, mapping: {{topic: {prefix}.new, payload: {{"@path": $.}}}}}}
      - {{name: old, mapping: {{topic: {{"@literal": {prefix}.old}}, payload: {{"@path": $.}}}}}}
      - {{name: by event, mapping: {{topic: {{"@path": $.event}}, payload: {{"@path": $.}}}}}}
      - {{name: off, enabled: false, mapping: {{topic: {prefix}.off, payload: {{"@path": $.}}}}}}
"#
        );
        fs::write(place.folder.path().join("rollcall.yaml"), text).unwrap();
        place
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.current_dir(self.folder.path()).arg("topics").args(args).stdin(Stdio::null());
        command.env_remove("ROLLCALL_CONFIG").env_remove("RUST_LOG").output().unwrap()
    }

    /// What became of the new, the old and the cursor topic.
    fn states(&self, args: &[&str]) -> Vec<(String, String)> {
        let output = self.run(&[&["create", "--json"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        rows.iter().map(|row| (field(row, "topic").replace(&self.prefix, ""), field(row, "state"))).collect()
    }

    /// The topics that are there, with their partitions.
    fn there(&self) -> Vec<(String, u64)> {
        let rows: Vec<Value> = serde_json::from_slice(&self.run(&["--json"]).stdout).unwrap();
        let ours = rows.iter().filter_map(|row| {
            let name = row["topic"].as_str().unwrap().strip_prefix(&self.prefix)?;
            Some((name.to_owned(), row["partitions"].as_u64().unwrap()))
        });
        ours.collect()
    }

    fn setting(&self, topic: &str, name: &str) -> Option<String> {
        let topic = format!("{}{topic}", self.prefix);
        let admin = kafka::admin(kafka::broker());
        let asked = [ResourceSpecifier::Topic(&topic)];
        let found = kafka::block_on(admin.describe_configs(&asked, &AdminOptions::new())).unwrap().remove(0).unwrap();
        found.get(name).and_then(|entry| entry.value.clone())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn states(states: [&str; 3]) -> Vec<(String, String)> {
    let topics = [".new", ".old", ".cursors"];
    topics.iter().zip(states).map(|(topic, state)| ((*topic).to_owned(), state.to_owned())).collect()
}

#[test]
fn what_the_mappings_name_is_created_once_and_what_is_there_is_left_as_it_is() {
    let place = Place::new(kafka::broker());
    kafka::create_topic(kafka::broker(), &format!("{}.old", place.prefix), 2, &[]);
    let shape = ["--partitions", "4", "--replicas", "1", "--retention", "3d"];

    assert_eq!(place.states(&[&shape[..], &["--dry-run"]].concat()), states(["missing", "exists", "missing"]));
    assert_eq!(place.there(), [(".old".to_owned(), 2)], "a dry run creates nothing");

    assert_eq!(place.states(&shape), states(["created", "exists", "created"]));
    let there = kafka::eventually("all are seen", || Some(place.there()).filter(|there| there.len() == 3));
    assert_eq!(there, [(".cursors".to_owned(), 1), (".new".to_owned(), 4), (".old".to_owned(), 2)]);
    assert_eq!(place.setting(".new", "retention.ms").as_deref(), Some("259200000"));
    assert_eq!(place.setting(".cursors", "cleanup.policy").as_deref(), Some("compact"));
    assert_ne!(place.setting(".old", "retention.ms").as_deref(), Some("259200000"));

    let again = place.run(&["create", "--partitions", "9"]);
    assert!(again.status.success());
    let table = text(&again.stdout);
    assert_eq!(table.lines().filter(|line| line.ends_with("exists")).count(), 3, "{table}");
    let notes = text(&again.stderr);
    assert!(notes.contains("The mapping 'by event' of destination 'kafka' takes its topic from each event"), "{notes}");
    assert_eq!(place.there(), there, "nothing is changed");
}

#[test]
fn what_the_brokers_refuse_is_told_with_its_remedy_and_an_exit_code() {
    let place = Place::new(kafka::broker());
    for dry_run in [&[][..], &["--dry-run"]] {
        let refused = place.run(&[&["create", "--replicas", "3", "--json"], dry_run].concat());
        assert_eq!(refused.status.code(), Some(4));
        let rows: Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert_eq!(rows[0]["state"], json!("refused"), "{rows}");
        // Before it stands the note on what is left to the person.
        let error: Value = serde_json::from_str(text(&refused.stderr).lines().last().unwrap()).unwrap();
        let help = error["error"]["help"].as_str().unwrap();
        assert_eq!(help, "The cluster has 1 brokers: give --replicas, at most that.");
    }
    assert_eq!(place.there(), []);

    let never = place.run(&["create", "--replicas", "1", "--min-insync", "2"]);
    assert_eq!(never.status.code(), Some(4));
    assert!(text(&never.stderr).contains("--min-insync 2 is more than --replicas 1"), "{}", text(&never.stderr));
    assert_eq!(place.run(&["create", "--retention", "soon"]).status.code(), Some(2));
    assert_eq!(place.run(&["create", "--destination", "other"]).status.code(), Some(4));
}

#[test]
fn a_cluster_that_is_away_is_named_and_may_be_tried_again() {
    let place = Place::new(&format!("127.0.0.1:{}", kafka::free_port()));
    let output = place.run(&["create", "--dry-run"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("127.0.0.1"), "{}", text(&output.stderr));
}
