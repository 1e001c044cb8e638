//! Whoever is stopped loses what others wait for, within a bound: what it idles with, and what it was sending.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rollcall::{
    clock::Clock,
    database,
    lease::{Held, Instance as Holder, Leased},
    limits,
};

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    streams::{produce, producer},
    support::{kafka, postgres::Database},
    sync::{World, order},
};

/// A lease, some looks of others for those that have ended, and a slow machine.
const BOUND: Duration = Duration::from_secs(3 * limits::LEASE_SECONDS);

const IDENTITIES: &str = "select pg_advisory_xact_lock(hashtextextended('rollcall.identities', 0))";

/// Sends one message by the tracking API; whether it is stored.
fn is_stored(address: std::net::SocketAddr, n: usize) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = order(&format!("u{n}"), &format!("m{n}"), "2024-05-01T00:00:00Z", 1.0).to_string();
    let sent = agent.post(format!("http://{address}/v1/track")).header("content-type", "application/json").send(body);
    sent.is_ok_and(|answer| answer.status() == 200)
}

/// A world whose messages come by all ways; each way in gives people of its own.
async fn world(more: &str) -> World {
    World::new(&format!("{BUYERS}\ntracking: {{listen: \"127.0.0.1:0\"}}\n{more}")).await
}

/// Runs what takes messages in until it stops, with them written and not committed.
fn stopped(world: &World, args: &[&str], fault: &str) -> Instance {
    let mut command = world.command(args);
    command.env("ROLLCALL_FAULT", fault);
    let stopped = Instance::run(world, "stopped", command);
    stopped.wait_until_stopped();
    stopped
}

/// While somebody is stopped, another instance takes in `u1` by the tracking API, `u2` and `u3` by import and `others` by its other ways,
/// computes and tells them, all within the bound.
fn nobody_is_held_up(world: &World, others: impl IntoIterator<Item = usize>) -> Instance {
    let since = Instant::now();
    let healthy = Instance::start(world, "healthy", "");
    let address = healthy.address("tracking");
    while !is_stored(address, 1) {
        assert!(since.elapsed() < BOUND, "the tracking API stores nothing:\n{}", healthy.log());
    }
    buy(world, 2..4);
    told(world, &users((1..4).chain(others)));
    assert!(since.elapsed() < BOUND, "{:?}:\n{}", since.elapsed(), healthy.log());
    healthy
}

/// Fault row 15, for those who take messages in.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_stopped_as_it_takes_messages_in_holds_up_nobody_for_longer_than_its_lease() {
    let world = world("").await;
    let mut command = world.command(&["serve", "--only", "tracking", "-v", "--color", "never"]);
    command.env("ROLLCALL_FAULT", "before_taken_in:stop");
    let stopped = Instance::run(&world, "stopped", command);
    let address = stopped.address("tracking");
    let sent = std::thread::spawn(move || is_stored(address, 0));
    stopped.wait_until_stopped();

    let _healthy = nobody_is_held_up(&world, []);
    // It finds its session ended, and stores what it took all the same.
    stopped.signal(Signal::SIGCONT);
    sent.join().unwrap();
    kafka::eventually("the message that was on its way is stored", || {
        is_stored(stopped.address("tracking"), 0).then_some(())
    });
    told(&world, &users(0..4));
}

/// Row 15, for an import; given again, it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_stopped_holds_up_nobody_for_longer_than_its_lease() {
    let world = world("").await;
    let file = world.folder.path().join("orders.jsonl");
    fs::write(&file, order("u0", "m0", "2024-05-01T00:00:00Z", 1.0).to_string()).unwrap();
    let import = ["import", file.to_str().unwrap()];
    let mut stopped = stopped(&world, &import, "before_taken_in:stop");

    let _healthy = nobody_is_held_up(&world, []);
    stopped.signal(Signal::SIGCONT);
    assert!(!kafka::eventually("it ends", || stopped.ended()).success(), "its session was ended");
    assert!(world.run(&import).status.success());
    told(&world, &users(0..4));
}

/// Row 15, for a stream: another instance reads what the stopped one has read and not stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_stopped_as_it_takes_a_stream_in_holds_up_nobody_for_longer_than_its_lease() {
    let topic = kafka::topic(kafka::broker(), "events", 1);
    let settings = format!("{{brokers: \"{}\", mechanism: none, ssl_enabled: false}}", kafka::broker());
    let world = world(&format!("streams:\n  shop: {{settings: {settings}, topics: [{topic}]}}")).await;
    let record = |n: usize| {
        Some(order(&format!("u{n}"), &format!("m{n}"), "2024-05-01T00:00:00Z", 1.0).to_string().into_bytes())
    };
    produce(&producer(&[]), &topic, 1, &[record(10), record(11)]);
    let mut stopped =
        stopped(&world, &["serve", "--only", "streams", "-v", "--color", "never"], "before_taken_in:stop");

    let _healthy = nobody_is_held_up(&world, 10..12);
    stopped.signal(Signal::SIGCONT);
    stopped.logs("not read; to be tried again");
    produce(&producer(&[]), &topic, 1, &[record(12)]);
    told(&world, &users((1..4).chain(10..13)));
    stopped.ends_cleanly();
}

/// Row 15, for a pull: another instance pulls the source, and what the stopped one had is stored once.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_stopped_holds_up_nobody_for_longer_than_its_lease() {
    let rows = "select 'u' || n as customer, n as id, '2024-05-01Z'::timestamptz as placed_at, n as at from generate_series(10, 11) n";
    let events = "events: {name: Order Completed, user_id: customer, timestamp: placed_at, message_id: id}";
    let source = format!("{{query: \"{rows}\", {events}, cursor: {{column: at}}, schedule: every 1s}}");
    let world = world(&format!("sources:\n  orders: {source}")).await;
    let mut stopped = stopped(&world, &["pull", "orders"], "before_page:stop");

    let _healthy = nobody_is_held_up(&world, 10..12);
    stopped.signal(Signal::SIGCONT);
    assert!(!kafka::eventually("it ends", || stopped.ended()).success(), "its session was ended");
    let events = sqlx::query_scalar::<_, i64>("select count(*) from events").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(events, 5);
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
