//! What is no message is put aside with its reason; its neighbours are stored.

use serde_json::json;

use super::{Stream, order, produce, producer};
use crate::support::kafka;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_with_its_reason_and_its_neighbours_are_stored() {
    let stream = Stream::new(1).await;
    let secret = "alice-whom-no-log-may-name@example.com";
    let large = json!({"type": "track", "event": "x", "userId": "u", "properties": {"a": "x".repeat(40_000)}});
    let poison: Vec<Option<Vec<u8>>> = vec![
        None,
        Some(Vec::new()),
        Some(format!("{{\"userId\": \"{secret}\"").into_bytes()),
        Some(format!("\"{secret}\"").into_bytes()),
        Some(b"\xff\xfe".to_vec()),
        Some(large.to_string().into_bytes()),
        Some(json!({"type": "track", "event": "no one"}).to_string().into_bytes()),
        Some(json!({"type": "delete", "userId": secret}).to_string().into_bytes()),
        Some(json!({"type": "track", "userId": secret, "event": {"not": "text"}}).to_string().into_bytes()),
        Some(json!({"type": "identify", "userId": secret, "traits": {"a": "\0"}}).to_string().into_bytes()),
    ];
    let mut values = Vec::new();
    for (n, bad) in poison.iter().enumerate() {
        values.extend([Some(order(n).to_string().into_bytes()), bad.clone()]);
    }
    // Its arrival is known, so it is not lost.
    let misdated = json!({"type": "track", "userId": secret, "event": "x", "timestamp": "never"});
    values.push(Some(misdated.to_string().into_bytes()));
    produce(&producer(&[]), &stream.topic, 1, &values);
    let mut instance = stream.serve("one", "");
    stream.is_taken_in(values.len() as i64).await;
    assert_eq!(stream.count("select count(*) from events").await, poison.len() as i64 + 1);
    assert_eq!(stream.count("select messages from refusals where field = 'timestamp' and is_stored").await, 1);
    let log = instance.log();
    assert!(log.contains("messages were refused"), "{log}");
    assert!(!log.contains(secret), "{log}");
    instance.ends_cleanly();

    let refused = stream.world.json(&["refused"]);
    let refused = refused.as_array().unwrap();
    assert!(refused.iter().all(|cause| cause["source"] == stream.name.as_str()));
    for reason in ["tombstone", "not a JSON object", "not UTF-8", "is too many bytes", "must be one of", "NUL"] {
        let has = |cause: &serde_json::Value| cause["reason"].as_str().unwrap().contains(reason);
        assert!(refused.iter().any(has), "{reason}: {refused:?}");
    }
    assert!(!json!(refused).to_string().contains(secret), "{refused:?}");

    let listed = stream.world.json(&["streams"]);
    assert_eq!(listed[0]["stream"], stream.name.as_str());
    assert_eq!((&listed[0]["lag"], &listed[0]["refused"]), (&json!(0), &json!(poison.len())));
    let table = String::from_utf8(stream.world.run(&["streams"]).stdout).unwrap();
    assert!(table.contains(&stream.topic), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_an_id_or_a_time_gets_them_from_its_record_the_same_each_time_it_is_read() {
    let stream = Stream::new(1).await;
    let value = json!({"type": "track", "event": "Order Completed", "userId": "ann", "sourceId": null}).to_string();
    produce(&producer(&[]), &stream.topic, 1, &[Some(value.clone().into_bytes()), Some(value.into_bytes())]);
    let streaming = stream.read().await;
    stream.is_taken_in(2).await;
    streaming.stop().await;
    let undated = "select count(*) from events where occurred_at < now() - interval '1 hour' or occurred_at > now()";
    assert_eq!(stream.count(undated).await, 0, "as of when it was written to Kafka");
    let sources: Vec<Option<String>> =
        sqlx::query_scalar("select distinct source_id from events").fetch_all(&stream.world.db.pool).await.unwrap();
    assert_eq!(sources, [Some(stream.name.clone())]);

    // Somebody sets the stream back: what is read again is known.
    sqlx::query("update stream_offsets set next_offset = 0").execute(&stream.world.db.pool).await.unwrap();
    let streaming = stream.read().await;
    kafka::eventually("it is read again", || {
        (stream.metric("rollcall_stream_records_total", "repeated") == 2.0).then_some(())
    });
    stream.is_taken_in(2).await;
    streaming.stop().await;
}
