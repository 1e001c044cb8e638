//! `rollcall quarantine`, the built program, on real Postgres and Apache Kafka: what is put aside is listed, shown, and told again once.

mod killed;
mod later;
mod others;

use serde_json::{Value, json};

use crate::{
    lanes::changes,
    support::kafka,
    sync::{World, order},
};

/// One of which people leave after thirty days. Their `place` is what a mapping may stumble over.
pub const RECENT: &str =
    "  - {name: Recent, query: \"event('Order Completed').within(30 days).count() >= 1\", include_traits: [place]}";

/// A mapping that takes the place for a partition, which it is not for everybody; and the same mended.
pub const BROKEN: &str = ", partition: {\"@path\": $.traits.place}";
pub const MENDED: &str = "";

/// A mapping of the whole event.
pub fn mapping(name: &str, topic: &str, more: &str) -> String {
    format!(
        "      - {{name: {name}, mapping: {{topic: {topic}, key: {{\"@path\": $.userId}}, payload: {{\"@path\": $.}}{more}}}}}"
    )
}

pub fn configure(world: &World, audiences: &str, delivery: &str, mappings: &[String]) {
    let (broker, topic, mappings) = (kafka::broker(), &world.topic, mappings.join("\n"));
    let text = format!(
        "space_id: spa_test\ndestinations:\n  kafka:\n    settings: {{brokers: \"{broker}\", mechanism: none, ssl_enabled: false}}\n    \
         cursor_topic: {topic}.cursors\n    delivery: {delivery}\n    mappings:\n{mappings}\n{audiences}\n"
    );
    std::fs::write(world.folder.path().join("rollcall.yaml"), text).unwrap();
}

/// One destination with one mapping, which is broken or mended.
pub fn map(world: &World, more: &str) {
    configure(world, &format!("audiences:\n{RECENT}"), "exactly_once", &[mapping("all", &world.topic, more)]);
}

/// These people order something on that day, from no place that a topic has.
pub fn buy(world: &World, users: impl IntoIterator<Item = usize>, day: &str, place: Value) {
    let orders = users.into_iter().flat_map(|n| {
        let (user, at) = (format!("u{n}"), format!("{day}T00:00:00Z"));
        let traits = json!({"place": place});
        let identify = json!({"type": "identify", "userId": user, "messageId": format!("i{n}-{day}"), "timestamp": at, "traits": traits});
        [order(&user, &format!("o{n}-{day}"), &at, 1.0), identify]
    });
    world.import(&orders.collect::<Vec<_>>());
}

/// What is in quarantine and told to nobody.
pub fn open(world: &World, more: &[&str]) -> Vec<Value> {
    world.json(&[&["quarantine"], more].concat()).as_array().unwrap().clone()
}

/// What a consumer heard of somebody, in its order.
pub fn heard(world: &World, user: &str) -> Vec<bool> {
    changes(&world.told()).remove(&("recent".into(), user.into())).unwrap_or_default()
}

/// Records in quarantine as `status` counts them.
pub fn counted(world: &World) -> i64 {
    let status = world.json(&["status"]);
    status["destinations"].as_array().unwrap().iter().map(|lane| lane["quarantined"].as_i64().unwrap()).sum()
}

/// Some members of an answer.
pub fn said(answer: &Value) -> [i64; 4] {
    ["asked", "retried", "superseded", "put_aside_again"].map(|name| answer[name].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_aside_is_listed_and_shown_and_told_once_when_the_mapping_is_mended() {
    for delivery in ["exactly_once", "at_least_once"] {
        let world = World::new(RECENT).await;
        let with = |more: &str| {
            configure(&world, &format!("audiences:\n{RECENT}"), delivery, &[mapping("all", &world.topic, more)]);
        };
        with(BROKEN);
        buy(&world, 0..3, "2024-05-01", json!("nowhere"));
        buy(&world, 3..6, "2024-05-01", json!(0));
        let output = world.run(&["sync", "--at", "2024-05-02"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("3 in quarantine: `rollcall quarantine` lists them"), "{text}");
        assert_eq!(world.told().len(), 3);

        let rows = open(&world, &[]);
        assert_eq!((rows.len(), counted(&world)), (3, 3), "{rows:?}");
        let row = rows.iter().find(|row| row["user_id"] == "u1").expect("by the name that other lists show");
        assert_eq!(row["mapping"], "all");
        assert_eq!(
            (&row["audience"], &row["destination"], &row["state"]),
            (&json!("recent"), &json!("kafka"), &json!("open"))
        );
        assert!(row["run"].is_i64() && row["reason"].is_string() && row["created_at"].is_string(), "{row}");
        let reason = row["reason"].as_str().unwrap();
        let run = row["run"].to_string();
        for fits in [["--reason", reason], ["--mapping", "all"], ["--destination", "kafka"], ["--run", &run]] {
            assert_eq!(open(&world, &fits).len(), 3, "{fits:?}");
        }
        for misses in [["--reason", "no_such"], ["--mapping", "none"], ["--destination", "none"], ["--run", "0"]] {
            assert_eq!(open(&world, &misses).len(), 0, "{misses:?}");
        }
        let id = row["id"].to_string();
        let shown = world.json(&["quarantine", "show", &id]);
        assert_eq!(
            (&shown["now"]["outcome"], &shown["now"]["reason"]),
            (&json!("rejected"), &json!(reason)),
            "{shown}"
        );
        assert_eq!((&shown["event"]["userId"], &shown["event"]["traits"]["recent"]), (&json!("u1"), &json!(true)));

        // Nothing is mended yet: it is put aside once more, and that is no reason to halt.
        let still = world.json(&["quarantine", "retry"]);
        assert_eq!((said(&still), world.told().len()), ([3, 3, 0, 3], 3), "{still}");
        assert_eq!((open(&world, &[]).len(), open(&world, &["--all"]).len(), counted(&world)), (3, 6, 3));

        with(MENDED);
        let id = open(&world, &[])[0]["id"].to_string();
        assert_eq!(world.json(&["quarantine", "show", &id])["now"]["outcome"], "record");
        assert_eq!(said(&world.json(&["quarantine", "retry", "--reason", "no_such"])), [0, 0, 0, 0]);
        assert_eq!(world.run(&["quarantine", "retry", "--mapping", "none"]).status.code(), Some(4));
        let answer = world.json(&["quarantine", "retry", "--mapping", "all", "--destination", "kafka"]);
        assert_eq!(said(&answer), [3, 3, 0, 0], "{answer}");
        assert_eq!(said(&world.json(&["quarantine", "retry"])), [0, 0, 0, 0], "nothing is left");
        world.json(&["sync", "--at", "2024-05-02"]);
        for n in 0..6 {
            assert_eq!(heard(&world, &format!("u{n}")), [true], "u{n} by {delivery}");
        }
        assert_eq!((open(&world, &[]).len(), counted(&world)), (0, 0));
        world.json(&["verify"]);
        // The backfills are done, so nothing is left to do for whoever tells.
        let kinds: Vec<Value> = world
            .json(&["backfills"])
            .as_array()
            .unwrap()
            .iter()
            .map(|row| json!([row["kind"], row["state"]]))
            .collect();
        assert!(kinds.iter().all(|row| *row == json!(["retry", "done"])), "{kinds:?}");
        world.json(&["sync", "--at", "2024-06-10"]);
        world.verified();
        for n in 0..6 {
            assert_eq!(heard(&world, &format!("u{n}")), [true, false], "u{n} by {delivery}");
        }
    }
}
