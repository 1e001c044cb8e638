//! What reaches the topics when nothing goes wrong.

use rollcall::{config::Delivery, deliver::Session, ids::Position, mapping::Mapping};
use serde_json::json;

use super::{Stage, fields, mapping, target, whole_event, with};
use crate::support::kafka;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_told_once_and_in_order_and_the_next_call_tells_only_what_is_new() {
    let stage = Stage::new(20, 1).await;
    stage.seal([3, 5, 9], []).await;
    stage.seal([7], [3, 9]).await;
    let mut session = stage.session().await;
    let delivered = session.deliver(&|_| true).await.unwrap();
    assert_eq!((delivered.from, delivered.to, delivered.records), (Position(0), Position(6), 6));
    let expected =
        [(0, "u3", true), (1, "u5", true), (2, "u9", true), (3, "u7", true), (4, "u3", false), (5, "u9", false)];
    let expected: Vec<_> = expected.map(|(position, user, entered)| (position, user.to_owned(), entered)).to_vec();
    assert_eq!(stage.told(), expected);
    assert_eq!(stage.mirror().await, 6);

    let idle = session.deliver(&|_| true).await.unwrap();
    assert_eq!((idle.from, idle.to, idle.records), (Position(6), Position(6), 0));
    stage.seal([11], []).await;
    assert_eq!(session.deliver(&|_| true).await.unwrap().records, 1);
    // Another instance, from the cursor alone.
    stage.seal([12], []).await;
    assert_eq!(stage.deliver().await.unwrap().from, Position(7));
    stage.assert_told_once_and_in_order(8);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_are_told_once_and_in_order_in_every_partition() {
    let stage = Stage::new(12_000, 3).await;
    stage.seal(1..=12_000, []).await;
    stage.seal([], (1..=12_000).step_by(3)).await;
    assert_eq!(stage.deliver().await.unwrap().to, Position(16_000));
    stage.assert_told_once_and_in_order(16_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_says_its_place_stream_message_id_and_checksum_after_the_users_headers() {
    let stage = Stage::new(5, 1).await;
    stage.seal([4], []).await;
    stage.deliver().await.unwrap();
    let received = &kafka::read_uncommitted(&stage.broker, &stage.topic)[0];
    let message_id = received.json()["messageId"].as_str().unwrap().to_owned();
    let stream = stage.stream().await.to_string();
    let mut checksum = flate2::Crc::new();
    checksum.update(
        format!("{stream}\00\0{message_id}\0u4\0{}", String::from_utf8_lossy(received.value.as_ref().unwrap()))
            .as_bytes(),
    );
    let checksum = format!("{:08x}", checksum.sum());
    let expected = [
        ("source", "test"),
        ("rollcall-stream", &stream),
        ("rollcall-position", "0"),
        ("rollcall-message-id", &message_id),
        ("rollcall-crc32", &checksum),
    ];
    assert_eq!(received.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(received.key.as_deref(), Some(b"u4".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_placed_as_javas_partitioner_places_them() {
    let stage = Stage::new(1, 7).await;
    let text = std::fs::read_to_string("tests/data/vectors/partitioner.json").unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<(String, i64)> = vectors["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|case| Some((case["key"].as_str()?.to_owned(), case["partition"]["7"].as_i64()?)))
        .collect();
    assert!(keys.len() > 80, "{}", keys.len());
    stage.seal([1], []).await;
    let mappings = keys.iter().enumerate().map(|(index, (key, _))| {
        let numbered = with(fields(&stage.topic), "payload", json!({"number": index}));
        mapping(&format!("m{index}"), &with(numbered, "key", json!(key)))
    });
    let mut session = Session::start(stage.pool().clone(), stage.target_with(mappings.collect())).await.unwrap();
    session.deliver(&|_| true).await.unwrap();
    let received = kafka::read_committed(&stage.broker, &stage.topic);
    assert_eq!(received.len(), keys.len());
    for record in received {
        let index = record.json()["number"].as_u64().unwrap() as usize;
        assert_eq!((i64::from(record.partition), index), (keys[index].1, index), "key {:?}", keys[index].0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_may_be_a_tombstone_and_a_timestamp_may_be_given() {
    let stage = Stage::new(5, 1).await;
    stage.seal([4], []).await;
    stage.seal([], [4]).await;
    let fields = with(fields(&stage.topic), "timestamp", json!({"@path": "$.timestamp"}));
    let config = json!({"name": "keyed", "on_exit": "tombstone", "mapping": fields});
    let keyed = Mapping::compile("keyed", &serde_json::from_value(config).unwrap()).unwrap();
    let target = stage.target_with(vec![keyed]);
    Session::start(stage.pool().clone(), target).await.unwrap().deliver(&|_| true).await.unwrap();
    let received = kafka::read_committed(&stage.broker, &stage.topic);
    assert_eq!(received[1].value, None);
    assert_eq!(received[1].key, received[0].key);
    assert_eq!(received[0].timestamp_ms, Some(1_714_765_370_066));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_needs_no_transaction_and_goes_on_from_postgres() {
    let stage = Stage::new(9, 1).await;
    let once = async || {
        let mut target = stage.target();
        target.delivery = Delivery::AtLeastOnce;
        Session::start(stage.pool().clone(), target).await.unwrap().deliver(&|_| true).await.unwrap()
    };
    stage.seal(1..=4, []).await;
    assert_eq!(once().await.records, 4);
    stage.seal([5], [1]).await;
    assert_eq!(once().await.from, Position(4));
    stage.assert_told_once_and_in_order(6);
    let cursors = kafka::read_uncommitted(&stage.broker, &stage.cursor_topic);
    let next: Vec<i64> = cursors.iter().map(|cursor| cursor.json()["next"].as_i64().unwrap()).collect();
    assert_eq!(next, [4, 6], "how far was told, as evidence");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_mappings_may_go_to_several_topics() {
    let stage = Stage::new(5, 1).await;
    let second = kafka::topic(&stage.broker, "second", 1);
    stage.seal([1, 2], []).await;
    let never = json!({"name": "never", "subscribe": "type = \"track\"", "mapping": fields(&stage.topic)});
    let never = Mapping::compile("never", &serde_json::from_value(never).unwrap()).unwrap();
    let target = target(
        &stage.broker,
        &stage.cursor_topic,
        vec![whole_event(&stage.topic), never, whole_event(&second)],
        json!({}),
    );
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    assert_eq!(session.deliver(&|_| true).await.unwrap().records, 4);
    assert_eq!(kafka::read_committed(&stage.broker, &second).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_stops_where_it_is_asked_to_and_goes_on_later() {
    let stage = Stage::new(6_000, 1).await;
    stage.seal(1..=6_000, []).await;
    let mut session = stage.session().await;
    let stopped = session.deliver(&|told| told.records == 0).await.unwrap();
    assert_eq!((stopped.to, stopped.end), (Position(5_000), Position(6_000)));
    assert_eq!(session.deliver(&|_| true).await.unwrap().from, Position(5_000));
    stage.assert_told_once_and_in_order(6_000);
}
