//! Those who only look wait for each other, and the work for none of them; and readiness says whether the work goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::DateTime;
use rollcall::{
    clock::Clock,
    config::Config,
    database::{self, Sessions},
    http::{
        Guards, Listener,
        operations::{self, Operations},
        report::{Loaded, Reporter},
    },
    limits,
    telemetry::Heartbeat,
};
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    http::operations::{get, get_with},
    serve::{BUYERS, Instance, buy, told, users},
    support::{kafka::PATIENCE, postgres::Database},
    sync::World,
};

const TOKEN: &str = "a-token-of-some-length";

/// Fault row 22: the pool exhausted by those who ask over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_lock_hold_up_no_sealing_and_no_telling() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let guarded =
        std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:0\"", &format!("127.0.0.1:0\", token: {TOKEN}"));
    std::fs::write(&path, guarded).unwrap();
    buy(&world, 0..2);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..2));
    let links = format!("{}/v1/spaces/spa_test/collections/users/profiles/user_id:u0/links", instance.http());
    assert_eq!(get_with(&links, Some(TOKEN)).await.0, 200);

    let mut holds = world.db.pool.begin().await.unwrap();
    let keep = "set local idle_in_transaction_session_timeout = 0; lock table group_members in access exclusive mode";
    sqlx::raw_sql(keep).execute(&mut *holds).await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = (0..8)
        .map(|_| {
            let (links, ended) = (links.clone(), ended.clone());
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while !ended.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    assert_eq!(get_with(&links, Some(TOKEN)).await.0, 503, "nobody is answered while the lock is held");
                    longest = longest.max(asked.elapsed());
                }
                longest
            })
        })
        .collect();
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let deadline = Instant::now() + PATIENCE;
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&world.db.pool).await.unwrap()
        < i64::from(limits::READ_CONNECTIONS)
    {
        assert!(Instant::now() < deadline, "nobody waits for the lock");
    }
    for n in 2..6 {
        buy(&world, n..n + 1);
        told(&world, &users(0..n + 1));
    }
    assert_eq!(get(&format!("{}/readyz", instance.http())).await.0, 200, "the work goes on");
    ended.store(true, Ordering::Relaxed);
    for one in crowd {
        let longest = one.await.unwrap();
        // A wait for a session, and one for the lock, each within its bound; the rest is for a slow machine.
        assert!(longest < Duration::from_secs(4 * limits::READ_SECONDS), "{longest:?}");
    }
    holds.rollback().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while get_with(&links, Some(TOKEN)).await.0 != 200 {
        assert!(Instant::now() < deadline, "sessions do not come back");
    }
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_ready_when_its_pool_gives_a_session_and_its_ticker_has_just_looked() {
    let db = Database::fresh().await;
    let work = database::pool(db.options(), Sessions::Work, 1);
    let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
    let ticker = Heartbeat::new(clock.clone());
    let (_loaded, in_force) = watch::channel(Arc::new(Loaded { config: Config::default(), at: clock.now() }));
    let reporter = Arc::new(Reporter::new(&work, clock.clone(), in_force, Uuid::nil()));
    let routes = operations::routes(Operations { reporter, ticker: ticker.clone() }, None);
    let listener = Listener::bind("http", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/readyz", listener.address());
    let _running = listener.start(routes, Guards::default());
    let asked = async || {
        // What was found before is no longer told.
        clock.advance(Duration::from_secs(limits::HEALTH_KEPT_SECONDS));
        let (status, text) = get(&url).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        (status, body["sessions"].as_str().unwrap().to_owned(), body["ticker"].as_str().unwrap().to_owned())
    };
    let answer = |status: u16, sessions: &str, ticker: &str| (status, sessions.to_owned(), ticker.to_owned());
    assert_eq!(asked().await, answer(200, "free", "looks"));
    let taken = work.acquire().await.unwrap();
    assert_eq!(asked().await, answer(503, "taken", "looks"));
    drop(taken);
    assert_eq!(asked().await, answer(200, "free", "looks"));
    clock.advance(Duration::from_secs(limits::READY_SILENT_SECONDS));
    assert_eq!(asked().await, answer(503, "free", "silent"));
    ticker.beat();
    assert_eq!(asked().await, answer(200, "free", "looks"));
}
