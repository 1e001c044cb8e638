//! Whoever is stopped loses what others wait for, within a bound: what it idles with, and what it was sending.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rollcall::{
    clock::Clock,
    database,
    lease::{Held, Instance as Holder, Leased},
    limits,
};

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::{kafka, postgres::Database},
    sync::World,
};

/// A lease, some looks of others for those that have ended, and a slow machine.
const BOUND: Duration = Duration::from_secs(3 * limits::LEASE_SECONDS);

const IDENTITIES: &str = "select pg_advisory_xact_lock(hashtextextended('rollcall.identities', 0))";

/// Sends one message by the tracking API; whether it is stored.
fn is_stored(address: std::net::SocketAddr, n: usize) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = crate::sync::order(&format!("u{n}"), &format!("m{n}"), "2024-05-01T00:00:00Z", 1.0).to_string();
    let sent = agent.post(format!("http://{address}/v1/track")).header("content-type", "application/json").send(body);
    sent.is_ok_and(|answer| answer.status() == 200)
}

/// Fault row 15, for those who take messages in.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_stopped_as_it_takes_messages_in_holds_up_nobody_for_longer_than_its_lease() {
    let world = World::new(&format!("{BUYERS}\ntracking: {{listen: \"127.0.0.1:0\"}}")).await;
    let mut command = world.command(&["serve", "--only", "tracking", "-v", "--color", "never"]);
    command.env("ROLLCALL_FAULT", "before_taken_in:stop");
    let stopped = Instance::run(&world, "stopped", command);
    let address = stopped.address("tracking");
    let sent = std::thread::spawn(move || is_stored(address, 0));
    stopped.wait_until_stopped();

    let healthy = Instance::start(&world, "healthy", "");
    let since = Instant::now();
    let address = healthy.address("tracking");
    while !is_stored(address, 1) {
        assert!(since.elapsed() < BOUND, "the tracking API stores nothing:\n{}", healthy.log());
    }
    buy(&world, 2..4);
    told(&world, &users(1..4));
    assert!(since.elapsed() < BOUND, "{:?}:\n{}", since.elapsed(), healthy.log());
    // It finds its session ended, and stores what it took all the same.
    stopped.signal(Signal::SIGCONT);
    sent.join().unwrap();
    kafka::eventually("the message that was on its way is stored", || {
        is_stored(stopped.address("tracking"), 0).then_some(())
    });
    told(&world, &users(0..4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_stopped_amid_rows_on_their_way_loses_its_locks_with_its_lease() {
    let db = Database::fresh().await;
    let mut stopped = Leased::open(&db.pool).await.unwrap();
    sqlx::raw_sql("begin").execute(&mut *stopped).await.unwrap();
    sqlx::raw_sql(IDENTITIES).execute(&mut *stopped).await.unwrap();
    // No time limit of Postgres' ends a session that waits for rows to copy.
    let mut copy = stopped.copy_in_raw("copy event_names (name) from stdin").await.unwrap();
    copy.send("half of a l".as_bytes()).await.unwrap();
    sqlx::query("update leases set expires_at = clock_timestamp()").execute(&db.pool).await.unwrap();

    let living = Holder::new(db.pool.clone(), Clock::system()).await.unwrap();
    let _held = Held::acquire(&living, "whatever it works on").await.unwrap().unwrap();
    let mut waiting = database::connect(&db.options()).await.unwrap();
    sqlx::raw_sql(IDENTITIES).execute(&mut waiting).await.expect("the lock, before it is given up");
    assert!(copy.finish().await.is_err(), "its session is gone");
}
