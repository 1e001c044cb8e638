//! Who acts in the model? Instances under a lease, who seals, and an operator with his commands.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rollcall::{
    Error, Result,
    deliver::{Session, Target},
    delta::lane::Lane,
    lease::Lease,
};
use uuid::Uuid;

use super::{
    database::head,
    log::{self, AUDIENCES, TOPIC},
    outside::Model,
    steps::Steps,
    world::{Open, Shared, ask, lock, travel},
};

pub const LEASE: Duration = Duration::from_secs(15);

/// An instance: as long as it has the lease it tells both lanes, as `serve` does.
pub async fn instance(world: Shared, holder: usize, target: Target) {
    loop {
        if let Ok(Some((lease, epoch))) = acquire(&world, holder).await {
            tell_both(&world, (holder, epoch), lease, &target).await;
            drop(ask(&world, |world| world.db.now.release(holder, epoch)).await);
        }
        Steps(20).await;
    }
}

async fn acquire(world: &Shared, holder: usize) -> Result<Option<(Lease, i64)>> {
    let started = world.borrow().clock.monotonic();
    let granted = ask(world, |world| world.acquire(holder, LEASE));
    let name = Uuid::from_u128(holder as u128);
    Ok(granted.await?.map(|epoch| (Lease::granted("destination:kafka", name, epoch, started, LEASE), epoch)))
}

async fn tell_both(world: &Shared, (holder, epoch): (usize, i64), lease: Lease, target: &Target) {
    let (lease, ended, clock) = (Mutex::new(lease), AtomicBool::new(false), world.borrow().clock.clone());
    let go_on = || lease.lock().unwrap().is_trusted(&clock) && !ended.load(Ordering::Relaxed);
    let live = async {
        tell(world, Lane::Live, target, &go_on).await;
        ended.store(true, Ordering::Relaxed);
    };
    let bulk = async {
        while go_on() {
            tell(world, Lane::Bulk, target, &go_on).await;
            Steps(5).await;
        }
    };
    let keep = async {
        while go_on() {
            Steps(30).await;
            let started = world.borrow().clock.monotonic();
            let renewed = ask(world, |world| world.renew(holder, epoch, LEASE));
            match renewed.await {
                Ok(Some(false)) => *lease.lock().unwrap() = Lease::granted("", Uuid::nil(), epoch, started, LEASE),
                // Lost, or asked for.
                Ok(_) => return ended.store(true, Ordering::Relaxed),
                Err(_) => {}
            }
        }
    };
    tokio::join!(live, bulk, keep);
}

/// One lane, by one session, until something goes wrong.
async fn tell(world: &Shared, lane: Lane, target: &Target, go_on: &(dyn Fn() -> bool + Sync)) {
    let Ok(head) = ask(world, |world| head(&world.db.now, lane)).await else { return };
    let mut session = Session::within(Model::new(world, lane, head.stream), target.lane(lane), head.stream);
    while go_on() {
        if let Err(error) = session.deliver(&|_| go_on()).await {
            world.borrow_mut().tell(|| format!("  lane {lane} stops: {error}"));
            return;
        }
        Steps(3).await;
    }
}

/// Seals now and then, in a transaction that fails if what it has read is another by then.
pub async fn sealer(world: Shared) {
    loop {
        let pause = world.borrow_mut().dice.below(40);
        Steps(pause).await;
        let (told, stream, server, audience) = {
            let mut world = world.borrow_mut();
            let audience = world.dice.below(AUDIENCES);
            (log::mirrors(&world.db.now), world.db.now.lanes[0].stream, world.db.server, audience)
        };
        travel(&world).await;
        let mut within = world.borrow_mut();
        let world = &mut *within;
        if world.db.server != server || world.db.locks.destinations.is_some() || world.db.now.lanes[0].stream != stream
        {
            continue;
        }
        match (world.calm, world.dice.below(6)) {
            (true, _) => log::tell(&mut world.db.now, &told, &mut world.dice, audience),
            (_, 0) => log::resync(&mut world.db.now, &told, &mut world.dice, audience),
            _ => log::seal(&mut world.db.now, &told, &mut world.dice, audience),
        }
        world.db.flush();
    }
}

/// Commands at any moment; once it is calm, those alone that a halt asks for.
pub async fn operator(world: Shared) {
    loop {
        let longest = if world.borrow().busy { 60 } else { 200 };
        let pause = world.borrow_mut().dice.below(longest);
        Steps(pause).await;
        let halts: Vec<_> = {
            let world = world.borrow();
            world.db.now.deliveries.iter().filter_map(|delivery| delivery.halt.clone()).collect()
        };
        let seldom = if world.borrow().busy { 2 } else { 6 };
        if halts.is_empty() && !world.borrow_mut().goes_wrong(seldom) {
            continue;
        }
        let emptied = halts.iter().any(|(reason, topic)| reason == "topic_recreated" && topic == TOPIC);
        let forgets = emptied && world.borrow_mut().dice.one_in(2);
        if let Ok(epoch) = ask_for_lease(&world).await {
            drop(if forgets { forget_topic(&world).await } else { start_over(&world).await });
            drop(ask(&world, |world| world.db.now.release(OPERATOR, epoch)).await);
        }
    }
}

const OPERATOR: usize = usize::MAX;

/// As `Held::ask`: whoever has the lease is asked to give it back.
async fn ask_for_lease(world: &Shared) -> Result<i64> {
    for _ in 0..400 {
        let granted = ask(world, |world| {
            let granted = world.acquire(OPERATOR, LEASE);
            if let (None, Some(lease)) = (granted, &mut world.db.now.lease) {
                lease.asked = true;
            }
            granted
        });
        if let Some(epoch) = granted.await? {
            return Ok(epoch);
        }
        Steps(10).await;
    }
    Err(Error::wait("the lease is not given back"))
}

/// `unhalt --forget-topic`.
async fn forget_topic(world: &Shared) -> Result<()> {
    ask(world, |world| world.db.now.topics.retain(|(_, topic), _| topic != TOPIC)).await
}

/// `unhalt --start-over`, statement by statement.
async fn start_over(world: &Shared) -> Result<()> {
    let open = Open::begin(world);
    lock(world, &open, |locks| &mut locks.destinations).await;
    travel(world).await;
    for lane in [0, 1] {
        lock(world, &open, |locks| &mut locks.deliveries[lane]).await;
    }
    travel(world).await;
    let mut world = world.borrow_mut();
    if open.is_lost(&world) {
        return Err(Error::wait("the database was cut off"));
    }
    world.db.starts += 1;
    let start = world.db.starts;
    world.tell(|| format!("  start over: stream {start}"));
    world.db.now.start_over(start);
    world.db.flush();
    // A failover that loses this goes back to the old stream, and nothing shows it: that is not in these stories.
    world.db.replicate();
    world.kafka.unread = false;
    drop(world);
    Ok(())
}
