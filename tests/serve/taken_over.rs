//! A tick is sealed once, though an instance is stopped after it has fired, taken over and woken up again; and each change is told once,
//! though no lease keeps two from telling it.

use nix::sys::signal::Signal;
use rollcall::{clock::Clock, config, fault::Safeguard, serve::Server};
use sqlx::postgres::PgPoolOptions;

use super::{BUYERS, Instance, buy, count, told, users};
use crate::{
    support::kafka::{self, eventually},
    sync::World,
};

/// Turns are everybody's, so that nothing but the guarded statement keeps two from sealing the same.
const ANYBODY_MAY_SEAL: &str = "create function public.pg_try_advisory_lock(key bigint) returns boolean
                                language sql as $$ select true $$";
const OUT_OF_ORDER: &str = "select count(*) from runs r where exists (
    select from runs b where b.audience_id = r.audience_id and b.id < r.id and b.scheduled_for >= r.scheduled_for)";

/// How many runs are of a tick that had been sealed before.
async fn sealed_again_on_waking(without: Option<Safeguard>) -> i64 {
    let world = World::new(BUYERS).await;
    sqlx::raw_sql(ANYBODY_MAY_SEAL).execute(&world.db.pool).await.unwrap();
    let mut command = world.command(&["serve", "-v", "--color", "never"]);
    command.env("DATABASE_URL", format!("{}&options=-c%20search_path%3Dpublic,pg_catalog", world.db.url()));
    command.env("ROLLCALL_FAULT", "after_fire:stop").env("ROLLCALL_SWITCH_OFF", without.map_or("", Safeguard::name));
    let paused = Instance::run(&world, "paused", command);
    paused.wait_until_stopped();
    world.leases_end().await;

    let options = world.db.options().options([("search_path", "public,pg_catalog")]);
    let pool = PgPoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
    let config = config::load(&world.folder.path().join("rollcall.yaml")).unwrap();
    let other = Server::start(pool, Clock::system(), config).await.unwrap();
    let sealed = || (kafka::block_on(count(&world, "select count(*) from runs")) > 0).then_some(());
    eventually("the other one seals", sealed);
    other.stop().await;

    paused.signal(Signal::SIGCONT);
    paused.logs("sealed");
    count(&world, OUT_OF_ORDER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_guard_of_a_seal_an_instance_that_wakes_seals_what_another_has_sealed() {
    assert_eq!(sealed_again_on_waking(None).await, 0);
    assert_eq!(sealed_again_on_waking(Some(Safeguard::SealOnce)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_without_leases_two_instances_fence_each_other_in_a_loop_and_tell_each_change_once() {
    let world = World::new(BUYERS).await;
    let start = |name: &str| {
        let mut command = world.command(&["serve", "-v", "--color", "never"]);
        command.env("ROLLCALL_SWITCH_OFF", Safeguard::Lease.name());
        Instance::run(&world, name, command)
    };
    let mut instances = [start("one"), start("other")];
    let fenced = |instance: &Instance| instance.log().contains(": another instance has taken over");
    let mut buyers = 0;
    // Both have been fenced, so it goes back and forth.
    while buyers < 6 || !instances.iter().all(fenced) {
        assert!(buyers < 100, "they do not fence each other:\n{}", instances[0].log());
        buy(&world, buyers..buyers + 1);
        buyers += 1;
        // Fails on a change that is told twice.
        told(&world, &users(0..buyers));
    }
    instances.iter_mut().for_each(Instance::ends_cleanly);
}
