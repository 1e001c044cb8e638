//! Row 72: names with line ends and escape sequences, from a database and from messages, in logs and in tables.

use regex::Regex;
use serde_json::{Value, json};

use super::Instance;
use crate::sync::World;

/// What would clear the screen and look like another line of the log.
const FORGED: &str = "a\n2026-01-01T00:00:00.000000Z ERROR forged\u{1b}[2J\u{9b}31m\r";

fn steers(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control() && *c != '\n')
}

#[tokio::test(flavor = "multi_thread")]
async fn row_72_a_hostile_name_stays_within_its_one_line_of_the_log() {
    let world = World::new("").await;
    // YAML itself refuses some of them.
    let statement = json!(format!("select 'u1' as user_id, 1 as \"{}\"", FORGED.replace('\u{9b}', "")));
    world.configure(&format!("traits:\n  - {{name: Hostile, sql: {statement}, schedule: every 1s}}"));
    let own = Regex::new(r"^\d{4}-\d\d-\d\dT\S+ +(ERROR|WARN|INFO|DEBUG) ").unwrap();
    for format in ["text", "json"] {
        let mut instance =
            Instance::run(&world, format, world.command(&["serve", "-v", "--color", "never", "--log-format", format]));
        instance.logs("has a name that is no key");
        instance.ends_cleanly();
        let log = instance.log();
        assert_eq!(steers(&log), None, "{log}");
        for line in log.lines() {
            let is_whole = match format {
                "json" => serde_json::from_str::<Value>(line).is_ok(),
                _ => own.is_match(line) && !line.starts_with("2026-01-01T00:00:00.000000Z"),
            };
            assert!(is_whole, "{line}");
        }
        assert!(log.lines().any(|line| line.contains("the column `a") && line.contains("forged")), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_72_a_hostile_value_cannot_steer_the_terminal_that_a_table_is_printed_to() {
    let world = World::new("  - {name: Named, query: \"trait('plan').exists()\"}").await;
    let id = format!("u1{FORGED}");
    world.import(&[json!({"type": "identify", "messageId": "m1", "userId": id, "timestamp": "2024-05-01T00:00:00Z",
                          "traits": {"plan": FORGED, (FORGED): 1}, "context": {"externalIds": []}})]);
    assert!(world.run(&["sync"]).status.success());
    let person = format!("user_id:{id}");
    for args in [&["profile", &person][..], &["members", "named"], &["explain", "named", &person], &["status"]] {
        let output = world.run(args);
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(steers(&text), None, "{args:?}: {text}");
        assert!(!text.lines().any(|line| line.starts_with("2026-01-01")), "{args:?}: {text}");
    }
    let members = world.run(&["members", "named"]).stdout;
    assert_eq!(String::from_utf8(members).unwrap().lines().count(), 1, "a member is a line");
    let told = world.json(&["members", "named"]);
    assert!(told.to_string().contains("forged"), "as JSON it is what it is: {told}");
}

#[test]
fn row_72_a_name_of_the_configuration_has_no_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let forged = json!(FORGED);
    for text in [
        format!("audiences: [{{name: {forged}, query: 'true'}}]"),
        format!("tracking: {{write_keys: [{{name: {forged}, key: 0123456789}}]}}"),
        format!("destinations: {{{forged}: {{settings: {{brokers: 'b:1'}}, mappings: []}}}}"),
        format!("streams: {{s: {{settings: {{brokers: 'b:1'}}, topics: [{forged}]}}}}"),
    ] {
        std::fs::write(folder.path().join("rollcall.yaml"), &text).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rollcall"));
        let output = command.current_dir(folder.path()).args(["plan", "--color", "never"]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{text}: {told}");
        assert_eq!(steers(&told), None, "{told}");
    }
}
