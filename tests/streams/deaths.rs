//! Each record counts once though instances are killed, share the partitions anew, or find no database.

use std::sync::Arc;

use nix::sys::signal::Signal;
use rollcall::{
    clock::Clock,
    config::Start,
    fault::Safeguard,
    profile::{
        Defaults, Message, Refusal,
        streamed::{self, Batch, Held, Partition, Writer},
    },
};

use super::{Stream, order, produce, producer};
use crate::{
    serve::Instance,
    support::{
        faults::{Way, assert_all_named},
        kafka::{self, eventually},
        postgres::Database,
        proxy,
    },
};

/// Orders, and one record in ten that is none: only those would show that something is stored twice, since a message's id is known
/// again.
fn mixed(numbers: std::ops::Range<usize>) -> Vec<Option<Vec<u8>>> {
    numbers.map(|n| Some(if n % 10 == 9 { b"poison".to_vec() } else { order(n).to_string().into_bytes() })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_counts_once_though_the_instance_is_killed_before_or_after_its_commit() {
    let stream = Stream::new(3).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 3, &mixed(0..300));
    let deaths = ["after_batch_read:abort", "before_taken_in:abort", "after_taken_in:abort", "before_taken_in@2:abort"];
    assert_all_named(Way::Stream, &deaths);
    for (nth, fault) in deaths.into_iter().enumerate() {
        let mut instance = stream.serve(fault.split(':').next().unwrap(), fault);
        if fault.contains('2') {
            // The second batch comes after the first one is stored.
            let before = stream.count(super::DEALT_WITH).await;
            produce(&plain, &stream.topic, 3, &mixed(300..310));
            let more = || (kafka::block_on(stream.count(super::DEALT_WITH)) > before).then_some(());
            eventually("the first batch is stored", more);
            produce(&plain, &stream.topic, 3, &mixed(310..400));
        }
        let status = eventually("it dies", || instance.ended());
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(Signal::SIGABRT as i32), "{fault}: {}", instance.log());
        let dealt_with = stream.count(super::DEALT_WITH).await;
        let moved: i64 = stream.progress().await.iter().map(|of| of.next_offset).sum();
        assert_eq!(dealt_with, moved, "after {fault} offsets and records say the same");
        assert_eq!(dealt_with == 0, nth < 2, "after {fault}");
        stream.world.leases_end().await;
    }
    let mut instance = stream.serve("last", "");
    stream.is_taken_in(400).await;
    assert_eq!(stream.count("select count(*) from events").await, 360);
    assert_eq!(stream.count("select sum(messages)::bigint from refusals").await, 40);
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_the_partitions_and_take_over_from_one_another_and_each_record_counts_once() {
    let stream = Stream::new(4).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 4, &mixed(0..200));
    let mut one = stream.serve("one", "");
    one.logs("partitions=4 of=4 instances=1");
    let first = "select holder from leases where name like 'stream:%'";
    let dead: sqlx::types::Uuid = sqlx::query_scalar(first).fetch_one(&stream.world.db.pool).await.unwrap();
    let mut two = stream.serve("two", "");
    produce(&plain, &stream.topic, 4, &mixed(200..400));
    for instance in [&one, &two] {
        instance.logs("partitions=2 of=4 instances=2");
    }
    produce(&plain, &stream.topic, 4, &mixed(400..600));
    stream.is_taken_in(600).await;
    // Killed as it reads: the other one takes its share when its lease has ended.
    produce(&plain, &stream.topic, 4, &mixed(600..700));
    one.signal(Signal::SIGKILL);
    eventually("it is dead", || one.ended());
    produce(&plain, &stream.topic, 4, &mixed(700..800));
    let ended = "update leases set expires_at = clock_timestamp() where holder = $1";
    sqlx::query(ended).bind(dead).execute(&stream.world.db.pool).await.unwrap();
    eventually("the other one takes over", || {
        let log = two.log();
        let last = log.lines().rfind(|line| line.contains("instances=")).unwrap_or_default();
        last.contains("partitions=4 of=4 instances=1").then_some(())
    });
    stream.is_taken_in(800).await;
    assert_eq!(stream.count("select count(*) from events").await, 720);
    two.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_paused_and_overtaken_stores_nothing_when_it_wakes() {
    let stream = Stream::new(1).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 1, &mixed(0..50));
    let mut paused = stream.serve("paused", "after_batch_read:stop");
    paused.wait_until_stopped();
    stream.world.leases_end().await;
    let mut other = stream.serve("other", "");
    stream.is_taken_in(50).await;
    paused.signal(Signal::SIGCONT);
    paused.logs("another instance reads on");
    produce(&plain, &stream.topic, 1, &mixed(50..100));
    stream.is_taken_in(100).await;
    assert_eq!(stream.count("select sum(messages)::bigint from refusals").await, 10);
    paused.ends_cleanly();
    other.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_moving_offsets_only_from_where_they_stand_an_instance_that_wakes_counts_records_again() {
    let stream = Stream::new(1).await;
    produce(&producer(&[]), &stream.topic, 1, &mixed(0..50));
    let paused = stream.serve_without("paused", "after_batch_read:stop", Some(Safeguard::OffsetsFromWhere));
    paused.wait_until_stopped();
    stream.world.leases_end().await;
    let mut other = stream.serve("other", "");
    stream.is_taken_in(50).await;
    paused.signal(Signal::SIGCONT);
    let again = || (kafka::block_on(stream.count(super::DEALT_WITH)) == 55).then_some(());
    eventually("the five refusals are counted twice", again);
    other.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_a_batch_whose_commit_was_unheard_counts_once() {
    let stream = Stream::new(1).await;
    produce(&producer(&[]), &stream.topic, 1, &mixed(0..50));
    let (proxy, url) = proxy::postgres::proxy(&stream.world.db);
    let mut command = stream.world.command(&["serve", "--only", "streams", "-v", "--color", "never"]);
    command.env("DATABASE_URL", url);
    let reply = proxy.lose_reply(&["COMMIT", "update stream_offsets"], 1);
    let mut instance = Instance::run(&stream.world, "one", command);
    reply.wait();
    assert!(stream.count(super::DEALT_WITH).await > 0, "Postgres had acted");
    produce(&producer(&[]), &stream.topic, 1, &mixed(50..100));
    stream.is_taken_in(100).await;
    assert_eq!(stream.count("select sum(messages)::bigint from refusals").await, 10);
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_database_loses_nothing() {
    let stream = Stream::new(2).await;
    let plain = producer(&[]);
    produce(&plain, &stream.topic, 2, &mixed(0..100));
    let mut instance = stream.serve("one", "");
    stream.is_taken_in(100).await;
    let db = &stream.world.db;
    db.let_in(false).await;
    produce(&plain, &stream.topic, 2, &mixed(100..300));
    instance.logs("not read; to be tried again");
    db.let_in(true).await;
    stream.is_taken_in(300).await;
    instance.ends_cleanly();
}

#[tokio::test]
async fn who_has_lost_a_partition_stores_nothing_of_it() {
    let db = Database::fresh().await;
    let partition = Partition { topic: "events".into(), number: 0, topic_id: sqlx::types::Uuid::from_u128(1) };
    let held = [Held { partition: partition.clone(), offsets: 0..10 }];
    let rules = Arc::default();
    let begin = async |held: &[Held]| streamed::begin(&db.pool, "shop", held, Start::Earliest, false).await.unwrap();
    let places = begin(&held).await;
    let places: Vec<_> = places.into_iter().map(|place| (place.partition, place.next_offset)).collect();
    let writer = async || Writer::new(&db.pool, &Clock::system(), "shop", &rules, places.clone()).await.unwrap();
    let defaults =
        Defaults { now: Clock::system().now(), is_arrival: false, place: None, source_id: None, rules: Arc::default() };
    let batch = |end: i64| {
        let refusal = Refusal { line: end as u64 - 1, field: "line", reason: "is no message".into() };
        let message = Message::parse(end as u64 - 2, order(end as usize).to_string().as_bytes(), &defaults).unwrap();
        Batch { messages: vec![message], partitions: vec![0], refused: vec![(0, refusal)], ends: vec![end] }
    };
    let (mut one, mut two) = (writer().await, writer().await);
    let stored = async || sqlx::query_scalar(super::DEALT_WITH).fetch_one(&db.pool).await.map(|n: i64| n).unwrap();
    assert!(one.write(&batch(2)).await.unwrap());
    assert!(!two.write(&batch(2)).await.unwrap(), "the same again");
    assert!(!two.write(&batch(4)).await.unwrap(), "from where it believes to be");
    assert_eq!(stored().await, 2);
    assert!(one.write(&batch(4)).await.unwrap());
    assert_eq!(stored().await, 4);

    // The topic is made anew, and somebody has found out: what was read of the old one is no longer stored.
    let other = Partition { topic_id: sqlx::types::Uuid::from_u128(2), ..partition };
    let places = begin(&[Held { partition: other, offsets: 4..10 }]).await;
    assert_eq!(places[0].next_offset, 4, "at the same offset as the old one stood");
    assert!(!one.write(&batch(6)).await.unwrap());
    assert_eq!(stored().await, 4);
}
