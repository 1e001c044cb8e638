//! The end of a transaction that is under way: it comes late, its reply is lost, or the engine dies meanwhile (rows 9, 34 and 35).

use std::process::ExitStatus;

use rollcall::fault::Safeguard;

use super::{
    Stage,
    crash::{Settings, expected, output, positions, stage, start},
};
use crate::support::{
    kafka,
    proxy::{
        Cut, Proxy,
        kafka::{Code, aborting, arrives, proxy},
    },
};

/// By which the coordinator refuses an older producer.
const FENCED: [Code; 2] = [47, 90];

/// Sixty changes in three transactions, told through a proxy; and the broker's own address.
async fn behind_a_proxy() -> (Stage, Proxy, String) {
    let mut stage = stage().await;
    stage.seal(1..=60, []).await;
    let proxy = proxy(&stage.broker);
    let broker = std::mem::replace(&mut stage.broker, proxy.address.clone());
    (stage, proxy, broker)
}

/// Each record is a request of its own, so that a transaction can be met half written.
fn record_by_record() -> serde_json::Map<String, serde_json::Value> {
    [("batch.num.messages".to_owned(), "1".into())].into_iter().collect()
}

/// What came of an end of the first transaction that arrives amid the second one.
struct Late {
    answered: Code,
    delivered: (ExitStatus, String),
    told: Vec<i64>,
    aborts: usize,
}

/// The first EndTxn is held, the connection reset, the engine's own retry passes; once half of the next transaction is written, the
/// held one arrives, changed by `what`.
async fn late(what: fn(&[u8]) -> Vec<u8>, without: Option<Safeguard>) -> Late {
    let (stage, proxy, broker) = behind_a_proxy().await;
    let first_end = proxy.hold(&["EndTxn"], 1);
    let child = start(&stage, &Settings { properties: record_by_record(), without, ..Settings::default() });
    let end = first_end.wait();
    let half = proxy.hold(&["Produce"], 10);
    proxy.cut(Cut::Reset);
    half.wait();
    let answered = arrives(&broker, &what(&end));
    proxy.cut(Cut::Reset);
    let delivered = output(child);
    Late { answered, delivered, told: positions(&stage), aborts: proxy.seen(&["EndTxn abort"]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_35_a_commit_that_arrives_amid_the_next_transaction_is_refused_for_that_is_a_new_producers() {
    let late = late(<[u8]>::to_vec, None).await;
    assert!(FENCED.contains(&late.answered), "{}", late.answered);
    assert!(late.delivered.0.success(), "{}", late.delivered.1);
    assert!(late.told.into_iter().eq(expected(60)));
    assert_eq!(late.aborts, 0, "no producer of ours goes on after it gave a transaction up");
}

/// The engine never sends one. Another client, or a later version, might.
#[tokio::test(flavor = "multi_thread")]
async fn row_35_an_abort_that_arrives_amid_the_next_transaction_is_refused_for_that_is_a_new_producers() {
    let late = late(aborting, None).await;
    assert!(FENCED.contains(&late.answered), "{}", late.answered);
    assert!(late.delivered.0.success(), "{}", late.delivered.1);
    assert!(late.told.into_iter().eq(expected(60)));
}

/// The cursor's end may be written before some of the records, which are in other partitions: then nothing shows that they are missing.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_new_producer_after_doubt_a_late_commit_ends_the_next_transaction_half_written() {
    let late = late(<[u8]>::to_vec, Some(Safeguard::NewProducerAfterDoubt)).await;
    assert_eq!(late.answered, 0, "the broker takes it for the end of the next one");
    let missing: Vec<i64> = expected(40).filter(|position| !late.told.contains(position)).collect();
    assert!(!missing.is_empty() && missing.len() < 18, "{:?}: {}", late.told, late.delivered.1);
    assert!(missing.iter().all(|position| *position >= 20), "{missing:?} are of the second transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_an_engine_that_dies_while_its_commit_is_under_way_tells_all_once_whether_that_arrives_or_not() {
    for arrived in [true, false] {
        let (stage, proxy, broker) = behind_a_proxy().await;
        let commit = proxy.hold(&["EndTxn commit"], 1);
        let mut child = start(&stage, &Settings::default());
        let commit = commit.wait();
        child.kill().unwrap();
        child.wait().unwrap();
        if arrived {
            assert_eq!(arrives(&broker, &commit), 0);
        }
        let (status, log) = output(start(&stage, &Settings::default()));
        assert!(status.success(), "{log}");
        let recovered = if arrived { "delivery recovered position=20" } else { "delivery recovered position=0" };
        assert!(log.contains(recovered), "the cursor says which it was: {log}");
        assert!(positions(&stage).into_iter().eq(expected(60)), "{arrived}: {:?}", positions(&stage));
        let given_up = kafka::read_uncommitted(&broker, &stage.topic).len() - expected(60).count();
        assert_eq!(given_up, if arrived { 0 } else { expected(20).count() }, "told again, and never half");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_34_a_reply_that_is_lost_after_the_broker_acted_repeats_nothing() {
    for lost in ["Produce", "EndTxn commit"] {
        let (stage, proxy, broker) = behind_a_proxy().await;
        let reply = proxy.lose_reply(&[lost], 2);
        let (status, log) = output(start(&stage, &Settings { properties: record_by_record(), ..Settings::default() }));
        reply.wait();
        assert!(status.success(), "{lost}: {log}");
        assert!(positions(&stage).into_iter().eq(expected(60)), "{lost}: {:?}", positions(&stage));
        let stored = kafka::read_uncommitted(&broker, &stage.topic).len();
        assert_eq!(stored, expected(60).count(), "{lost}: the broker knows again what it has stored");
    }
}
