//! Where reading goes on: past what producers took back, in a topic that is another now, and where records are gone.

use std::time::Duration;

use rdkafka::{Offset, TopicPartitionList, admin::AdminOptions, producer::Producer as _};

use super::{Stream, order, orders, produce, producer};
use crate::support::kafka::{self, PATIENCE};

const GAPS: &str = "rollcall_stream_gaps_total";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_took_back_is_not_read_and_leaves_no_lag() {
    let stream = Stream::new(1).await;
    let producer = producer(&[("transactional.id", &stream.topic)]);
    producer.init_transactions(PATIENCE).unwrap();
    let streaming = stream.read().await;
    for (numbers, is_committed) in [(0..3, true), (3..5, false), (5..6, true), (6..9, false)] {
        producer.begin_transaction().unwrap();
        produce(&producer, &stream.topic, 1, &orders(numbers));
        match is_committed {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    stream.is_taken_in(4).await;
    // Nine records and four markers.
    kafka::eventually("the end is passed", || {
        let progress = kafka::block_on(stream.progress());
        (progress[0].next_offset == 13 && progress[0].end_offset == 13).then_some(())
    });
    assert_eq!(stream.count("select count(*) from messages").await, 4);
    streaming.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_deleted_and_made_anew_is_read_from_its_start() {
    let stream = Stream::new(2).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 2, &orders(0..10));
    let streaming = stream.read().await;
    stream.is_taken_in(10).await;
    let before = stream.progress().await;
    kafka::delete_topic(kafka::broker(), &stream.topic);
    kafka::create_topic(kafka::broker(), &stream.topic, 1, &[]);
    // A producer that knew the old topic would write to the partition that is gone.
    produce(&producer(&[]), &stream.topic, 1, &orders(10..13));
    stream.is_taken_in(13).await;
    let progress = stream.progress().await;
    assert_eq!((before.len(), progress.len(), progress[0].next_offset), (2, 1, 3), "the old topic's places are gone");
    assert!(stream.metric(GAPS, "recreated") >= 1.0);
    assert_eq!(stream.metric(GAPS, "out_of_range"), 0.0);
    streaming.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_before_they_were_read_are_told_and_reading_goes_on_at_the_oldest() {
    let stream = Stream::new(1).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 1, &orders(0..10));
    let streaming = stream.read().await;
    stream.is_taken_in(10).await;
    streaming.stop().await;
    produce(&plain, &stream.topic, 1, &orders(10..20));
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&stream.topic, 0, Offset::Offset(15)).unwrap();
    kafka::block_on(kafka::admin(kafka::broker()).delete_records(&before, &AdminOptions::new())).unwrap();

    let streaming = stream.read().await;
    stream.is_taken_in(15).await;
    assert_eq!(stream.metric(GAPS, "out_of_range"), 1.0);
    streaming.stop().await;

    // As after a restore of Postgres beside an older Kafka: the broker must say so itself, and then all that it has is read.
    sqlx::query("update stream_offsets set next_offset = 1000").execute(&stream.world.db.pool).await.unwrap();
    produce(&plain, &stream.topic, 1, &orders(20..21));
    let streaming = stream.read().await;
    let stored = async || stream.count("select count(*) from messages").await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while stored().await < 16 {
        assert!(std::time::Instant::now() < deadline, "{:?}", stream.progress().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stream.metric(GAPS, "out_of_range"), 2.0);
    stream.is_taken_in(16).await;
    assert_eq!(stream.progress().await[0].next_offset, 21);
    streaming.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_starts_at_the_latest_skips_what_was_there_but_nothing_of_a_partition_added_later() {
    let stream = Stream::new(1).await;
    stream.configure(", start: latest");
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 1, &orders(0..5));
    let streaming = stream.read().await;
    kafka::eventually("it reads", || (!kafka::block_on(stream.progress()).is_empty()).then_some(()));
    produce(&plain, &stream.topic, 1, &orders(5..7));
    stream.is_taken_in(2).await;
    let more = rdkafka::admin::NewPartitions::new(&stream.topic, 2);
    kafka::block_on(kafka::admin(kafka::broker()).create_partitions([&more], &AdminOptions::new())).unwrap();
    let value = Some(order(7).to_string().into_bytes());
    let fresh = producer(&[]);
    kafka::eventually("the partition is there", || {
        let record = rdkafka::producer::BaseRecord::<(), [u8]>::to(&stream.topic).partition(1);
        fresh.send(record.payload(value.as_deref().unwrap())).ok()
    });
    fresh.flush(PATIENCE).unwrap();
    kafka::eventually("it is read", || {
        kafka::block_on(stream.progress()).iter().any(|of| of.partition == 1 && of.next_offset >= 1).then_some(())
    });
    stream.is_taken_in(3).await;
    streaming.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_holds_up_no_other_and_is_read_once_it_is_there() {
    let stream = Stream::new(1).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 1, &orders(0..5));
    let streaming = stream.read().await;
    stream.is_taken_in(5).await;
    let later = format!("{}.later", stream.topic);
    kafka::create_topic(kafka::broker(), &later, 1, &[]);
    produce(&plain, &later, 1, &orders(5..8));
    kafka::eventually("it is read", || {
        kafka::block_on(stream.progress()).iter().any(|of| of.topic == later && of.next_offset == 3).then_some(())
    });
    stream.is_taken_in(8).await;
    streaming.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_followed_and_a_disabled_stream_goes_on_where_it_was() {
    let stream = Stream::new(1).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 1, &orders(0..5));
    let mut streaming = stream.read().await;
    stream.is_taken_in(5).await;
    let mut wrong = stream.config();
    let mut settings = serde_json::Map::clone(&wrong.streams[&stream.name].settings);
    settings.insert("mechanism".into(), "carrier-pigeon".into());
    wrong.streams.get_mut(&stream.name).unwrap().settings = settings.into();
    let error = streaming.check(&wrong).unwrap_err();
    assert!(error.message.contains(&format!("stream '{}'", stream.name)), "{error}");

    stream.configure(", enabled: false");
    streaming.check(&stream.config()).unwrap();
    streaming.follow(&stream.config());
    let lease = "select count(*) from leases where name like 'stream:%'";
    kafka::eventually("it is let go", || (kafka::block_on(stream.count(lease)) == 0).then_some(()));
    produce(&plain, &stream.topic, 1, &orders(5..7));
    stream.configure("");
    streaming.follow(&stream.config());
    stream.is_taken_in(7).await;
    streaming.stop().await;
}
