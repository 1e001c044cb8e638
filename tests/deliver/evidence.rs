//! What shows that Postgres or Kafka went back, where one of them alone would not know.

use rdkafka::{
    TopicPartitionList,
    admin::{AdminOptions, AlterConfig, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer as _},
};
use rollcall::{
    config::Delivery,
    deliver::{Delivered, Session, Target},
    ids::Position,
};

use super::{Stage, halts::assert_halted};
use crate::support::kafka;

async fn deliver(stage: &Stage) -> rollcall::Result<Delivered> {
    let target = Target { delivery: Delivery::AtLeastOnce, ..stage.target() };
    Session::start(stage.pool().clone(), target).await.unwrap().deliver(&|_| true).await
}

/// As a backup does that was made before the second run was sealed.
async fn restore(stage: &Stage) {
    sqlx::raw_sql(
        "delete from deltas where from_position = 5;
         update destinations set next_position = 5, chain = (select chain from deltas);
         update deliveries set cursor_position = 5",
    )
    .execute(stage.pool())
    .await
    .unwrap();
}

/// Row 25 without transactions: the mirror went back with the log, and the cursor topic has not.
#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_a_restored_database_halts_whether_or_not_it_went_on_otherwise() {
    for went_on in [false, true] {
        let stage = Stage::new(20, 1).await;
        stage.seal(1..=5, []).await;
        assert_eq!(deliver(&stage).await.unwrap().records, 5);
        stage.seal(6..=10, []).await;
        assert_eq!(deliver(&stage).await.unwrap().from, Position(5));
        restore(&stage).await;
        if went_on {
            stage.seal(11..=18, []).await;
        }
        let error = deliver(&stage).await.unwrap_err();
        assert_halted(&stage, &error, if went_on { "chain_differs" } else { "cursor_ahead" }).await;
        assert_eq!(kafka::read_uncommitted(&stage.broker, &stage.topic).len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_what_was_sent_and_not_mirrored_is_told_again() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=5, []).await;
    deliver(&stage).await.unwrap();
    stage.seal(6..=9, []).await;
    deliver(&stage).await.unwrap();
    sqlx::query("update deliveries set cursor_position = 5").execute(stage.pool()).await.unwrap();
    let again = deliver(&stage).await.unwrap();
    assert_eq!((again.from, again.records), (Position(5), 4));
}

/// Empties the cursor topic, which its policy has to allow for a while.
fn empty_cursors(stage: &Stage) {
    let (topic, admin, options) = (&*stage.cursor_topic, kafka::admin(&stage.broker), AdminOptions::new());
    let policy = |policy: &str| {
        let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", policy);
        kafka::block_on(admin.alter_configs([&alter], &options)).unwrap().remove(0).unwrap();
    };
    policy("delete");
    let client: BaseConsumer = kafka::config(&stage.broker).set("group.id", "test").create().unwrap();
    kafka::eventually("the topic is empty", || {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, rdkafka::Offset::End).unwrap();
        kafka::block_on(admin.delete_records(&offsets, &options)).unwrap();
        let (start, end) = client.fetch_watermarks(topic, 0, kafka::PATIENCE).unwrap();
        (start == end && end > 0).then_some(())
    });
    policy("compact");
}

/// The first transaction's mirror is lost with Postgres' last moments, and the cursor topic is emptied.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_topic_emptied_before_the_first_mirror_halts_instead_of_telling_again() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=5, []).await;
    stage.deliver().await.unwrap();
    sqlx::query("update deliveries set cursor_position = 0").execute(stage.pool()).await.unwrap();
    empty_cursors(&stage);
    let error = stage.deliver().await.unwrap_err();
    assert_halted(&stage, &error, "cursor_lost").await;
    stage.assert_told_once_and_in_order(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_in_a_cursor_topic_that_others_emptied_is_told() {
    let first = Stage::new(9, 1).await;
    first.seal(1..=5, []).await;
    first.deliver().await.unwrap();
    empty_cursors(&first);
    let mut second = Stage::new(9, 1).await;
    second.cursor_topic = first.cursor_topic.clone();
    second.seal(1..=3, []).await;
    assert_eq!(second.deliver().await.unwrap().records, 3);
}
