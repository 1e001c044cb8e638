//! Records that a broker refuses, and a delivery killed while it looks for them: each is put aside once, its neighbours are told once.

use rollcall::fault::Point;
use serde_json::json;

use super::{Stage, crash::deliver, quarantine::noise};
use crate::support::kafka;

/// Where a delivery dies that looks for a refused record, and which time it gets there.
pub const DEATHS: [(Point, u32); 2] = [(Point::AfterRefused, 1), (Point::AfterProbe, 1)];

/// Thirty profiles, two of which have records that the topic does not take; the second is told under two names.
async fn stage() -> Stage {
    let mut stage = Stage::new(30, 2).await;
    stage.topic = kafka::unique("small");
    kafka::create_topic(&stage.broker, &stage.topic, 2, &[("max.message.bytes", "2000")]);
    let options = json!({"include_traits": ["pad", "partition"], "id_sync": [{"id": "user_id", "strategy": "all"}]});
    sqlx::query("update definitions set options = $1").bind(options).execute(stage.pool()).await.unwrap();
    stage.give(1..=30, json!({"partition": 0})).await;
    stage.give([7, 23], json!({"pad": noise(400)})).await;
    let second =
        "insert into identifiers (type, value, profile_id, added_at) values ('user_id', 'v23', 23, '2024-01-02')";
    sqlx::query(second).execute(stage.pool()).await.unwrap();
    stage.seal(1..=30, []).await;
    stage
}

/// Row 12: killed during the bisect that finds a refused record, and after its row is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_killed_while_it_looks_for_a_refused_record_puts_it_aside_once_and_tells_its_neighbours_once() {
    let later = [(Point::AfterRefused, 3), (Point::AfterRefused, 6), (Point::AfterProbe, 2)];
    let rows = [(Point::AfterQuarantine, 1), (Point::AfterQuarantine, 2)];
    for (point, nth) in DEATHS.into_iter().chain(later).chain(rows) {
        let stage = stage().await;
        let (status, log) = deliver(&stage, &format!("{}@{nth}:abort", point.name()));
        assert!(!status.success(), "{point:?}@{nth} is not reached: {log}");
        let (status, log) = deliver(&stage, "");
        assert!(status.success(), "after {point:?}@{nth}: {log}");
        let told = kafka::read_committed(&stage.broker, &stage.topic);
        let told: Vec<i64> =
            told.iter().map(|record| record.header("rollcall-position").unwrap().parse().unwrap()).collect();
        let expected: Vec<i64> = (0..30).filter(|position| ![6, 22].contains(position)).collect();
        assert_eq!(told, expected, "after {point:?}@{nth}");
        let aside: Vec<i64> = sqlx::query_scalar("select position from quarantine order by position")
            .fetch_all(stage.pool())
            .await
            .unwrap();
        assert_eq!(aside, [6, 22, 22], "after {point:?}@{nth}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_to_a_topic_is_told_to_by_a_session_that_knew_the_topic_without_it() {
    let stage = Stage::new(9, 2).await;
    stage.give(1..=9, json!({"partition": 1})).await;
    stage.give([5], json!({"partition": 2})).await;
    stage.give([9], json!({"partition": 7})).await;
    let placed = super::with(super::fields(&stage.topic), "partition", json!({"@path": "$.traits.partition"}));
    let target = stage.target_with(vec![super::mapping("placed", &placed)]);
    let mut session = rollcall::deliver::Session::start(stage.pool().clone(), target).await.unwrap();
    stage.seal(1..=4, []).await;
    session.deliver(&|_| true).await.unwrap();
    super::topics::add_partitions(&stage.broker, &stage.topic, 3);
    stage.seal(5..=9, []).await;
    let told = session.deliver(&|_| true).await.unwrap();
    assert_eq!(
        (told.records, told.quarantined),
        (4, 1),
        "only the partition that the topic does not have is put aside"
    );
    let third = kafka::read_committed(&stage.broker, &stage.topic);
    assert_eq!(third.iter().filter(|record| record.partition == 2).count(), 1);
}
