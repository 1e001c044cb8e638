//! Topics that are deleted, made again or get partitions while a session lives that told them.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewPartitions};
use rollcall::{
    Kind,
    deliver::{Delivered, Session},
    ids::Position,
    limits,
};

use super::{Stage, halts::assert_halted};
use crate::support::kafka;

/// Adds partitions to a topic, and waits until they can be told to.
pub fn add_partitions(broker: &str, topic: &str, count: usize) {
    let more = NewPartitions::new(topic, count);
    let added = kafka::block_on(kafka::admin(broker).create_partitions([&more], &AdminOptions::new()));
    added.unwrap().remove(0).unwrap();
    let client: rdkafka::consumer::BaseConsumer = kafka::config(broker).create().unwrap();
    use rdkafka::consumer::Consumer as _;
    kafka::eventually("the partitions are there", || {
        let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        (partitions.len() == count && partitions.iter().all(|partition| partition.leader() >= 0)).then_some(())
    });
}

fn make_again(stage: &Stage, topic: &str, policy: &str) {
    kafka::delete_topic(&stage.broker, topic);
    kafka::create_topic(&stage.broker, topic, 1, &[("cleanup.policy", policy)]);
}

/// A session that has told five changes and lives on.
async fn living() -> (Stage, Session) {
    let stage = Stage::new(20, 1).await;
    stage.seal(1..=5, []).await;
    let mut session = stage.session().await;
    session.deliver(&|_| true).await.unwrap();
    (stage, session)
}

/// Goes on with nothing to tell until so much time has passed.
async fn idle(session: &mut Session, ms: u64) {
    let until = Instant::now() + Duration::from_millis(ms);
    while Instant::now() < until {
        session.deliver(&|_| true).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// Row 37: the topic is made again under a living session.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_under_a_living_session_is_told_nothing() {
    let (stage, mut session) = living().await;
    make_again(&stage, &stage.topic, "delete");
    idle(&mut session, limits::TOPICS_TELLING_MS).await;
    stage.seal(6..=10, []).await;
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_halted(&stage, &error, "topic_recreated").await;
    assert_eq!(kafka::read_uncommitted(&stage.broker, &stage.topic).len(), 0, "nothing is sent on a guess");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_is_noticed_while_there_is_nothing_to_tell() {
    let (stage, mut session) = living().await;
    make_again(&stage, &stage.topic, "delete");
    let deadline = Instant::now() + Duration::from_millis(limits::TOPICS_IDLE_MS) + kafka::PATIENCE;
    let error = loop {
        match session.deliver(&|_| true).await {
            Ok(told) => assert_eq!(told.records, 0),
            Err(error) => break error,
        }
        assert!(Instant::now() < deadline, "nobody noticed");
        tokio::task::yield_now().await;
    };
    assert_halted(&stage, &error, "topic_recreated").await;
}

/// Row 37: the topic is missing under a living session, and comes back empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_under_a_living_session_is_named_and_halts_once_it_is_made_again() {
    let (stage, mut session) = living().await;
    kafka::delete_topic(&stage.broker, &stage.topic);
    idle(&mut session, limits::TOPICS_TELLING_MS).await;
    stage.seal(6..=10, []).await;
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_eq!(error.kind, Kind::Settings, "{error}");
    assert!(error.message.contains("there is no such topic") && error.message.contains(&stage.topic), "{error}");
    kafka::create_topic(&stage.broker, &stage.topic, 1, &[]);
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_halted(&stage, &error, "topic_recreated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_topic_deleted_or_made_again_under_a_living_session_halts() {
    for again in [false, true] {
        let (stage, mut session) = living().await;
        match again {
            true => make_again(&stage, &stage.cursor_topic, "compact"),
            false => kafka::delete_topic(&stage.broker, &stage.cursor_topic),
        }
        idle(&mut session, limits::TOPICS_TELLING_MS).await;
        stage.seal(6..=10, []).await;
        let error = session.deliver(&|_| true).await.unwrap_err();
        assert_halted(&stage, &error, "cursor_lost").await;
        assert_eq!(kafka::read_uncommitted(&stage.broker, &stage.topic).len(), 5);
    }
}

/// Row 38: partitions are added between the transactions of one run.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_in_mid_run_lose_nothing_and_keep_the_order_within_each_partition() {
    let stage = Stage::new(3_000, 2).await;
    stage.seal(1..=3_000, []).await;
    let mut target = stage.target();
    target.page_changes = 300;
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    let added = std::sync::Once::new();
    let add = |told: &Delivered| {
        if told.records >= 900 {
            added.call_once(|| add_partitions(&stage.broker, &stage.topic, 5));
        }
        true
    };
    assert_eq!(session.deliver(&add).await.unwrap().to, Position(3_000));
    stage.seal([], 1..=3_000).await;
    // Another instance sees the new partitions from the start.
    assert_eq!(stage.deliver().await.unwrap().to, Position(6_000));
    stage.assert_told_once_and_in_order(6_000);
    let told = kafka::read_committed(&stage.broker, &stage.topic);
    assert!(told.iter().any(|record| record.partition == 4), "the new partitions are told to");
}
