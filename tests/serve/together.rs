//! One-shot `rollcall sync` beside running instances: they take turns, and nobody fences anybody.

use nix::sys::signal::Signal;

use super::{BUYERS, Instance, buy, told, users};
use crate::sync::World;

const BY_HAND: &str = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}";

#[tokio::test(flavor = "multi_thread")]
async fn sync_waits_until_the_instance_that_has_the_destination_has_told_what_it_sealed() {
    let world = World::new(BY_HAND).await;
    let mut instance = Instance::start(&world, "one", "");
    instance.logs("serving");
    for n in 0..4 {
        buy(&world, n..n + 1);
        let report = world.json(&["sync"]);
        assert_eq!(report["runs"][0]["entered"], 1);
        let told = &report["deliveries"][0]["told"];
        assert!(told["to"].as_i64() > Some(n as i64), "when it ends, it is told: {report}");
        assert_eq!(world.fold()["buyers"], users(0..n + 1));
        // The first may have come before the instance had the destination.
        assert!(n == 0 || told["by_another"] == true, "{report}");
    }
    assert!(!instance.log().contains("taken over"), "nobody is fenced:\n{}", instance.log());
    instance.ends_cleanly();
    buy(&world, 4..5);
    let report = world.json(&["sync"]);
    assert_eq!(report["deliveries"][0]["told"]["by_another"], false, "the lease was given back");
    let leases: i64 = sqlx::query_scalar("select count(*) from leases").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(leases, 0, "nobody need wait for the end of a lease");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_interrupted_gives_its_leases_back_and_another_tells_the_rest() {
    let world = World::new(BY_HAND).await;
    buy(&world, 0..3);
    // It waits for this lock with its lease taken and its run evaluated.
    let mut blocker = world.db.pool.begin().await.unwrap();
    sqlx::query("lock table runs in access exclusive mode").execute(&mut *blocker).await.unwrap();
    let mut sync = world.command(&["sync"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let waits = "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock' and application_name like 'instance:%'";
    loop {
        if sqlx::query_scalar::<_, i64>(waits).fetch_one(&world.db.pool).await.unwrap() > 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sync.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(sync.wait().unwrap().code(), Some(130));
    let leases: i64 = sqlx::query_scalar("select count(*) from leases").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(leases, 0);
    blocker.rollback().await.unwrap();
    world.configure(BUYERS);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..3));
    instance.ends_cleanly();
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_over_gets_the_lease_from_the_instance_that_tells_which_then_tells_the_log_again() {
    let world = World::new(BUYERS).await;
    let mut instance = Instance::start(&world, "one", "");
    buy(&world, 0..3);
    told(&world, &users(0..3));
    let stream = "select stream::text from destinations where lane = 'live'";
    let before: String = sqlx::query_scalar(stream).fetch_one(&world.db.pool).await.unwrap();
    let decided = world.json(&["unhalt", "kafka", "--start-over"]);
    assert!(decided["decided"].as_str().unwrap().contains("begins a new stream"), "{decided}");
    let after: String = sqlx::query_scalar(stream).fetch_one(&world.db.pool).await.unwrap();
    assert_ne!(before, after);
    buy(&world, 3..4);
    crate::support::kafka::eventually("the log is told again", || {
        let records = crate::support::kafka::read_committed(crate::support::kafka::broker(), &world.topic);
        let of = |stream: &str| records.iter().filter(|r| r.header("rollcall-stream") == Some(stream)).count();
        (of(&before) == 3 && of(&after) == 4).then_some(())
    });
    assert!(!instance.log().contains("taken over"), "the lease was given, not taken:\n{}", instance.log());
    instance.ends_cleanly();
}
