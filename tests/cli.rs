//! The built program, as a person and as a script meet it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use clap::CommandFactory as _;
use serde_json::Value;

use crate::support::postgres::Database;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rollcall.example.yaml");

/// The program in an empty folder, with nothing of this environment that would steer it.
fn rollcall(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("ROLLCALL_") || name.starts_with("KAFKA_") || ["DATABASE_URL", "RUST_LOG"].contains(&&*name)
        {
            command.env_remove(name);
        }
    }
    command
}

fn run(folder: &Path, args: &[&str]) -> Output {
    rollcall(folder).args(args).output().unwrap()
}

/// A folder whose `rollcall.yaml` is `text`.
fn configured(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rollcall.yaml"), text).unwrap();
    folder
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const BROKEN: &str = r#"databse: postgres://rollcall:canary-1@localhost/rollcall
destinations:
  kafka:
    settings:
      brokers: localhost:9092
      passwrod: canary-2
      password: canary-3
      mechanism: scram-sha-25
      ssl_enabled: "yes"
    delivery: exactly_onc
    mappings:
      - name: changes
        mapping: { topic: audiences, key: { "@path": "$.userId" } }
audiences:
  - name: Big Spenders
    query: event('Order Completed').count() >= 1
    destinations: [kafak]
  - name: big spenders
    query: 3
    schedule: every 15
  - query: ""
    name: "30 days"
    name: Thirty
"#;

#[test]
fn every_problem_of_a_configuration_is_told_with_its_line_and_a_remedy() {
    let folder = configured(BROKEN);
    let output = run(folder.path(), &["audiences"]);
    assert_eq!(output.status.code(), Some(4));
    insta::assert_snapshot!("broken_configuration", stderr(&output));
}

#[test]
fn an_error_is_one_json_object_where_json_was_asked_for() {
    let folder = configured(BROKEN);
    let output = run(folder.path(), &["audiences", "--json"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(4), ""));
    let told: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(told["error"]["kind"], "settings");
    assert_eq!(told["error"]["exit_code"], 4);
    let first = &told["error"]["problems"][0];
    assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(1), Some(1)));
    assert_eq!(first["help"], "Did you mean `database`?");
}

#[test]
fn a_secret_is_printed_by_no_verb_in_no_form_at_no_log_level() {
    let broken_yaml = BROKEN.replace("    delivery:", "   delivery:");
    let good = "database: postgres://rollcall:canary-1@localhost:1/rollcall\n\
        destinations: {kafka: {settings: {brokers: 'localhost:1', mechanism: plain, username: u, password: canary-2},\n\
        mappings: [{name: m, mapping: {topic: t}}]}}\n";
    // `@` begins no value in YAML: the place that the error shows is the secret's own line.
    let unreadable = BROKEN.replace("canary-3", "@canary-3");
    for text in [BROKEN, &broken_yaml, &unreadable, good] {
        let folder = configured(text);
        for verb in [&["audiences"][..], &["check"], &["sync"], &["status"], &["preview", "trait('a') = 'b'"]] {
            for more in [&[][..], &["--json"], &["-vvv"], &["-vvv", "--log-format", "json"]] {
                let output = run(folder.path(), &[verb, more].concat());
                let all = stdout(&output) + &stderr(&output);
                assert!(!all.contains("canary"), "{verb:?} {more:?} told a secret:\n{all}");
            }
        }
    }
}

#[test]
fn a_secret_from_the_environment_is_not_printed_either() {
    let folder = configured("database: ${SECRET_URL}\nspace_id: [1]\n");
    for json in [&[][..], &["--json"]] {
        let mut command = rollcall(folder.path());
        let output = command.args(["check"]).args(json).env("SECRET_URL", "postgres//canary").output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        assert!(!stderr(&output).contains("canary"), "{}", stderr(&output));
    }
}

#[test]
fn the_schema_is_json_and_describes_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["schema"]);
    let schema: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let mut described = 0;
    each_property(&schema, &mut |name, property| {
        assert!(property["description"].is_string(), "`{name}` has no description");
        described += 1;
    });
    assert!(described > 40, "{described}");
}

fn each_property(schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        visit(name, property);
    }
    for definition in schema["$defs"].as_object().into_iter().flat_map(|definitions| definitions.values()) {
        each_property(definition, visit);
    }
}

#[test]
fn the_example_configuration_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        run(folder.path(), &["--config", EXAMPLE, "audiences", "--json", "--database", "postgres://localhost:1/x"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let listed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(listed[0]["key"], "order_completed_last_30days");
    assert_eq!(listed[0]["last_run"], Value::Null);
}

#[test]
fn every_shell_gets_a_completion_script_with_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(folder.path(), &["completions", shell]));
        for verb in rollcall::cli::Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(script.contains(verb.get_name()), "{shell} does not know {}", verb.get_name());
        }
    }
}

#[test]
fn every_verb_says_what_it_is_for_with_an_example() {
    let mut program = rollcall::cli::Cli::command();
    // A verb's options may speak of the global ones.
    program.build();
    // `help` is clap's own.
    for verb in program.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let help = verb.render_long_help().to_string();
        assert!(
            verb.get_about().is_some_and(|about| about.to_string().ends_with('.') || !about.to_string().is_empty())
        );
        assert!(help.contains("Examples:") || ["import", "map"].contains(&verb.get_name()), "{help}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2_and_a_missing_configuration_with_4() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["snyc"]).status.code(), Some(2));
    assert_eq!(run(folder.path(), &["sync", "--at", "yesterday"]).status.code(), Some(2));
    let missing = run(folder.path(), &["audiences"]);
    assert_eq!(missing.status.code(), Some(4));
    assert!(stderr(&missing).contains("rollcall.yaml"), "{}", stderr(&missing));
}

#[test]
fn a_database_that_is_away_exits_with_5_and_says_where_to_look() {
    let folder = configured("database: postgres://localhost:1/rollcall\n");
    let output = run(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stdout(&output).contains("✗ database: no connection"), "{}", stdout(&output));
    assert!(stdout(&output).contains("DATABASE_URL"), "{}", stdout(&output));
}

#[test]
fn nothing_but_a_terminal_gets_colour() {
    let folder = configured(BROKEN);
    for args in [&["audiences"][..], &["check"], &["--help"]] {
        let output = run(folder.path(), args);
        assert!(!(stdout(&output) + &stderr(&output)).contains('\x1b'), "{args:?}");
    }
    let output = run(folder.path(), &["audiences", "--color", "always"]);
    assert!(stderr(&output).contains('\x1b'));
}

#[test]
fn a_reader_that_leaves_early_ends_the_program_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = rollcall(folder.path())
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // A pipe holds 64 KiB at most: the reader goes before the writer can be done, or just after; both must be quiet.
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(stderr(&output), "");
}

#[tokio::test]
async fn check_finds_a_good_database_and_changes_nothing() {
    let database = Database::bare().await;
    let folder = configured("audiences: [{name: Broken, query: \"event('A').cuont() >= 1\"}]\n");
    let url = database.url();
    let args = ["check", "--json", "--database", &url];
    let output = rollcall(folder.path()).args(args).output().unwrap();
    let findings: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let of = |subject: &str| {
        findings.as_array().unwrap().iter().find(|finding| finding["subject"] == subject).unwrap().clone()
    };
    assert_eq!(of("database")["ok"], true, "{findings}");
    assert_eq!(of("database role")["ok"], true, "{findings}");
    assert!(of("database schema")["detail"].as_str().unwrap().starts_with("empty"), "{findings}");
    assert_eq!(of("audience 'broken'")["ok"], false, "{findings}");
    assert_eq!(output.status.code(), Some(3), "a broken definition is the first thing found");
    let tables: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = current_schema()")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(tables, 0);
}

#[test]
fn check_is_let_in_by_a_real_broker_and_says_where_none_is() {
    let broker = crate::support::kafka::broker();
    for (brokers, ok) in [(broker, true), ("localhost:1", false)] {
        let folder = configured(&format!(
            "destinations: {{k: {{settings: {{brokers: '{brokers}', mechanism: none, ssl_enabled: false}}, mappings: []}}}}"
        ));
        let output = run(folder.path(), &["check", "--json"]);
        let findings: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let cluster = findings.as_array().unwrap().iter().find(|f| f["subject"] == "destination 'k', login").unwrap();
        assert_eq!(cluster["ok"], ok, "{findings}");
        assert_eq!(output.status.code(), Some(if ok { 0 } else { 5 }), "{findings}");
    }
}
