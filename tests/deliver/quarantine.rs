//! Records that can never be delivered: put aside alone, with the reason, once.

use rollcall::{
    deliver::{Mapping, Session},
    ids::Position,
    mapping::{Outcome, Rejection},
};

use super::{Stage, mapping, record};
use crate::support::kafka;

async fn deliver(stage: &Stage, mappings: Vec<Mapping>) -> rollcall::deliver::Delivered {
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
    stage.told().into_iter().map(|(position, ..)| position).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_record_is_put_aside_and_its_neighbours_are_told() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    let strict = |topic: &str| {
        let topic = topic.to_owned();
        mapping("strict", move |text, identify| match identify.user_id {
            Some("u4") => Outcome::Rejected(Rejection { code: "invalid_payload", detail: "no".into() }),
            _ => Outcome::Record(record(&topic, text, identify)),
        })
    };
    let delivered = deliver(&stage, vec![strict(&stage.topic)]).await;
    assert_eq!((delivered.to, delivered.records, delivered.quarantined), (Position(9), 8, 1));
    assert_eq!(put_aside(&stage).await, [(3, "strict".into(), "invalid_payload".into())]);
    assert_eq!(positions(&stage), [0, 1, 2, 4, 5, 6, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_our_own_size_limit_is_put_aside() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    let topic = stage.topic.clone();
    let big = mapping("big", move |text, identify| {
        let mut record = record(&topic, text, identify);
        if identify.user_id == Some("u7") {
            record.value = Some(vec![b' '; 2_000_000]);
        }
        Outcome::Record(record)
    });
    assert_eq!(deliver(&stage, vec![big]).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(6, "big".into(), "too_large".into())]);
    assert_eq!(positions(&stage), [0, 1, 2, 3, 4, 5, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_the_topics_size_limit_is_found_among_a_page_of_others() {
    let mut stage = Stage::new(300, 1).await;
    stage.topic = kafka::unique("small");
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[("max.message.bytes", "200000")]);
    stage.seal(1..=300, []).await;
    let big = |topic: &str| {
        let topic = topic.to_owned();
        mapping("big", move |text, identify| {
            let mut record = record(&topic, text, identify);
            if identify.user_id == Some("u137") {
                // It compresses badly, as the broker measures it compressed.
                let noise: String =
                    (0..40_000u64).map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
                record.value = Some(text.replace("u137", &noise).into_bytes());
            }
            Outcome::Record(record)
        })
    };
    let delivered = deliver(&stage, vec![big(&stage.topic)]).await;
    assert_eq!((delivered.to, delivered.quarantined), (Position(300), 1));
    assert_eq!(put_aside(&stage).await, [(136, "big".into(), "too_large".into())]);
    let expected: Vec<i64> = (0..300).filter(|position| *position != 136).collect();
    assert_eq!(positions(&stage), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_records_of_one_change_only_the_guilty_one_is_put_aside() {
    let mut stage = Stage::new(3, 1).await;
    stage.topic = kafka::unique("small");
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[("max.message.bytes", "2000")]);
    stage.seal(1..=3, []).await;
    let part = |name: &'static str, topic: &str, bytes: usize| {
        let topic = topic.to_owned();
        mapping(name, move |text, identify| {
            let mut record = record(&topic, text, identify);
            if bytes > 0 && identify.user_id == Some("u2") {
                let noise: String =
                    (0..bytes as u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
                record.value = Some(noise.into_bytes());
            }
            Outcome::Record(record)
        })
    };
    let delivered = deliver(&stage, vec![part("small", &stage.topic, 0), part("big", &stage.topic, 400)]).await;
    assert_eq!(delivered.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(1, "big".into(), "too_large".into())]);
    assert_eq!(positions(&stage), [0, 0, 1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_the_topic_does_not_have_is_put_aside() {
    let stage = Stage::new(5, 2).await;
    stage.seal(1..=5, []).await;
    let topic = stage.topic.clone();
    let placed = mapping("placed", move |text, identify| {
        let mut record = record(&topic, text, identify);
        record.partition = Some(if identify.user_id == Some("u2") { 9 } else { 1 });
        Outcome::Record(record)
    });
    assert_eq!(deliver(&stage, vec![placed]).await.quarantined, 1);
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
    let topic = stage.topic.clone();
    let keyless = mapping("keyless", move |text, identify| {
        let mut record = record(&topic, text, identify);
        record.key = record.key.filter(|key| key != "u3");
        Outcome::Record(record)
    });
    assert_eq!(deliver(&stage, vec![keyless]).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(2, "keyless".into(), "refused_by_broker".into())]);
    assert_eq!(positions(&stage), [0, 1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_name_that_none_can_have_is_put_aside() {
    let stage = Stage::new(4, 1).await;
    stage.seal(1..=4, []).await;
    let topic = stage.topic.clone();
    let misnamed = mapping("misnamed", move |text, identify| {
        let bad = identify.user_id == Some("u1");
        Outcome::Record(record(if bad { "no such: name" } else { &topic }, text, identify))
    });
    assert_eq!(deliver(&stage, vec![misnamed]).await.quarantined, 1);
    assert_eq!(put_aside(&stage).await, [(0, "misnamed".into(), "invalid_topic".into())]);
    assert_eq!(positions(&stage), [1, 2, 3]);
}
