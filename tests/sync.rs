//! The whole flow through the built program: messages in, definitions, syncs, and what a consumer of Kafka makes of it.

mod cdnow;
mod computed;
mod edited;
mod elsewhere;
mod history;
mod forgotten;
mod lent;
mod merged;
mod renamed;
mod statements;
mod traits;
mod trouble;
mod values;
mod verified;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    kafka::{self, Received},
    postgres::Database,
};

/// A database, a topic and a configuration of one test's own.
pub struct World {
    pub db: Database,
    pub topic: String,
    pub folder: tempfile::TempDir,
}

impl World {
    /// `audiences` is the YAML list of that name.
    pub async fn new(audiences: &str) -> World {
        let db = Database::fresh().await;
        let topic = kafka::topic(kafka::broker(), "audiences", 3);
        let world = World { db, topic, folder: tempfile::tempdir().unwrap() };
        world.configure(audiences);
        world
    }

    /// Writes `rollcall.yaml` anew: one destination that tells everything to the test's topic.
    pub fn configure(&self, audiences: &str) {
        self.configure_with(audiences, kafka::broker(), &self.topic, "");
    }

    pub fn configure_with(&self, audiences: &str, brokers: &str, topic: &str, more_destinations: &str) {
        let text = format!(
            r#"
space_id: spa_test
http: {{listen: "127.0.0.1:0"}}
destinations:
  kafka:
    settings: {{brokers: "{brokers}", mechanism: none, ssl_enabled: false}}
    cursor_topic: {topic}.cursors
    mappings:
      - name: everything
        subscribe: type = "identify"
        mapping: {{topic: {topic}, key: {{"@path": $.userId}}, payload: {{"@path": $.}}}}
{more_destinations}
audiences:
{audiences}
"#
        );
        fs::write(self.folder.path().join("rollcall.yaml"), text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.current_dir(self.folder.path()).args(args).env("DATABASE_URL", self.db.url()).stdin(Stdio::null());
        command.env_remove("ROLLCALL_CONFIG").env_remove("RUST_LOG");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it with `--json`, which must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.command(args).arg("--json").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Syncs, and tells by name why an audience, trait or destination failed.
    pub fn failures(&self) -> Vec<(String, String)> {
        let output = self.command(&["sync", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let failed = report["failed"].as_array().unwrap();
        let mut failed: Vec<_> = failed.iter().map(|of| (text(&of["name"]), text(&of["error"]))).collect();
        failed.sort();
        failed
    }

    pub fn import(&self, messages: &[Value]) {
        let mut file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        for message in messages {
            writeln!(file, "{message}").unwrap();
        }
        let output = self.run(&["import", file.path().to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Fails unless the topics say what the database says; the report of the configured destination.
    pub fn verified(&self) -> Value {
        let output = self.run(&["verify", "--digest", "--json"]);
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<Value>(&report).unwrap()[0].take()
    }

    /// Some time after a process was killed: its leases have ended.
    pub async fn leases_end(&self) {
        sqlx::query("update leases set expires_at = clock_timestamp()").execute(&self.db.pool).await.unwrap();
    }

    /// What a consumer of committed records has by now.
    pub fn told(&self) -> Vec<Received> {
        kafka::read_committed(kafka::broker(), &self.topic)
    }

    /// Each Identify told, in the order of the destination's log.
    pub fn events(&self) -> Vec<Value> {
        in_order(&self.told())
    }

    /// Who is in each audience, by adding up what was told.
    pub fn fold(&self) -> BTreeMap<String, BTreeSet<String>> {
        fold(&self.told())
    }
}

/// Of whom and what an Identify is: the id and the traits.
pub fn of(event: &Value) -> Value {
    json!([event["userId"], event["traits"]])
}

/// The records of one lane are in the order of its positions; those of two lanes are mixed.
fn in_order(told: &[Received]) -> Vec<Value> {
    let position = |record: &Received| record.header("rollcall-position").unwrap().parse::<i64>().unwrap();
    let mut told: Vec<_> = told.iter().map(|record| (position(record), record.json())).collect();
    told.sort_by_key(|(position, _)| *position);
    told.into_iter().map(|(_, event)| event).collect()
}

/// Adds up Identify events, in the order of the destination's log.
pub fn fold(told: &[Received]) -> BTreeMap<String, BTreeSet<String>> {
    let mut audiences: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in in_order(told) {
        let key = event["context"]["personas"]["computation_key"].as_str().unwrap().to_owned();
        let user = event["userId"].as_str().unwrap().to_owned();
        let entered = event["traits"][&key].as_bool().unwrap();
        let members = audiences.entry(key).or_default();
        // A change is told to whom it concerns only, and once.
        assert!(if entered { members.insert(user) } else { members.remove(&user) }, "told again: {event}");
    }
    audiences
}

pub fn order(user: &str, id: &str, at: &str, revenue: f64) -> Value {
    json!({"type": "track", "event": "Order Completed", "userId": user, "messageId": id, "timestamp": at,
           "properties": {"revenue": revenue}})
}

const RECENT: &str = "
  - name: Order Completed Last 30days
    query: event('Order Completed').within(30 days).count() >= 1
";

fn users<const N: usize>(users: [&str; N]) -> BTreeSet<String> {
    users.map(String::from).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_told_first_and_then_only_who_changed() {
    let world = World::new(RECENT).await;
    world.import(&[
        order("ann", "1", "2024-05-01T00:00:00Z", 10.0),
        order("bob", "2", "2024-05-20T00:00:00Z", 10.0),
        order("eve", "3", "2024-01-01T00:00:00Z", 10.0),
    ]);
    let first = world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(first["runs"][0]["members"], 2);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann", "bob"]));

    let again = world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!((&again["runs"][0]["entered"], &again["runs"][0]["exited"]), (&json!(0), &json!(0)));
    assert_eq!(world.told().len(), 2, "a run without change is a run, and tells nothing");

    // Thirty days are over for ann, and eve has ordered again.
    world.import(&[order("eve", "4", "2024-06-01T00:00:00Z", 1.0)]);
    world.json(&["sync", "--at", "2024-06-02"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["bob", "eve"]));
    assert_eq!(world.told().len(), 4);

    let runs = world.json(&["runs", "order_completed_last_30days"]);
    assert_eq!(runs.as_array().unwrap().len(), 3);
    let first_run = runs[2]["run"].to_string();
    let then = world.run(&["members", "order_completed_last_30days", "--run", &first_run]);
    assert_eq!(String::from_utf8(then.stdout).unwrap(), "ann\nbob\n", "the log knows who was in then");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_definition_is_told_as_the_difference_to_what_was_told() {
    let world = World::new("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}").await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0), order("bob", "2", "2024-05-20T00:00:00Z", 99.0)]);
    world.json(&["sync", "--at", "2024-06-01"]);
    world.configure("  - {name: Buyers, query: \"event('Order Completed').sum(property('revenue')) > 50\"}");
    let edited = world.json(&["sync", "--at", "2024-06-01"]);
    assert_eq!((&edited["runs"][0]["entered"], &edited["runs"][0]["exited"]), (&json!(0), &json!(1)));
    assert_eq!(world.fold()["buyers"], users(["bob"]));
    assert_eq!(world.json(&["runs"])[0]["definition_version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_destination_is_told_the_whole_of_an_old_audience() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0), order("bob", "2", "2024-05-02T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-05-03"]);
    let second = kafka::topic(kafka::broker(), "second", 1);
    let more = format!(
        "  second:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}\n    cursor_topic: {second}.cursors\n    \
         mappings:\n      - {{name: all, mapping: {{topic: {second}, payload: {{\"@path\": $.}}}}}}\n",
        kafka::broker()
    );
    world.configure_with(RECENT, kafka::broker(), &world.topic, &more);
    world.json(&["sync", "--at", "2024-05-03"]);
    assert_eq!(world.told().len(), 2, "the old one has heard it all");
    let told = kafka::read_committed(kafka::broker(), &second);
    assert_eq!(fold(&told)["order_completed_last_30days"], users(["ann", "bob"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_leaves_nothing_behind() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    let dry = world.json(&["sync", "--at", "2024-05-02", "--dry-run"]);
    assert_eq!((&dry["runs"][0]["entered"], &dry["runs"][0]["run"]), (&json!(1), &Value::Null));
    assert_eq!(world.json(&["runs"]), json!([]));
    let known: i64 = sqlx::query_scalar("select count(*) from audiences").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(known, 0, "not even the audience is known");
    assert!(world.told().is_empty());
    let wet = world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!(wet["runs"][0]["entered"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_may_refer_to_another_and_is_computed_after_it() {
    let audiences = "
  - {name: B Buyers And Not Lapsed, query: \"trait('z_buyers') = 'true' AND NOT trait('lapsed') = 'true'\"}
  - {name: Z Buyers, query: \"event('Order Completed').count() >= 1\"}
  - {name: Lapsed, query: \"trait('z_buyers') = 'true' AND event('Order Completed').within(10 days).count() = 0\"}
";
    let world = World::new(audiences).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 1.0), order("bob", "2", "2024-05-20T00:00:00Z", 1.0)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    let fold = world.fold();
    assert_eq!(fold["z_buyers"], users(["ann", "bob"]));
    assert_eq!(fold["lapsed"], users(["ann"]));
    assert_eq!(fold["b_buyers_and_not_lapsed"], users(["bob"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_why_and_when_time_alone_changes_it() {
    let refers = "  - {name: Refers, query: \"trait('order_completed_last_30days') = 'true'\"}\n";
    let world = World::new(&format!("{RECENT}{refers}")).await;
    world.import(&[order("ann", "1", "2024-05-01T12:00:00Z", 10.0)]);
    let inside = world.json(&["explain", "order_completed_last_30days", "ann", "--at", "2024-05-02"]);
    assert_eq!((&inside["member"], &inside["reason"]["left"]), (&json!(true), &json!("1")));
    assert_eq!(inside["next_change"]["at"], "2024-05-31T12:00:00Z");
    let refers = world.json(&["explain", "refers", "ann", "--at", "2024-05-02"]);
    assert_eq!((&refers["member"], &refers["next_change"]), (&json!(true), &inside["next_change"]));
    let outside = world.json(&["explain", "order_completed_last_30days", "ann", "--at", "2024-05-31T12:00:00Z"]);
    assert_eq!((&outside["member"], &outside["next_change"]), (&json!(false), &json!("never")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_counts_and_samples_without_storing() {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0), order("bob", "2", "2024-05-02T00:00:00Z", 90.0)]);
    let query = "event('Order Completed').sum(property('revenue')) > 50";
    let preview = world.json(&["preview", query, "--at", "2024-06-01"]);
    assert_eq!((&preview["members"], &preview["sample"][0]["user_id"]), (&json!(1), &json!("bob")));
    assert_eq!(world.json(&["runs"]), json!([]));
}
