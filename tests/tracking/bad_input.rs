//! Every field wrong in every way: an answer without a fault of ours, and the neighbours stored.

use proptest::{
    prelude::*,
    sample::select,
    strategy::{Strategy, ValueTree as _},
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use super::{Api, track};

/// Good calls, of each type.
fn good() -> Vec<Value> {
    let common = json!({"messageId": "m", "userId": "u", "anonymousId": "a", "timestamp": "2024-05-01T00:00:00Z",
        "originalTimestamp": "2024-05-01T00:00:00Z", "sentAt": "2024-05-01T00:00:00Z", "receivedAt": "2024-05-01T00:00:00Z",
        "context": {"traits": {"email": "e"}, "device": {"type": "ios", "id": "d"}, "externalIds": [{"id": "x", "type": "t",
        "collection": "users", "encoding": "none"}]}, "integrations": {"All": true}, "writeKey": "k", "sourceId": "s"});
    let own = [
        json!({"type": "identify", "traits": {"email": "e"}}),
        json!({"type": "track", "event": "E", "properties": {"revenue": 1.5}}),
        json!({"type": "page", "name": "P", "category": "C", "properties": {}}),
        json!({"type": "screen", "name": "S", "properties": {}}),
        json!({"type": "group", "groupId": "g", "traits": {}}),
        json!({"type": "alias", "previousId": "p"}),
    ];
    let with = |own: Value| {
        let mut message = common.clone();
        message.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        message
    };
    own.into_iter().map(with).collect()
}

/// Values that no field should have, as they would be written.
fn wrong() -> impl Strategy<Value = String> {
    let fixed = [
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        "-0.0",
        "12345678901234567890123",
        "\"\"",
        "\" \"",
        "[]",
        "{}",
        "[null]",
        "{\"\":{}}",
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        "\"\u{202e}\u{feff}\u{10ffff}\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"0000-00-00\"",
        "\"1970-01-01T00:00:00+23:59\"",
        "[{\"id\":1,\"type\":[]}]",
        r#"{"\u0000":1}"#,
        "\"\\u202e\"",
        "1.5",
    ];
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let long = [
        deep(99),
        deep(101),
        deep(5_000),
        format!("\"{}\"", "x".repeat(40_000)),
        format!("\"{}\"", "é".repeat(501)),
        "9".repeat(500),
    ];
    let many = format!("{{{}}}", (0..400).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(","));
    let all: Vec<String> = fixed.iter().map(|value| value.to_string()).chain(long).chain([many]).collect();
    prop_oneof![4 => select(all), 1 => any::<String>().prop_map(|text| json!(text).to_string()), 1 => any::<f64>().prop_map(|n| json!(n).to_string())]
}

/// A call, one or two of whose fields are wrong, missing, twice there, or one too many.
fn spoiled() -> impl Strategy<Value = String> {
    let change = (any::<prop::sample::Index>(), wrong(), 0..5u8);
    (select(good()), prop::collection::vec(change, 1..3)).prop_map(|(message, changes)| {
        let mut fields: Vec<(String, String)> = message
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (json!(name).to_string(), value.to_string()))
            .collect();
        for (at, value, how) in changes {
            let at = at.index(fields.len());
            match how {
                0 => drop(fields.remove(at)),
                1 => fields.push((fields[at].0.clone(), value)),
                2 => fields.push((if value.starts_with('"') { value.clone() } else { "\"more\"".into() }, value)),
                _ => fields[at].1 = value,
            }
        }
        format!("{{{}}}", fields.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(","))
    })
}

const CASES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_message_its_neighbours_are_stored_and_nothing_breaks() {
    let api = Api::start().await;
    let mut runner = TestRunner::new(Config::default());
    let (batches, envelopes) = (prop::collection::vec(spoiled(), 1..6), (wrong(), 0..6usize));
    for case in 0..CASES {
        let bad = batches.new_tree(&mut runner).unwrap().current();
        let (value, field) = envelopes.new_tree(&mut runner).unwrap().current();
        let (first, last) = (track(&format!("first-{case}"), "u"), track(&format!("last-{case}"), "u"));
        // What stands beside the batch may be wrong as well, save what stands there twice.
        let beside = ["sentAt", "context", "integrations", "messageId", "more", "writeKey"][field];
        let body = format!(r#"{{"{beside}":{value},"batch":[{first},{},{last}]}}"#, bad.join(","));
        let answered = api.post_text("/v1/batch", body.clone()).await;
        assert_eq!(answered.status, 200, "{answered:?}\n{body}");
        assert_eq!(answered.body["success"], true);
        let kind = ["identify", "track", "page", "screen", "group", "alias"][case % 6];
        let alone = api.post_text(&format!("/v1/{kind}"), bad[0].clone()).await;
        assert!([200, 400].contains(&alone.status), "{alone:?}\n{}", bad[0]);
    }
    let neighbours = "select count(*) from events where message_id like 'first-%' or message_id like 'last-%'";
    assert_eq!(api.count(neighbours).await, 2 * CASES as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_never_json_are_answered_like_any_other() {
    let api = Api::start().await;
    let mut runner = TestRunner::new(Config::default());
    let good = json!({"sentAt": "2024-05-01T00:00:00Z", "batch": good()}).to_string().into_bytes();
    let flips = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5);
    for case in 0..CASES {
        let mut body = good.clone();
        for (at, byte) in flips.new_tree(&mut runner).unwrap().current() {
            let at = at.index(body.len());
            match case % 3 {
                0 => body[at] = byte,
                1 => body.truncate(at),
                _ => body.insert(at, byte),
            }
            if body.is_empty() {
                break;
            }
        }
        let answered = api.post_text("/v1/batch", body.clone()).await;
        assert!([200, 400].contains(&answered.status), "{answered:?}\n{}", String::from_utf8_lossy(&body));
    }
}
