//! Rows 1, 2 and 4: an instance dies at each point of its way from a lease to the log. Each tick is sealed once, each change told once.

use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;
use rollcall::clock::Clock;

use super::{BUYERS, Instance, buy, count, told, users};
use crate::{
    support::{
        faults::{Way, points},
        kafka::eventually,
    },
    sync::World,
};

const TWICE: &str = "select count(*) from (select from runs where scheduled_for is not null
                      group by audience_id, scheduled_for having count(*) > 1) twice";

#[tokio::test(flavor = "multi_thread")]
async fn each_tick_is_sealed_once_and_each_change_told_once_wherever_instances_die() {
    let seed = Clock::system().now().timestamp();
    println!("seed {seed}");
    let world = World::new(BUYERS).await;
    let mut buyers = 0;
    for (index, point) in points(Way::Serve).into_iter().enumerate() {
        // The first time it gets there, and some later time: of leases, the second is a destination's.
        let later = if point.ends_with("_lease") { 2 } else { 2 + (seed >> index) % 3 };
        for nth in [1, later] {
            buy(&world, buyers..buyers + 1);
            buyers += 1;
            let fault = format!("{point}@{nth}:abort");
            let mut instance = Instance::start(&world, &fault, &fault);
            let status = eventually(&format!("it dies: {fault}"), || instance.ended());
            assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{fault} is not reached: {}", instance.log());
            assert_eq!(count(&world, TWICE).await, 0, "after {fault}");
            world.leases_end().await;
        }
    }
    let half_done = "select count(*) from schedules where state = 'running'";
    println!("left to the next: {}", count(&world, half_done).await);
    let mut last = Instance::start(&world, "last", "");
    told(&world, &users(0..buyers));
    last.ends_cleanly();
    assert_eq!((count(&world, TWICE).await, count(&world, half_done).await), (0, 0));
    world.verified();
}

/// What it evaluated is gone with it: no run tells of it, and the next one does it all.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_amid_an_evaluation_leaves_no_run_and_the_next_one_seals_as_ever() {
    let world = World::new(BUYERS).await;
    buy(&world, 0..3);
    let killed = world.command(&["sync"]).env("ROLLCALL_FAULT", "amid_answer:abort").output().unwrap();
    assert_eq!(killed.status.signal(), Some(Signal::SIGABRT as i32));
    for table in ["select count(*) from runs", "select count(*) from memberships", "select count(*) from deltas"] {
        assert_eq!(count(&world, table).await, 0, "{table}");
    }
    world.leases_end().await;
    assert_eq!(world.json(&["sync"])["runs"][0]["members"], 3);
    told(&world, &users(0..3));
    assert_eq!(count(&world, "select count(*) from runs").await, 1);
}
