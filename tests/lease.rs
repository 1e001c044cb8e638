//! Leases, against a real Postgres: one holder, growing epochs, trust that ends by itself.

use std::time::{Duration, Instant};

use chrono::DateTime;
use rollcall::{
    clock::Clock,
    lease::{self, Lease},
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::postgres::Database;

const TTL: Duration = Duration::from_secs(10);

fn clock() -> Clock {
    Clock::standing_at(DateTime::UNIX_EPOCH)
}

async fn acquire(pool: &PgPool, holder: u128) -> Option<Lease> {
    lease::acquire(pool, &clock(), "a thing", Uuid::from_u128(holder), TTL).await.unwrap()
}

/// Lets the lease end as if its time had passed.
pub async fn end(pool: &PgPool, name: &str) {
    let ended = sqlx::query("update leases set expires_at = clock_timestamp() where name = $1").bind(name);
    assert_eq!(ended.execute(pool).await.unwrap().rows_affected(), 1);
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_granted_the_lease() {
    let database = Database::fresh().await;
    for round in 0..5 {
        let tasks: Vec<_> = (0..32)
            .map(|holder| {
                let pool = database.pool.clone();
                tokio::spawn(async move { acquire(&pool, holder + 1).await })
            })
            .collect();
        let mut granted = Vec::new();
        for task in tasks {
            granted.extend(task.await.unwrap());
        }
        assert_eq!(granted.len(), 1, "round {round}");
        match round % 2 {
            0 => lease::release(&database.pool, granted.remove(0)).await.unwrap(),
            _ => end(&database.pool, "a thing").await,
        }
    }
}

#[tokio::test]
async fn a_lease_that_ended_goes_to_another_with_a_greater_epoch_and_cannot_be_renewed() {
    let database = Database::fresh().await;
    let mut first = acquire(&database.pool, 1).await.unwrap();
    assert!(lease::renew(&database.pool, &clock(), &mut first).await.unwrap());
    assert_eq!(acquire(&database.pool, 2).await, None);
    end(&database.pool, "a thing").await;
    let mut second = acquire(&database.pool, 2).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert!(!lease::renew(&database.pool, &clock(), &mut first).await.unwrap());
    // What the first gives back is no longer its own.
    lease::release(&database.pool, first).await.unwrap();
    assert!(lease::renew(&database.pool, &clock(), &mut second).await.unwrap());
}

#[tokio::test]
async fn a_lease_that_ended_is_not_renewed_even_if_nobody_took_it() {
    let database = Database::fresh().await;
    let mut lease = acquire(&database.pool, 1).await.unwrap();
    end(&database.pool, "a thing").await;
    assert!(!lease::renew(&database.pool, &clock(), &mut lease).await.unwrap());
    assert!(acquire(&database.pool, 1).await.unwrap().epoch > lease.epoch);
}

#[tokio::test]
async fn epochs_grow_also_after_the_lease_was_given_back_or_swept() {
    let database = Database::fresh().await;
    let first = acquire(&database.pool, 1).await.unwrap();
    let epoch = first.epoch;
    lease::release(&database.pool, first).await.unwrap();
    let second = acquire(&database.pool, 2).await.unwrap();
    assert!(second.epoch > epoch);
    assert_eq!(lease::sweep(&database.pool).await.unwrap(), 0);
    sqlx::query("update leases set expires_at = now() - interval '25 hours'").execute(&database.pool).await.unwrap();
    assert_eq!(lease::sweep(&database.pool).await.unwrap(), 1);
    assert!(acquire(&database.pool, 3).await.unwrap().epoch > second.epoch);
}

#[tokio::test]
async fn trust_ends_before_the_lease_does_and_is_renewed_with_it() {
    let database = Database::fresh().await;
    let clock = clock();
    let acquired = lease::acquire(&database.pool, &clock, "a thing", Uuid::from_u128(1), TTL).await.unwrap();
    let mut lease = acquired.unwrap();
    clock.advance(TTL - TTL / 10 - Duration::from_millis(1));
    assert!(lease.is_trusted(&clock));
    clock.advance(Duration::from_millis(1));
    assert!(!lease.is_trusted(&clock), "a tenth of the time to live is not trusted");
    assert_eq!(lease.trusted_for(&clock), Duration::ZERO);
    assert!(lease::renew(&database.pool, &clock, &mut lease).await.unwrap());
    assert_eq!(lease.trusted_for(&clock), TTL - TTL / 10);
}

#[tokio::test]
async fn trust_counts_from_before_the_question_however_long_the_answer_takes() {
    let database = Database::fresh().await;
    let first = acquire(&database.pool, 1).await.unwrap();
    let mut blocker = database.pool.begin().await.unwrap();
    sqlx::query("delete from leases where epoch = $1").bind(first.epoch).execute(&mut *blocker).await.unwrap();
    let clock = clock();
    let asking = tokio::spawn({
        let (pool, clock) = (database.pool.clone(), clock.clone());
        async move { lease::acquire(&pool, &clock, "a thing", Uuid::from_u128(2), TTL).await }
    });
    waits_for_a_lock(&database.pool).await;
    clock.advance(Duration::from_secs(4));
    blocker.commit().await.unwrap();
    let lease = asking.await.unwrap().unwrap().unwrap();
    assert_eq!(lease.trusted_for(&clock), Duration::from_secs(9 - 4));
}

async fn waits_for_a_lock(pool: &PgPool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let waiting = "select exists (select from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(pool).await.unwrap() {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_holder_hears_that_somebody_waits_for_its_lease_until_that_is_long_ago_or_it_is_granted_anew() {
    let database = Database::fresh().await;
    let mut first = acquire(&database.pool, 1).await.unwrap();
    assert!(lease::renew(&database.pool, &clock(), &mut first).await.unwrap() && !first.is_asked());
    lease::ask(&database.pool, "a thing", TTL).await.unwrap();
    assert!(!first.is_asked(), "it hears of it when it renews");
    assert!(lease::renew(&database.pool, &clock(), &mut first).await.unwrap() && first.is_asked());
    lease::ask(&database.pool, "a thing", Duration::ZERO).await.unwrap();
    assert!(lease::renew(&database.pool, &clock(), &mut first).await.unwrap() && !first.is_asked());
    lease::ask(&database.pool, "a thing", TTL).await.unwrap();
    end(&database.pool, "a thing").await;
    let mut second = acquire(&database.pool, 2).await.unwrap();
    assert!(lease::renew(&database.pool, &clock(), &mut second).await.unwrap() && !second.is_asked());
}
