//! A seal's session idles while others work on what it waits for, and while we compute: nobody ends it for that.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rollcall::limits;
use serde_json::json;

use crate::{
    serve::Instance,
    support::{
        kafka::{self, eventually},
        postgres::Database,
    },
    sync::{World, order},
};

/// Longer than a session may idle in any other transaction.
const LONG: u64 = limits::LEASE_SECONDS + 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_elsewhere_that_takes_longer_than_a_lease_fails_nobody() {
    let (world, billing) = (World::new("").await, Database::bare().await);
    let (url, slow) = (billing.url(), format!("select 'ann' from pg_sleep({LONG})"));
    world.configure(&format!(
        "
  - {{name: Slow, sql: \"{slow}\", source: billing}}
  - {{name: Buyers, query: \"event('Order Completed').count() >= 1\"}}
sources:
  billing: {{database: {url:?}}}
"
    ));
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    assert_eq!(world.failures(), []);
    let fold = world.fold();
    assert!(fold["slow"].contains("ann") && fold["buyers"].contains("ann"), "{fold:?}");
    let why = world.json(&["explain", "slow", "ann"]);
    assert_eq!(why["member"], json!(true), "nor is who asks about one person cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_computing_amid_a_seal_that_takes_longer_than_a_lease_fails_nobody() {
    let world = World::new("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}").await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0)]);
    // To Postgres a process that computes looks like one that is stopped, where nobody waits for it.
    let mut command = world.command(&["sync", "--color", "never"]);
    command.env("ROLLCALL_FAULT", "before_seal:stop");
    let mut sync = Instance::run(&world, "sync", command);
    sync.wait_until_stopped();
    let idle = format!(
        "select exists (select from pg_stat_activity where datname = current_database() and state = 'idle in transaction'
         and state_change < clock_timestamp() - interval '{LONG} s')"
    );
    let deadline = Instant::now() + kafka::PATIENCE + Duration::from_secs(LONG);
    while !sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(idle.clone())).fetch_one(&world.db.pool).await.unwrap() {
        assert!(Instant::now() < deadline, "its session does not idle for so long");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sync.signal(Signal::SIGCONT);
    let status = eventually("it ends", || sync.ended());
    assert!(status.success(), "{}", sync.log());
    assert!(world.fold()["buyers"].contains("ann"));
}
