//! A new stream, decided by a person while another session is in the middle of something of the old one.

use std::time::Instant;

use rollcall::{
    Kind,
    config::Delivery,
    deliver::{
        Session,
        claim::Claim,
        quarantine::{self, Quarantined},
        recover::{Halt, Reason},
        unhalt,
    },
    delta::{self, Chain},
    fault::Safeguard,
    ids::{DestinationId, Position, ProfileId, RunId},
};
use serde_json::json;

use super::{
    Stage,
    crash::{Settings, go_on, output, start, wait_until_stopped},
};
use crate::support::kafka;

const DESTINATION: DestinationId = DestinationId(1);

async fn deliver(stage: &Stage, delivery: Delivery) -> rollcall::Result<rollcall::deliver::Delivered> {
    let target = rollcall::deliver::Target { delivery, ..stage.target() };
    Session::start(stage.pool().clone(), target).await.unwrap().deliver(&|_| true).await
}

/// Waits until as many sessions of this database wait for a lock.
async fn waiting(stage: &Stage, count: i64) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let deadline = Instant::now() + kafka::PATIENCE;
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(stage.pool()).await.unwrap() < count {
        assert!(Instant::now() < deadline, "nobody waits");
    }
}

async fn claim(stage: &Stage) -> Claim {
    Claim::take(stage.pool(), DESTINATION, stage.stream().await).await.unwrap().unwrap()
}

/// The mirror finds the row locked, waits, and then has a row of the new stream before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_under_way_while_somebody_starts_over_does_not_move_the_new_stream() {
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let stage = Stage::new(9, 1).await;
        stage.seal(1..=4, []).await;
        assert_eq!(deliver(&stage, delivery).await.unwrap().records, 4);
        let outdated = claim(&stage).await;
        // Stops the new stream in the middle of its transaction.
        let mut held = stage.pool().begin().await.unwrap();
        sqlx::query("lock table quarantine in exclusive mode").execute(&mut *held).await.unwrap();
        let pool = stage.pool().clone();
        let starts_over = tokio::spawn(async move { unhalt::start_over(&pool, DESTINATION).await });
        waiting(&stage, 1).await;
        let pool = stage.pool().clone();
        let mirrors = tokio::spawn(async move { outdated.mirror(&pool, Position(4)).await });
        waiting(&stage, 2).await;
        held.commit().await.unwrap();
        starts_over.await.unwrap().unwrap();
        assert!(!mirrors.await.unwrap().unwrap(), "it hears that the stream is another one");
        assert_eq!(stage.mirror().await, 0);
        let again = deliver(&stage, delivery).await.unwrap();
        assert_eq!((again.from, again.records), (Position(0), 4), "{delivery:?}: what was promised is told again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_overtaken_writes_nothing_of_what_it_found() {
    let stage = Stage::new(9, 1).await;
    stage.seal(1..=4, []).await;
    let outdated = claim(&stage).await;
    let rows = [Quarantined {
        position: Position(2),
        identity: 7,
        mapping: "everything".into(),
        run: RunId(1),
        profile: ProfileId(3),
        reason: "too_large".into(),
        detail: String::new(),
    }];
    let state = async || -> (String, i64) {
        sqlx::query_as("select state, (select count(*) from quarantine) from deliveries")
            .fetch_one(stage.pool())
            .await
            .unwrap()
    };
    let halt = Halt::new(Reason::CursorLost, "a test");
    let (end, chain) = (Position(4), delta::chain_at(stage.pool(), DESTINATION, Position(4)).await.unwrap().unwrap());
    for started_over in [false, true] {
        let current = match started_over {
            false => claim(&stage).await,
            true => {
                unhalt::start_over(stage.pool(), DESTINATION).await.unwrap();
                claim(&stage).await
            }
        };
        assert!(quarantine::store(stage.pool(), &outdated, (end, &chain), &rows).await.is_err());
        let error = outdated.halted(stage.pool(), "destination 'kafka'", &halt).await;
        assert!(error.message.contains("another instance has taken over"), "{error}");
        assert_eq!(state().await, ("live".to_owned(), 0));
        // A page that was made before the database went back says nothing of the log as it is now.
        let other = Chain(vec![7]);
        let error = quarantine::store(stage.pool(), &current, (end, &other), &rows).await.unwrap_err();
        assert_eq!((error.kind, state().await.1), (Kind::Wait, 0), "{error}");
        current.halted(stage.pool(), "destination 'kafka'", &halt).await;
        outdated.live(stage.pool()).await.unwrap();
        assert_eq!(state().await.0, "halted", "what the latest found stands");
        assert!(!outdated.holds(stage.pool()).await.unwrap() && current.holds(stage.pool()).await.unwrap());
    }
}

/// The zombie of an old stream: its transaction has begun, or only its commit is missing. The latter also holds up whoever reads the
/// cursor topic, which it has a record in, until the brokers give it up.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_stopped_before_its_commit_tells_nothing_more_once_a_new_stream_is_told() {
    for (fault, without) in
        [("after_begin:stop", None), ("after_drain:stop", None), ("after_begin:stop", Some(Safeguard::RetiredFenced))]
    {
        let stage = Stage::new(60, 1).await;
        stage.give(1..=60, json!({"partition": 0})).await;
        stage.seal(1..=60, []).await;
        let old = stage.stream().await.to_string();
        let zombie = start(&stage, &Settings { fault, ..Settings::default() });
        wait_until_stopped(&zombie);
        unhalt::start_over(stage.pool(), DESTINATION).await.unwrap();
        let (status, log) = output(start(&stage, &Settings { without, ..Settings::default() }));
        assert!(status.success(), "{log}");
        go_on(&zombie);
        let (status, log) = output(zombie);
        assert!(!status.success() && log.contains("another instance has taken over"), "{log}");
        let told = kafka::read_committed(&stage.broker, &stage.topic);
        let late = told.iter().filter(|record| record.header("rollcall-stream") == Some(&old)).count();
        if without.is_some() {
            assert!(late > 0, "without the safeguard an old page comes after the new stream");
            continue;
        }
        assert_eq!(late, 0);
        stage.assert_told_once_and_in_order(60);
        let retired = sqlx::query_scalar("select count(*) from retired_streams");
        let retired: i64 = retired.fetch_one(stage.pool()).await.unwrap();
        assert_eq!(retired, 0, "it is fenced once");
    }
}
