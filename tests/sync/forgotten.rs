//! Somebody asks to be forgotten: everybody is told, once, and then nothing is left.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::{RECENT, World, order, users};

const EVERYONE: &str = "
  - name: Order Completed Last 30days
    query: event('Order Completed').within(30 days).count() >= 1
  - name: Never Ordered A Lot
    query: NOT event('Order Completed').count() >= 5
";

fn known(user: &str, email: &str, id: &str) -> Value {
    json!({"type": "identify", "userId": user, "messageId": id, "timestamp": "2024-05-01", "anonymousId": format!("device-{user}"),
           "traits": {"email": email}})
}

async fn rows(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

async fn people(world: &World) {
    world.import(&[
        known("ann", "ann@example.com", "1"),
        known("bob", "bob@example.com", "2"),
        order("ann", "3", "2024-05-01T00:00:00Z", 1.0),
        order("bob", "4", "2024-05-01T00:00:00Z", 1.0),
        json!({"type": "group", "userId": "ann", "groupId": "g", "messageId": "5", "timestamp": "2024-05-01"}),
        json!({"type": "alias", "userId": "ann", "previousId": "old-ann", "messageId": "6", "timestamp": "2024-05-01"}),
        json!({"type": "track", "event": "Invited", "userId": "bob", "messageId": "7", "timestamp": "2024-05-01",
               "properties": {"friend": "ann@example.com"}}),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_forgotten_is_told_false_everywhere_once_and_leaves_nothing() {
    let world = World::new(EVERYONE).await;
    people(&world).await;
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(world.fold()["never_ordered_a_lot"], users(["ann", "bob"]));

    let answer = world.json(&["forget", "email:ann@example.com", "nobody", "--tombstone"]);
    assert_eq!((&answer["requested"], &answer["unknown"], &answer["waiting"]), (&json!(1), &json!(1), &json!([])));
    let tables = &answer["erased"][0]["tables"];
    for table in ["profiles", "identifiers", "events", "group_members", "aliases"] {
        assert!(tables[table]["before"].as_i64() > Some(0), "{table}: {answer}");
        assert_eq!(tables[table]["after"], 0, "{table}: {answer}");
    }
    let mentioned = answer["erased"][0]["mentioned"].as_object().unwrap();
    let found: Vec<_> = mentioned.iter().filter(|(_, count)| **count != json!(0)).collect();
    assert_eq!(found, [(&"events".to_owned(), &json!(1))], "bob's own event mentions her, and is his");
    assert!(!answer.to_string().contains("ann@"), "the report holds counts alone");

    let told = world.told();
    let (events, buried): (Vec<_>, Vec<_>) = told.into_iter().partition(|record| record.value.is_some());
    let fold = super::fold(&events);
    assert_eq!(
        (&fold["order_completed_last_30days"], &fold["never_ordered_a_lot"]),
        (&users(["bob"]), &users(["bob"]))
    );
    assert_eq!(events.len(), 6, "two people entered two audiences, and one left both");
    assert_eq!(buried.len(), 2, "a tombstone for each audience that was told");
    assert!(buried.iter().all(|record| record.key.as_deref() == Some(b"ann")));

    // Nothing brings her back, and nobody is told of her again.
    let mut file = tempfile::NamedTempFile::new_in(world.folder.path()).unwrap();
    std::io::Write::write_all(
        &mut file,
        format!("{}\n{}\n", order("ann", "8", "2024-05-20", 1.0), order("eve", "9", "2024-05-20", 1.0)).as_bytes(),
    )
    .unwrap();
    let summary = world.json(&["import", file.path().to_str().unwrap()]);
    assert_eq!((&summary[0]["accepted"], &summary[0]["suppressed"]), (&json!(1), &json!(1)), "{summary}");
    world.json(&["sync", "--at", "2024-05-21"]);
    assert_eq!(rows(&world.db.pool, "select count(*) from identifiers where value like '%ann%'").await, 0);
    let told: Vec<_> = world.told().into_iter().filter(|record| record.value.is_some()).collect();
    assert_eq!(super::fold(&told)["order_completed_last_30days"], users(["bob", "eve"]));

    world.run(&["unsuppress", "ann"]);
    world.import(&[order("ann", "10", "2024-05-20", 1.0)]);
    assert_eq!(
        rows(&world.db.pool, "select count(*) from identifiers where value = 'ann'").await,
        1,
        "as a new person"
    );
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_erased_before_every_destination_was_told() {
    let world = World::new(RECENT).await;
    people(&world).await;
    world.json(&["sync", "--at", "2024-05-21"]);
    world.configure_with(RECENT, "127.0.0.1:1", &world.topic, "");
    let waits = world.run(&["forget", "ann"]);
    assert_eq!(waits.status.code(), Some(5), "{}", String::from_utf8_lossy(&waits.stderr));
    let list = world.json(&["forget", "--list"]);
    assert_eq!((&list[0]["state"], &list[0]["waits_for"]), (&json!("sealed"), &json!(["kafka"])), "{list}");
    assert_eq!(rows(&world.db.pool, "select count(*) from identifiers where value = 'ann'").await, 1);
    // She is no member any more, although her orders are still there.
    let again = world.run(&["sync", "--at", "2024-05-21"]);
    assert!(!again.status.success());
    assert_eq!(rows(&world.db.pool, "select members from runs order by id desc limit 1").await, 1);

    world.configure(RECENT);
    let answer = world.json(&["forget"]);
    assert_eq!(answer["erased"][0]["tables"]["profiles"], json!({"before": 1, "after": 0}));
    assert_eq!(world.fold()["order_completed_last_30days"], users(["bob"]));
    assert_eq!(world.json(&["forget", "--list"])[0]["state"], "erased");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suppressed_stays_as_they_are_and_is_told_nothing() {
    let world = World::new(RECENT).await;
    people(&world).await;
    world.json(&["sync", "--at", "2024-05-21"]);
    assert!(world.run(&["suppress", "email:ann@example.com"]).status.success());
    world.import(&[order("ann", "11", "2024-06-15", 1.0), order("bob", "12", "2024-06-15", 1.0)]);
    assert_eq!(rows(&world.db.pool, "select count(*) from events where message_id = '11'").await, 0);
    // Her only order is too old by now; of bob's change all is told.
    world.json(&["sync", "--at", "2024-06-05"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users(["ann"]));
    assert!(world.run(&["unsuppress", "ann"]).status.success());
    world.json(&["sync", "--at", "2024-06-05"]);
    assert_eq!(world.fold()["order_completed_last_30days"], users([]));
    assert_eq!(world.run(&["unsuppress", "ann"]).status.code(), Some(4));
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_shown_with_all_that_is_known_of_them() {
    let world = World::new(EVERYONE).await;
    people(&world).await;
    // Not in one batch: two profiles are stored before they turn out to be one.
    world.import(&[
        json!({"type": "track", "event": "Seen", "anonymousId": "phone", "messageId": "20", "timestamp": "2024-05-03"}),
    ]);
    world.import(&[
        json!({"type": "track", "event": "Seen", "anonymousId": "phone", "userId": "ann", "messageId": "21", "timestamp": "2024-05-04"}),
    ]);
    world.json(&["sync", "never_ordered_a_lot", "--at", "2024-05-21"]);
    let shown = world.json(&["profile", "email:ann@example.com"]);
    let ids: Vec<_> = shown["identifiers"].as_array().unwrap().iter().map(|id| id["value"].as_str().unwrap()).collect();
    assert_eq!(ids, ["device-ann", "old-ann", "ann@example.com", "ann", "phone"], "{shown}");
    assert_eq!(shown["traits"], json!({"email": "ann@example.com"}));
    assert_eq!(shown["audiences"][0]["key"], "never_ordered_a_lot");
    assert_eq!(shown["audiences"][0]["since"], "2024-05-21T00:00:00Z");
    assert_eq!(shown["audiences"][0]["why"]["holds"], true);
    let events: Vec<_> = shown["events"].as_array().unwrap().iter().map(|event| &event["message_id"]).collect();
    assert_eq!(events, ["21", "20", "3"]);
    assert_eq!(shown["merges"].as_array().map(Vec::len), Some(1));
    let text = world.run(&["profile", "ann", "--events", "1"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for part in ["user_id:ann", "never_ordered_a_lot", "✓", "Seen", "shared identifier"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(world.run(&["profile", "nobody"]).status.code(), Some(4));
}
