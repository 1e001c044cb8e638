//! Brokers that go away, come back, answer late, or say no.

use std::time::{Duration, Instant};

use rollcall::{Kind, deliver::Session, ids::Position};
use serde_json::json;

use super::{
    Stage,
    crash::{Settings, go_on, output, start, wait_until_stopped},
    target, whole_event,
};
use crate::support::kafka::{self, Broker};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_restarted_in_mid_run_costs_nothing_but_time() {
    kafka::count_this_test();
    let broker = Broker::start(&[]);
    let stage = Stage::on(&broker.address, 3_000, 2).await;
    stage.seal(1..=3_000, []).await;
    let mut target = stage.target();
    target.page_changes = 500;
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    let restarted = std::sync::Once::new();
    let first = session
        .deliver(&|told| {
            if told.records >= 1_000 {
                restarted.call_once(|| {
                    broker.kill();
                    broker.resurrect();
                });
            }
            true
        })
        .await;
    // Whether the one call got over it or a later one did: each change is there once.
    if let Err(error) = first {
        assert_eq!(error.kind, Kind::Wait, "{error}");
        session.deliver(&|_| true).await.unwrap();
    }
    stage.assert_told_once_and_in_order(3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_commit_slower_than_the_socket_timeout_the_next_transaction_is_a_new_producers() {
    kafka::count_this_test();
    let broker = Broker::start(&[]);
    let stage = Stage::on(&broker.address, 60, 1).await;
    stage.seal(1..=60, []).await;
    let socket_timeout = Duration::from_millis(1_500);
    let properties = [("socket.timeout.ms".to_owned(), socket_timeout.as_millis().to_string().into())];
    let properties = properties.into_iter().collect();
    let child = start(&stage, &Settings { properties, fault: "after_drain:stop", ..Settings::default() });
    wait_until_stopped(&child);
    broker.freeze();
    go_on(&child);
    // What is tested is lateness itself, so here time has to pass.
    let until = Instant::now() + 2 * socket_timeout;
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
    broker.thaw();
    let (status, log) = output(child);
    let status = if status.success() { status } else { output(start(&stage, &Settings::default())).0 };
    assert!(status.success(), "{log}");
    assert!(log.matches("older instances are fenced").count() > 1, "no new producer after a late commit: {log}");
    let told = kafka::read_committed(&stage.broker, &stage.topic);
    let positions: Vec<&str> = told.iter().map(|record| record.header("rollcall-position").unwrap()).collect();
    let expected: Vec<String> = (0..60).map(|position| position.to_string()).collect();
    assert_eq!(positions, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_streams_open_transaction_does_not_hide_the_cursor() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let stage = Stage::new(20, 1).await;
    stage.seal(1..=3, []).await;
    stage.deliver().await.unwrap();
    // Another destination's transaction is open on the cursor topic while ours commits.
    let mut config = kafka::config(&stage.broker);
    config.set("transactional.id", kafka::unique("other")).set("transaction.timeout.ms", "60000");
    let other: BaseProducer = config.create().unwrap();
    other.init_transactions(kafka::PATIENCE).unwrap();
    other.begin_transaction().unwrap();
    other.send(BaseRecord::to(&stage.cursor_topic).partition(0).key("other").payload("{}")).unwrap();
    while other.in_flight_count() > 0 {
        other.poll(Duration::from_millis(1));
    }
    stage.seal(4..=6, []).await;
    let mut session = stage.session().await;
    let (told, ended) = tokio::join!(
        session.deliver(&|_| true),
        // Ours has to wait for it: it ends when ours has been asking for the end for a while, or at once.
        tokio::task::spawn_blocking(move || other.commit_transaction(kafka::PATIENCE)),
    );
    ended.unwrap().unwrap();
    assert_eq!(told.unwrap().from, Position(3));
    stage.assert_told_once_and_in_order(6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named_and_delivery_goes_on_when_it_is_there() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    let missing = kafka::unique("missing");
    let target = || stage.target_with(vec![whole_event(&missing)]);
    let mut session = Session::start(stage.pool().clone(), target()).await.unwrap();
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_eq!(error.kind, Kind::Settings);
    assert!(error.message.contains(&missing) && error.message.contains("there is no such topic"), "{error}");
    kafka::create_topic(&stage.broker, &missing, 1, &[]);
    assert_eq!(session.deliver(&|_| true).await.unwrap().records, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_said_to_be_away_within_seconds() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    let nowhere = format!("127.0.0.1:{}", kafka::free_port());
    let properties = json!({"socket.timeout.ms": "1000"});
    let target = target(&nowhere, &stage.cursor_topic, vec![whole_event(&stage.topic)], properties);
    let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
    let error = session.deliver(&|_| true).await.unwrap_err();
    assert_eq!(error.kind, Kind::Wait);
    assert!(error.message.contains("KAFKA_CONNECTION_ERROR") && error.message.contains(&nowhere), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_topic_is_made_compacted_and_one_that_deletes_is_refused() {
    use rdkafka::admin::{AdminOptions, ResourceSpecifier};
    let mut stage = Stage::new(9, 1).await;
    stage.seal(1..=9, []).await;
    stage.deliver().await.unwrap();
    let admin = kafka::admin(&stage.broker);
    let asked = [ResourceSpecifier::Topic(&stage.cursor_topic)];
    let described = kafka::block_on(admin.describe_configs(&asked, &AdminOptions::new())).unwrap().remove(0).unwrap();
    assert_eq!(described.get("cleanup.policy").unwrap().value.as_deref(), Some("compact"));

    stage.cursor_topic = kafka::unique("deleting");
    kafka::create_topic(&stage.broker, &stage.cursor_topic, 1, &[("cleanup.policy", "delete")]);
    let error = stage.deliver().await.unwrap_err();
    assert_eq!(error.kind, Kind::Settings);
    assert!(error.message.contains("cleanup.policy=delete"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_far_back_in_a_busy_cursor_topic_is_found() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=3, []).await;
    stage.deliver().await.unwrap();
    let busy: BaseProducer = kafka::config(&stage.broker).create().unwrap();
    for _ in 0..3_000 {
        busy.send(BaseRecord::to(&stage.cursor_topic).partition(0).key("other").payload("{}")).unwrap();
    }
    busy.flush(kafka::PATIENCE).unwrap();
    stage.seal(4..=6, []).await;
    assert_eq!(stage.deliver().await.unwrap().from, Position(3));
}

#[test]
fn a_broker_that_dies_at_its_start_is_told_at_once_with_its_log() {
    kafka::count_this_test();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let begun = Instant::now();
    let panic = std::panic::catch_unwind(|| drop(Broker::start_as(&address, &[], &[], &[]))).unwrap_err();
    let told = panic.downcast_ref::<String>().unwrap();
    assert!(told.contains("does not start") && told.contains("Address already in use"), "{told}");
    assert!(begun.elapsed() < kafka::PATIENCE / 2, "{:?}", begun.elapsed());
}
