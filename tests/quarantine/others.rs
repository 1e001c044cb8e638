//! Only what was put aside is told again: by that mapping, under that name, of people who may be told of.

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use serde_json::{Value, json};

use super::{BROKEN, MENDED, RECENT, buy, configure, counted, heard, map, mapping, open, said};
use crate::{
    lanes::changes,
    support::kafka,
    sync::{World, order},
};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_mappings_only_the_record_of_the_bad_one_is_told_again() {
    let world = World::new(RECENT).await;
    let second = kafka::topic(kafka::broker(), "second", 1);
    let with = |more: &str| {
        let mappings = [mapping("all", &world.topic, ""), mapping("placed", &second, more)];
        configure(&world, &format!("audiences:\n{RECENT}"), "exactly_once", &mappings);
    };
    with(BROKEN);
    buy(&world, 0..4, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    let told = || [&world.topic, &second].map(|topic| kafka::read_committed(kafka::broker(), topic).len());
    assert_eq!((told(), counted(&world)), ([4, 0], 4));
    with(MENDED);
    assert_eq!(said(&world.json(&["quarantine", "retry", "--mapping", "all"])), [0, 0, 0, 0]);
    let answer = world.json(&["quarantine", "retry", "--mapping", "placed"]);
    assert_eq!((said(&answer), told()), ([4, 4, 0, 0], [4, 4]), "{answer}");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_mapping_is_renamed_under_way_is_put_aside_and_not_lost() {
    let world = World::new(RECENT).await;
    let with = |name: &str, more: &str| {
        let audiences = format!("audiences:\n{RECENT}");
        configure(&world, &audiences, "exactly_once", &[mapping(name, &world.topic, more)]);
    };
    with("all", BROKEN);
    buy(&world, 0..2, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    with("all", MENDED);
    world.json(&["quarantine", "retry", "--detach"]);
    with("other", MENDED);
    world.json(&["sync", "--at", "2024-05-02"]);
    let rows = open(&world, &[]);
    assert!(rows.len() == 2 && rows.iter().all(|row| row["reason"] == "unknown_mapping"), "{rows:?}");
    assert_eq!(world.json(&["quarantine", "show", &rows[0]["id"].to_string()])["now"]["outcome"], "unknown_mapping");
    assert_eq!(said(&world.json(&["quarantine", "retry"])), [0, 0, 0, 0], "no mapping of that name is in force");
    with("all", MENDED);
    assert_eq!(said(&world.json(&["quarantine", "retry"])), [2, 2, 0, 0]);
    assert_eq!((heard(&world, "u0"), heard(&world, "u1"), counted(&world)), (vec![true], vec![true], 0));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_names_of_a_person_only_the_one_that_was_put_aside_is_told_again() {
    let world = World::new(RECENT).await;
    let audience = "audiences:\n  - name: Recent\n    query: \"event('Order Completed').count() >= 1\"\n    \
                    id_sync: [{id: user_id, strategy: last}, {id: email, strategy: all}]";
    // Of these addresses one is a number, as a partition is.
    let partition = ", partition: {\"@path\": $.traits.email}";
    let with = |more: &str| configure(&world, audience, "exactly_once", &[mapping("all", &world.topic, more)]);
    with(partition);
    let email = |n: u32, email: &str| json!({"type": "identify", "userId": "ann", "messageId": format!("e{n}"), "timestamp": "2024-05-01T00:00:00Z", "traits": {"email": email}});
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 1.0), email(1, "1"), email(2, "ann@example.com")]);
    world.json(&["sync", "--at", "2024-05-02"]);
    let told = || world.told().iter().map(|record| record.json()["traits"]["email"].clone()).collect::<Vec<Value>>();
    assert_eq!((told(), counted(&world)), (vec![json!("1")], 1));
    // One more name shifts the others.
    world.import(&[email(3, "a@example.com")]);
    with(MENDED);
    let answer = world.json(&["quarantine", "retry"]);
    assert_eq!((said(&answer), told().len()), ([1, 1, 0, 0], 2), "{answer}");
    assert!(told().contains(&json!("ann@example.com")), "{:?}", told());
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suppressed_waits_and_of_the_forgotten_nothing_is_left() {
    let world = World::new(RECENT).await;
    map(&world, BROKEN);
    buy(&world, 0..3, "2024-05-01", json!("nowhere"));
    world.json(&["sync", "--at", "2024-05-02"]);
    map(&world, MENDED);
    world.json(&["suppress", "u0"]);
    world.json(&["forget", "u1"]);
    let users: Vec<Value> = open(&world, &[]).iter().map(|row| row["user_id"].clone()).collect();
    assert_eq!(users, [json!("u2"), json!("u0")], "the row of who is forgotten is gone");
    let answer = world.json(&["quarantine", "retry"]);
    assert_eq!((said(&answer), &answer["left"]), ([2, 1, 0, 0], &json!(1)), "{answer}");
    assert_eq!((heard(&world, "u0"), heard(&world, "u2")), (vec![], vec![true]));
    assert!(!heard(&world, "u1").contains(&true));
    assert_eq!(counted(&world), 1);
    world.json(&["unsuppress", "u0"]);
    assert_eq!(said(&world.json(&["quarantine", "retry"])), [1, 1, 0, 0]);
    assert_eq!((heard(&world, "u0"), counted(&world)), (vec![true], 0));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_became_another_since_is_told_under_todays_name_once() {
    let world = World::new(RECENT).await;
    let audience = "audiences:\n  - {name: Recent, query: \"event('Order Completed').count() >= 1\", include_anonymous: true, include_traits: [place]}";
    let with = |more: &str| configure(&world, audience, "exactly_once", &[mapping("all", &world.topic, more)]);
    with(BROKEN);
    let visitor = |id: &str, more: Value| {
        let mut message = json!({"messageId": id, "anonymousId": "device", "timestamp": "2024-05-01T00:00:00Z"});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    buy(&world, 7..8, "2024-05-01", json!(0));
    world.import(&[
        visitor("1", json!({"type": "track", "event": "Order Completed"})),
        visitor("2", json!({"type": "identify", "traits": {"place": "nowhere"}})),
    ]);
    world.json(&["sync", "--at", "2024-05-02"]);
    assert_eq!((heard(&world, "u7"), counted(&world)), (vec![true], 1));
    with(MENDED);
    // The visitor turns out to be u7, who was told already.
    world.import(&[visitor("3", json!({"type": "identify", "userId": "u7", "traits": {"place": 0}}))]);
    world.json(&["sync", "--at", "2024-05-03"]);
    let before = changes(&world.told());
    world.json(&["quarantine", "retry"]);
    assert_eq!((changes(&world.told()), counted(&world)), (before, 0));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_refused_is_told_when_its_limit_is_raised() {
    let mut world = World::new(RECENT).await;
    world.topic = kafka::unique("small");
    kafka::create_topic(kafka::broker(), &world.topic, 1, &[("max.message.bytes", "5000")]);
    map(&world, MENDED);
    buy(&world, 0..3, "2024-05-01", json!("here"));
    let long: String = (0..1_000u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    buy(&world, 3..4, "2024-05-01", json!(long));
    world.json(&["sync", "--at", "2024-05-02"]);
    let rows = open(&world, &["--reason", "too_large"]);
    assert_eq!((rows.len(), world.told().len()), (1, 3), "{rows:?}");
    let shown = world.json(&["quarantine", "show", &rows[0]["id"].to_string()]);
    assert_eq!(shown["now"]["outcome"], "record", "the mapping can make it");
    assert!(shown["now"]["bytes"].as_u64().unwrap() > 5_000, "{shown}");
    assert_eq!(said(&world.json(&["quarantine", "retry"])), [1, 1, 0, 1], "the topic still refuses it");
    let raised = AlterConfig::new(ResourceSpecifier::Topic(&world.topic)).set("max.message.bytes", "100000");
    let admin = kafka::admin(kafka::broker());
    kafka::block_on(admin.alter_configs([&raised], &AdminOptions::new())).unwrap().remove(0).unwrap();
    assert_eq!(said(&world.json(&["quarantine", "retry", "--reason", "too_large"])), [1, 1, 0, 0]);
    assert_eq!((heard(&world, "u3"), counted(&world)), (vec![true], 0));
    world.verified();
}
