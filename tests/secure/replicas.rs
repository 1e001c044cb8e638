//! A cluster of three: leaders and coordinators that die, and replicas that are missing.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rollcall::{Kind, deliver::Session};

use crate::{deliver::Stage, support::cluster::Cluster};

#[tokio::test(flavor = "multi_thread")]
async fn leaders_and_coordinators_may_die_and_replicas_may_be_missing() {
    let cluster = Cluster::start();
    let mut stage = Stage::on(&cluster.address(), 3_000, 1).await;
    stage.topic = cluster.topic("changes", 3, "2");
    let mut target = stage.target();
    target.page_changes = 100;
    let mut session = Session::start(stage.pool().clone(), target).await.expect("a session");

    // Each broker dies once amid a delivery: so each leader and the transaction's coordinator does.
    for (round, broker) in cluster.brokers.iter().enumerate() {
        let from = round as u32 * 1_000 + 1;
        stage.seal(from..from + 1_000, []).await;
        let pages = AtomicUsize::new(0);
        let go_on = |_: &_| {
            if pages.fetch_add(1, Ordering::Relaxed) == 3 {
                broker.kill();
            }
            true
        };
        let begun = Instant::now();
        // What gives up after several doubts in a row goes on when it is next asked.
        while let Err(error) = session.deliver(&go_on).await {
            assert_eq!(error.kind, Kind::Wait, "{error:?}");
            assert!(begun.elapsed() < Duration::from_secs(90), "{error:?}");
        }
        broker.resurrect();
    }
    stage.assert_told_once_and_in_order(3_000);

    // Three replicas must store each record, and one is gone.
    stage.topic = cluster.topic("all-three", 1, "3");
    let mut target = stage.target();
    target.settings.properties.insert("transaction.timeout.ms".into(), "5000".into());
    target.settings.properties.insert("socket.timeout.ms".into(), "4000".into());
    sqlx::query("delete from deltas").execute(stage.pool()).await.expect("forgotten");
    sqlx::query("update destinations set stream = gen_random_uuid(), next_position = 0, chain = ''")
        .execute(stage.pool())
        .await
        .expect("a new stream");
    sqlx::query("delete from deliveries").execute(stage.pool()).await.expect("forgotten");
    stage.seal(1..=10, []).await;
    let mut session = Session::start(stage.pool().clone(), target).await.expect("a session");
    session.deliver(&|_| true).await.expect("all three are there");
    stage.seal(11..=20, []).await;
    cluster.brokers[2].kill();
    let error = session.deliver(&|_| true).await.expect_err("too few replicas");
    assert_eq!(error.kind, Kind::Wait, "{error:?}");
    assert!(error.help.as_deref().unwrap_or_default().contains("min.insync.replicas"), "{error:?}");
    cluster.brokers[2].resurrect();
    session.deliver(&|_| true).await.expect("the same session goes on");
    stage.assert_told_once_and_in_order(20);
}
