//! A session that comes back to a pool is outside of any transaction, whatever was abandoned on it.

use std::time::{Duration, Instant};

use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rollcall::database::{self, Sessions};
use sqlx::PgPool;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{kafka::PATIENCE, postgres::Database, relay::Relay};

const WORKERS: u64 = 4;
const CANCELS: u64 = 250;

/// Begins transactions whose futures are dropped at random moments, and writes without one in between.
async fn cancel_and_write(pool: PgPool, worker: u64) {
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[worker as u8; 32]);
    for n in 0..CANCELS {
        let moment = Duration::from_micros(random.random_range(0..8_000));
        let begun = async {
            // Also as the Profile API begins, whose writes would not be dropped but refused.
            let mut transaction = match n % 2 {
                0 => pool.begin().await.unwrap(),
                _ => pool.begin_with("begin isolation level repeatable read read only").await.unwrap(),
            };
            sqlx::query("select pg_sleep(0.001)").execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
        };
        timeout(moment, begun).await.ok();
        let write = sqlx::query("insert into written values ($1, $2)").bind(worker as i64).bind(n as i64);
        write.execute(&pool).await.expect("a write outside of any transaction");
    }
}

/// Fault row 30: a thousand cancelled `begin()`s.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_transactions_that_are_cancelled_as_they_begin_leave_no_session_inside_of_one() {
    let db = Database::fresh().await;
    sqlx::raw_sql("create table written (worker bigint, n bigint)").execute(&db.pool).await.unwrap();
    // As over a network: a BEGIN is on its way for a while.
    let relay = Relay::start(&db, Duration::from_millis(1)).await;
    let pool = database::pool(relay.options(), Sessions::Work, 4);
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(cancel_and_write(pool.clone(), worker));
    }
    workers.join_all().await;
    let written: i64 = sqlx::query_scalar("select count(*) from written").fetch_one(&db.pool).await.unwrap();
    assert_eq!(written, (WORKERS * CANCELS) as i64, "what was written by itself is stored");
    let deadline = Instant::now() + PATIENCE;
    let inside = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    while sqlx::query_scalar::<_, i64>(inside).fetch_one(&db.pool).await.unwrap() > 0 {
        assert!(Instant::now() < deadline, "a session stays inside of a transaction");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
