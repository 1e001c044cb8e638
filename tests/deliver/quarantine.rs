//! Records that can never be delivered: put aside alone, with the reason, once.

use rollcall::{
    deliver::{Delivered, Session},
    ids::Position,
    mapping::Mapping,
};
use serde_json::json;

use super::{Stage, crash, fields, mapping, whole_event, with};
use crate::support::kafka;

async fn deliver(stage: &Stage, mappings: Vec<Mapping>) -> Delivered {
    let target = stage.target_with(mappings);
    Session::start(stage.pool().clone(), target).await.unwrap().deliver(&|_| true).await.unwrap()
}

async fn put_aside(stage: &Stage) -> Vec<(i64, String, String)> {
    sqlx::query_as("select position, mapping, reason from quarantine order by position, mapping")
        .fetch_all(stage.pool())
        .await
        .unwrap()
}

fn positions(stage: &Stage) -> Vec<i64> {
    let received = kafka::read_committed(&stage.broker, &stage.topic);
    received.iter().map(|record| record.header("rollcall-position").unwrap().parse().unwrap()).collect()
}

/// Text that does not compress, as brokers measure batches compressed.
pub fn noise(words: u64) -> String {
    (0..words).map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_record_is_put_aside_and_its_neighbours_are_told() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    stage.give([4], json!({"partition": "not a number"})).await;
    let strict = with(fields(&stage.topic), "partition", json!({"@path": "$.traits.partition"}));
    let delivered = deliver(&stage, vec![mapping("strict", &strict)]).await;
    assert_eq!((delivered.to, delivered.records, delivered.quarantined), (Position(9), 8, 1));
    let aside = put_aside(&stage).await;
    assert_eq!((aside.len(), aside[0].0, aside[0].1.as_str()), (1, 3, "strict"));
    assert_eq!(positions(&stage), [0, 1, 2, 4, 5, 6, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_our_own_size_limit_is_put_aside() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    stage.give([7], json!({"pad": " ".repeat(2_000_000)})).await;
    assert_eq!(deliver(&stage, vec![whole_event(&stage.topic)]).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(6, "everything".into(), "too_large".into())]);
    assert_eq!(positions(&stage), [0, 1, 2, 3, 4, 5, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_the_topics_size_limit_is_found_among_a_page_of_others() {
    let mut stage = Stage::new(300, 1).await;
    stage.topic = kafka::unique("small");
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[("max.message.bytes", "200000")]);
    stage.seal(1..=300, []).await;
    stage.give([137], json!({"pad": noise(40_000)})).await;
    let delivered = deliver(&stage, vec![whole_event(&stage.topic)]).await;
    assert_eq!((delivered.to, delivered.quarantined), (Position(300), 1));
    assert_eq!(put_aside(&stage).await, [(136, "everything".into(), "too_large".into())]);
    let expected: Vec<i64> = (0..300).filter(|position| *position != 136).collect();
    assert_eq!(positions(&stage), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_records_of_one_change_only_the_guilty_one_is_put_aside() {
    let mut stage = Stage::new(3, 1).await;
    stage.topic = kafka::unique("small");
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[("max.message.bytes", "2000")]);
    stage.seal(1..=3, []).await;
    stage.give([2], json!({"pad": noise(400)})).await;
    let small = with(fields(&stage.topic), "payload", json!({"user": {"@path": "$.userId"}}));
    let mappings = vec![mapping("small", &small), mapping("big", &fields(&stage.topic))];
    assert_eq!(deliver(&stage, mappings).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(1, "big".into(), "too_large".into())]);
    assert_eq!(positions(&stage), [0, 0, 1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_the_topic_does_not_have_is_put_aside() {
    let stage = Stage::new(5, 2).await;
    stage.seal(1..=5, []).await;
    stage.give(1..=5, json!({"partition": 1})).await;
    stage.give([2], json!({"partition": 9})).await;
    let placed = with(fields(&stage.topic), "partition", json!({"@path": "$.traits.partition"}));
    assert_eq!(deliver(&stage, vec![mapping("placed", &placed)]).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(1, "placed".into(), "unknown_partition".into())]);
    assert_eq!(positions(&stage), [0, 2, 3, 4]);
    assert!(kafka::read_committed(&stage.broker, &stage.topic).iter().all(|record| record.partition == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_key_for_a_compacted_topic_is_put_aside() {
    let mut stage = Stage::new(4, 1).await;
    stage.topic = kafka::unique("compacted");
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[("cleanup.policy", "compact")]);
    stage.seal(1..=4, []).await;
    stage.give([1, 2, 4], json!({"key": "k"})).await;
    let keyless = with(fields(&stage.topic), "key", json!({"@path": "$.traits.key"}));
    assert_eq!(deliver(&stage, vec![mapping("keyless", &keyless)]).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(2, "keyless".into(), "refused_by_broker".into())]);
    assert_eq!(positions(&stage), [0, 1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_name_that_none_can_have_is_put_aside() {
    let stage = Stage::new(4, 1).await;
    stage.seal(1..=4, []).await;
    stage.give(1..=4, json!({"topic": stage.topic})).await;
    stage.give([1], json!({"topic": "no such: name"})).await;
    let named = with(fields(&stage.topic), "topic", json!({"@path": "$.traits.topic"}));
    assert_eq!(deliver(&stage, vec![mapping("named", &named)]).await.quarantined, 1);
    let aside = put_aside(&stage).await;
    assert_eq!((aside.len(), aside[0].0, aside[0].1.as_str()), (1, 0, "named"), "{aside:?}");
    assert_eq!(positions(&stage), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_with_megabytes_of_traits_make_pages_shorter_and_are_told() {
    let stage = Stage::new(60, 1).await;
    stage.seal(1..=60, []).await;
    stage.give(1..=60, json!({"pad": " ".repeat(900_000)})).await;
    let mut session = stage.session().await;
    let pages = std::sync::atomic::AtomicU32::new(0);
    let delivered =
        session.deliver(&|_| pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 1_000).await.unwrap();
    assert_eq!((delivered.to, delivered.quarantined), (Position(60), 0));
    assert!(pages.into_inner() > 3, "one page would have been 54 MB");
    stage.assert_told_once_and_in_order(60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_between_putting_aside_and_telling_does_not_make_another_record_be_skipped() {
    let stage = Stage::new(1, 2).await;
    let options = json!({"id_sync": [{"id": "partition", "strategy": "all"}]});
    sqlx::query("update definitions set options = $1").bind(options).execute(stage.pool()).await.unwrap();
    let identified = async |partition: &str, at: &str| {
        let sql =
            "insert into identifiers (type, value, profile_id, added_at) values ('partition', $1, 1, $2::timestamptz)";
        sqlx::query(sql).bind(partition).bind(at).execute(stage.pool()).await.unwrap();
    };
    identified("0", "2024-01-02").await;
    identified("none", "2024-01-03").await;
    stage.seal([1], []).await;
    assert!(!crash::deliver(&stage, "after_quarantine:abort").0.success());
    assert_eq!(put_aside(&stage).await.len(), 1);
    // As a merge does: the person has another, older identifier, which comes first among the identities.
    identified("1", "2024-01-01").await;
    let (status, log) = crash::deliver(&stage, "");
    assert!(status.success(), "{log}");
    let told = kafka::read_committed(&stage.broker, &stage.topic);
    assert_eq!(told.iter().map(|record| record.partition).collect::<Vec<_>>(), [0, 1], "each that can be told is told");
    assert_eq!(put_aside(&stage).await.len(), 1, "what was put aside stays that");
}
