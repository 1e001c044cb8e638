//! Firing, against a real Postgres: each tick once, whatever clocks and instances do.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::{
    clock::Clock,
    ids::AudienceId,
    lease::{self, Lease},
    runs::fire::{fail, finish, fire, last},
    schedule::{Candidate, Firing, Last, Schedule, State, due},
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{lease::end, support::postgres::Database};

async fn audience(pool: &PgPool, key: &str) -> AudienceId {
    let insert = "insert into audiences (key, name, computation_id) values ($1, $1, $1) returning id";
    sqlx::query_scalar(insert).bind(key).fetch_one(pool).await.unwrap()
}

async fn instance(pool: &PgPool, number: u128) -> Lease {
    let (clock, holder) = (Clock::system(), Uuid::from_u128(number));
    let name = format!("instance:{holder}");
    lease::acquire(pool, &clock, &name, holder, Duration::from_secs(50)).await.unwrap().unwrap()
}

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

async fn state(pool: &PgPool) -> State {
    last(pool).await.unwrap()[0].1.state
}

#[tokio::test]
async fn of_many_instances_one_fires_the_tick() {
    let database = Database::fresh().await;
    let audience = audience(&database.pool, "big_spenders").await;
    for attempt in 1..=5 {
        let tasks: Vec<_> = (0..24)
            .map(|number| {
                let pool = database.pool.clone();
                tokio::spawn(async move {
                    let lease = instance(&pool, number + 1).await;
                    let firing = Firing { audience, scheduled_for: noon(), attempt };
                    fire(&pool, &firing, &lease).await.unwrap().then_some((firing, lease))
                })
            })
            .collect();
        let mut fired = Vec::new();
        for task in tasks {
            fired.extend(task.await.unwrap());
        }
        assert_eq!(fired.len(), 1);
        let (firing, lease) = &fired[0];
        assert_eq!(state(&database.pool).await, State::Running);
        assert!(fail(&database.pool, firing, lease, noon(), "a test").await.unwrap());
    }
}

#[tokio::test]
async fn a_tick_that_is_done_never_fires_again_nor_does_an_earlier_one() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (audience, lease) = (audience(pool, "big_spenders").await, instance(pool, 1).await);
    let firing = Firing { audience, scheduled_for: noon(), attempt: 1 };
    assert!(fire(pool, &firing, &lease).await.unwrap());
    let later = Firing { scheduled_for: noon() + TimeDelta::hours(1), ..firing };
    assert!(!fire(pool, &later, &lease).await.unwrap(), "it is running");
    assert!(finish(pool, &firing, &lease).await.unwrap());
    assert!(!finish(pool, &firing, &lease).await.unwrap(), "it is finished");
    for (scheduled_for, attempt) in [(noon(), 1), (noon(), 2), (noon() - TimeDelta::hours(1), 9)] {
        assert!(!fire(pool, &Firing { audience, scheduled_for, attempt }, &lease).await.unwrap());
    }
    assert!(fire(pool, &later, &lease).await.unwrap());
}

#[tokio::test]
async fn an_instance_that_was_taken_over_can_neither_finish_nor_fail_the_run() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let audience = audience(pool, "big_spenders").await;
    let (stopped, other) = (instance(pool, 1).await, instance(pool, 2).await);
    let firing = Firing { audience, scheduled_for: noon(), attempt: 1 };
    assert!(fire(pool, &firing, &stopped).await.unwrap());
    let again = Firing { attempt: 2, ..firing };
    assert!(!fire(pool, &again, &other).await.unwrap(), "its instance lives");
    end(pool, &stopped.name).await;
    assert_eq!(state(pool).await, State::Abandoned);
    assert!(fire(pool, &again, &other).await.unwrap());
    // The first one wakes up, and has its lease again.
    let woken = instance(pool, 1).await;
    assert!(woken.epoch > stopped.epoch);
    assert!(!finish(pool, &firing, &woken).await.unwrap());
    assert!(!fail(pool, &firing, &woken, noon(), "late").await.unwrap());
    assert!(finish(pool, &again, &other).await.unwrap());
    assert_eq!(state(pool).await, State::Done);
}

#[tokio::test]
async fn a_run_is_done_only_if_what_it_sealed_is_committed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (audience, lease) = (audience(pool, "big_spenders").await, instance(pool, 1).await);
    let firing = Firing { audience, scheduled_for: noon(), attempt: 1 };
    assert!(fire(pool, &firing, &lease).await.unwrap());
    let mut seal = pool.begin().await.unwrap();
    assert!(finish(&mut *seal, &firing, &lease).await.unwrap());
    seal.rollback().await.unwrap();
    assert_eq!(state(pool).await, State::Running);
}

#[tokio::test]
async fn a_failure_is_kept_with_its_time_and_reason_until_the_next_try() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let (audience, lease) = (audience(pool, "big_spenders").await, instance(pool, 1).await);
    let firing = Firing { audience, scheduled_for: noon(), attempt: 1 };
    let retry_at = noon() + TimeDelta::seconds(10);
    assert!(fire(pool, &firing, &lease).await.unwrap());
    assert!(fail(pool, &firing, &lease, retry_at, "the definition is wrong").await.unwrap());
    let failed = Last { scheduled_for: noon(), attempt: 1, state: State::Failed { retry_at } };
    assert_eq!(last(pool).await.unwrap(), [(audience, failed)]);
    let reason = "select reason from schedules";
    assert_eq!(sqlx::query_scalar::<_, String>(reason).fetch_one(pool).await.unwrap(), "the definition is wrong");
    assert!(fire(pool, &Firing { attempt: 2, ..firing }, &lease).await.unwrap());
    assert_eq!(sqlx::query_scalar::<_, Option<String>>(reason).fetch_one(pool).await.unwrap(), None);
}

#[tokio::test]
async fn each_tick_fires_once_while_five_clocks_step_forwards_and_backwards() {
    let database = Database::fresh().await;
    let mut audiences = Vec::new();
    for (key, text) in [
        ("quarters", "every 15m"),
        ("hours", "@hourly"),
        ("mornings", "CRON_TZ=Europe/Berlin 30 2 * * *"),
        ("nights", "CRON_TZ=America/St_Johns 1-59/7 0-3 * * *"),
    ] {
        audiences.push((audience(&database.pool, key).await, Schedule::parse(key, text).unwrap()));
    }
    let audiences = std::sync::Arc::new(audiences);
    let tasks: Vec<_> = (1..=5u128)
        .map(|number| {
            let (pool, audiences) = (database.pool.clone(), audiences.clone());
            tokio::spawn(async move {
                let lease = instance(&pool, number).await;
                // The night of Berlin's clock change, at a pace and with jumps of its own.
                let mut now: DateTime<Utc> = match number % 2 {
                    0 => "2026-03-28T20:00:00Z".parse().unwrap(),
                    _ => "2026-03-28T21:00:00Z".parse().unwrap(),
                };
                let mut fired = Vec::new();
                for step in 0..150i64 {
                    let known: HashMap<_, _> = last(&pool).await.unwrap().into_iter().collect();
                    let candidates = audiences.iter().map(|(audience, schedule)| Candidate {
                        audience: *audience,
                        key: "any",
                        schedule,
                        references: &[],
                        last: known.get(audience).copied(),
                    });
                    for firing in due(candidates, now).now {
                        if fire(&pool, &firing, &lease).await.unwrap() {
                            fired.push((firing.audience, firing.scheduled_for));
                            assert!(finish(&pool, &firing, &lease).await.unwrap());
                        }
                    }
                    let jump = (step * 7919 + number as i64 * 104_729) % 23;
                    now += TimeDelta::minutes(if jump < 16 { jump } else { -4 * (jump - 14) / 3 });
                }
                (fired, now)
            })
        })
        .collect();
    let mut fired = HashMap::<_, u32>::new();
    for task in tasks {
        let (by_one, end) = task.await.unwrap();
        assert!(end > "2026-03-29T03:00:00Z".parse::<DateTime<Utc>>().unwrap(), "{end}: over the clock change");
        by_one.into_iter().for_each(|tick| *fired.entry(tick).or_default() += 1);
    }
    assert!(fired.len() > 40, "only {} ticks", fired.len());
    for ((audience, at), count) in fired {
        assert_eq!(count, 1, "{audience} {at}");
        let (_, schedule) = audiences.iter().find(|(id, _)| *id == audience).unwrap();
        assert_eq!(schedule.last_at_or_before(at).unwrap().at, at, "{schedule}: {at} is a tick of it");
    }
}
