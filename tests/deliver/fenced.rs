//! Transactions that a producer may not end any more: because another instance took over, or because they took too long.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rollcall::{Kind, deliver::Session, ids::Position};
use serde_json::json;

use super::{
    Stage,
    crash::{Settings, go_on, output, start, wait_until_stopped},
};
use crate::support::kafka;

const TRANSACTION_MS: &str = "1500";

async fn stage() -> Stage {
    let stage = Stage::new(60, 1).await;
    stage.give(1..=60, json!({"partition": 0})).await;
    stage.seal(1..=60, []).await;
    stage
}

fn settings(fault: &str) -> Settings<'_> {
    let properties = [("transaction.timeout.ms".to_owned(), json!(TRANSACTION_MS))];
    Settings { properties: properties.into_iter().collect(), fault, ..Settings::default() }
}

/// Waits until no transaction is open on the topic any more: the broker has ended what took too long.
fn no_transaction_is_open(stage: &Stage) {
    let end = |level: &str| {
        let mut config = kafka::config(&stage.broker);
        let client: BaseConsumer = config.set("isolation.level", level).set("group.id", "test").create().unwrap();
        client.fetch_watermarks(&stage.topic, 0, kafka::PATIENCE).unwrap().1
    };
    let open = end("read_uncommitted");
    assert!(open > 0, "the transaction has records");
    kafka::eventually("the broker ends the transaction", || (end("read_committed") > open - 1).then_some(()));
}

/// Row 43: stopped for longer than transaction.timeout.ms, while nobody else delivers.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_took_too_long_is_called_that_and_told_again_by_the_same_instance() {
    for point in ["amid_records", "after_drain"] {
        let stage = stage().await;
        let child = start(&stage, &settings(&format!("{point}:stop")));
        wait_until_stopped(&child);
        if point == "after_drain" {
            no_transaction_is_open(&stage);
        } else {
            // Its records are still on their way out, so the broker does not know of it: here time has to pass.
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
            }
        }
        go_on(&child);
        let (status, log) = output(child);
        assert!(status.success(), "{point}: {log}");
        assert!(!log.contains("another instance has taken over"), "there is none: {log}");
        assert!(point != "after_drain" || log.contains("Kafka gave the transaction up"), "{log}");
        stage.assert_told_once_and_in_order(60);
    }
}

/// Row 15: the zombie, stopped for longer than transaction.timeout.ms, and overtaken meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_stopped_beyond_its_transactions_time_and_overtaken_goes_quiet() {
    let stage = stage().await;
    let zombie = start(&stage, &settings("after_drain:stop"));
    wait_until_stopped(&zombie);
    no_transaction_is_open(&stage);
    let (status, log) = output(start(&stage, &settings("")));
    assert!(status.success(), "{log}");
    stage.seal([], 1..=60).await;
    go_on(&zombie);
    let (status, log) = output(zombie);
    assert!(!status.success() && log.contains("another instance has taken over"), "{log}");
    stage.assert_told_once_and_in_order(60);
    assert!(output(start(&stage, &settings(""))).0.success());
    stage.assert_told_once_and_in_order(120);
}

/// Row 17: two instances without a lease fence each other again and again. Slow is fine.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_without_a_lease_fence_each_other_and_tell_each_change_once() {
    let stage = Stage::new(400, 1).await;
    stage.give((5..=400).step_by(50), json!({"partition": "none"})).await;
    stage.seal(1..=400, []).await;
    let fenced = AtomicU32::new(0);
    let deadline = Instant::now() + 3 * kafka::PATIENCE;
    let instance = async || {
        let placed = super::with(super::fields(&stage.topic), "partition", json!({"@path": "$.traits.partition"}));
        let mut target = stage.target_with(vec![super::mapping("placed", &placed)]);
        target.page_changes = 20;
        let mut session = Session::start(stage.pool().clone(), target).await.unwrap();
        loop {
            assert!(Instant::now() < deadline, "they get nowhere");
            match session.deliver(&|_| true).await {
                Ok(told) if told.to == Position(400) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind, Kind::Wait, "{error}");
                    fenced.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    };
    tokio::join!(instance(), instance());
    assert!(fenced.into_inner() > 0, "they never met: the test proves nothing");
    let told = kafka::read_committed(&stage.broker, &stage.topic);
    let told: Vec<i64> =
        told.iter().map(|record| record.header("rollcall-position").unwrap().parse().unwrap()).collect();
    let expected: Vec<i64> = (0..400).filter(|position| position % 50 != 4).collect();
    assert_eq!(told, expected);
    let aside: Vec<i64> =
        sqlx::query_scalar("select position from quarantine order by position").fetch_all(stage.pool()).await.unwrap();
    assert_eq!(aside, (4..400).step_by(50).collect::<Vec<i64>>(), "each is put aside once");
}
