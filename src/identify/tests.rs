//! What is told of a change: the envelope byte for byte, and whom it is about.

use super::*;
use crate::{
    audience::{Class, identities::identities, options::Options},
    config::{IdSync, Strategy},
    ids::{AudienceId, BackfillId, Position, RunId},
};

fn run() -> SealedRun {
    SealedRun {
        run: RunId(7),
        audience: AudienceId(3),
        class: Class::Audience,
        key: "order_completed_last_30days".into(),
        computation_id: "aud_0000038npSZL0yQDffimzpksyu1".into(),
        evaluated_at: "2024-05-03T19:42:50.066179Z".parse().expect("an instant"),
        options: Options::default(),
        range: Position(0)..Position(1),
        before: Default::default(),
        chain: Default::default(),
        after: Position(0),
        identified_since: None,
        backfill: None,
        is_retry: false,
        last_merge: 0,
        tombstone: false,
        values_through: None,
    }
}

fn person(identifiers: &[(&str, &str)]) -> Person {
    let identifiers = identifiers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Person { identifiers, traits: vec![("email".into(), "a@b.c".into())] }
}

fn sync(id: &str, strategy: Strategy) -> IdSync {
    IdSync { id: id.into(), strategy, map_to: None }
}

#[test]
fn an_entry_is_told_in_the_peers_envelope() {
    let envelope = Envelope::new(&run(), "spa_1", "Kafka", Uuid::nil());
    let person = person(&[("user_id", "u0"), ("user_id", "u\"1")]);
    let options = Options::default();
    let mut text = String::new();
    let written = envelope.write(
        &mut text,
        ProfileId(5),
        &identities(&person.identifiers, &options)[0],
        &person.traits,
        &Now::In,
    );
    assert_eq!(written.message_id.len(), "personas_".len() + 27);
    let expected = concat!(
        r#"{"context":{"integrations":{"personas":false},"library":{"name":"rollcall","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""},"personas":{"computation_class":"audience","computation_id":"aud_0000038npSZL0yQDffimzpksyu1","#,
        r#""computation_key":"order_completed_last_30days","namespace":"spa_1","space_id":"spa_1"}},"#,
        r#""integrations":{"All":false,"Kafka":true},"messageId":"personas_2fyFNUuisRVxBYa9ZvZ8Bp3MVIm","#,
        r#""originalTimestamp":"2024-05-03T19:42:50.066179000Z","sentAt":null,"#,
        r#""timestamp":"2024-05-03T19:42:50.066Z","traits":{"order_completed_last_30days":true,"#,
        r#""email":"a@b.c"},"type":"identify","userId":"u\"1"}"#,
    );
    assert_eq!(text, expected);
    // What is known of where its objects stand is what they are.
    assert_eq!(&text[written.traits], r#"{"order_completed_last_30days":true,"email":"a@b.c"}"#);
    assert!(expected.starts_with(&format!("{{\"context\":{},\"integrations\"", envelope.context())));
}

#[test]
fn the_boolean_wins_over_a_trait_of_the_same_name() {
    let envelope = Envelope::new(&run(), "spa_1", "Kafka", Uuid::nil());
    let mut text = String::new();
    let traits = vec![("order_completed_last_30days".to_string(), Value::from("stale"))];
    let person = person(&[("user_id", "u1")]);
    let options = Options::default();
    envelope.write(&mut text, ProfileId(5), &identities(&person.identifiers, &options)[0], &traits, &Now::Out);
    let event: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(event["traits"], serde_json::json!({"order_completed_last_30days": false}));
}

#[test]
fn a_trait_is_told_with_its_value_and_as_null_when_it_ceased() {
    let run = SealedRun {
        class: Class::Trait,
        key: "total_revenue".into(),
        computation_id: "tra_0000038npSZL0yQDffimzpksyu1".into(),
        ..run()
    };
    let envelope = Envelope::new(&run, "spa_1", "Kafka", Uuid::nil());
    let (person, options) = (person(&[("user_id", "u1")]), Options::default());
    let told = |now: Now| {
        let mut text = String::new();
        envelope.write(&mut text, ProfileId(5), &identities(&person.identifiers, &options)[0], &[], &now);
        let personas: Value = serde_json::from_str::<Value>(&text).expect("JSON")["context"]["personas"].take();
        assert_eq!(personas["computation_class"], "trait");
        assert_eq!(personas["computation_id"], "tra_0000038npSZL0yQDffimzpksyu1");
        let (_, traits) = text.split_once(r#""traits":"#).expect("traits");
        traits.split_once(r#","type""#).expect("a type behind them").0.to_owned()
    };
    let value = |json: &str| told(Now::Value(json.into()));
    assert_eq!(value("12.34"), r#"{"total_revenue":12.34}"#);
    assert_eq!(value("-7"), r#"{"total_revenue":-7}"#);
    assert_eq!(value("0.0000001"), r#"{"total_revenue":1e-7}"#);
    assert_eq!(value("12345678901234567890.25"), r#"{"total_revenue":12345678901234567000}"#);
    assert_eq!(value(r#"["a","b\"c"]"#), r#"{"total_revenue":["a","b\"c"]}"#);
    assert_eq!(value("true"), r#"{"total_revenue":true}"#);
    assert_eq!(value(r#"{"a":1.5,"b":null}"#), r#"{"a":1.5,"b":null}"#, "several values, told together");
    assert_eq!(told(Now::Nothing), r#"{"total_revenue":null}"#);
}

#[test]
fn a_message_id_is_the_same_when_told_again_and_another_for_any_other_change() {
    let person = person(&[("user_id", "u1"), ("email", "e1"), ("email", "e2")]);
    let options = Options { id_sync: vec![sync("email", Strategy::All)], ..Options::default() };
    let id = |stream, run: SealedRun, profile, nth: usize| {
        let envelope = Envelope::new(&run, "spa_1", "Kafka", stream);
        let identity = &identities(&person.identifiers, &options)[nth];
        envelope.write(&mut String::new(), ProfileId(profile), identity, &[], &Now::In).message_id
    };
    let first = id(Uuid::nil(), run(), 5, 0);
    assert_eq!(first, id(Uuid::nil(), run(), 5, 0));
    assert_ne!(first, id(Uuid::nil(), run(), 6, 0));
    assert_ne!(first, id(Uuid::nil(), run(), 5, 1));
    assert_ne!(first, id(Uuid::max(), run(), 5, 0));
    assert_ne!(first, id(Uuid::nil(), SealedRun { run: RunId(8), ..run() }, 5, 0));
    assert_ne!(first, id(Uuid::nil(), SealedRun { backfill: Some(BackfillId(1)), ..run() }, 5, 0));
}

#[test]
fn id_sync_tells_each_user_id_with_each_email() {
    let person = person(&[("user_id", "u1"), ("user_id", "u2"), ("email", "e1"), ("email", "e2")]);
    let id_sync = vec![sync("user_id", Strategy::All), sync("email", Strategy::All)];
    let options = Options { id_sync, ..Options::default() };
    let told: Vec<_> = identities(&person.identifiers, &options)
        .iter()
        .map(|i| (i.user_id.expect("a user id"), i.traits[0].1))
        .collect();
    assert_eq!(told, [("u1", "e1"), ("u1", "e2"), ("u2", "e1"), ("u2", "e2")]);
}

#[test]
fn a_profile_without_a_user_id_is_told_by_its_latest_anonymous_id_where_that_was_asked_for() {
    let person = person(&[("anonymous_id", "a1"), ("anonymous_id", "a2")]);
    assert_eq!(identities(&person.identifiers, &Options::default()), []);
    let options = Options { include_anonymous: true, ..Options::default() };
    let told = identities(&person.identifiers, &options);
    assert_eq!(told, [Identity { anonymous_id: Some("a2"), ..Identity::default() }]);
}
