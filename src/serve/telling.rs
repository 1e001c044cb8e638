//! How is one destination kept told? By a session for each lane, kept as long as nothing goes wrong, under the destination's lease.
//!
//! Each destination has a task of its own: one that is away or halted holds up nobody.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::sync::watch;

use super::{Stop, log};
use crate::{
    Kind, Result,
    clock::Clock,
    deliver::{Bulk, Delivered, Session, Target},
    delta::lane::Lane,
    lease::{Held, Instance},
    limits,
    registry::register,
};

/// How often to look whether another instance has sealed something, or let the lease go. What is sealed here is told at once.
const LOOK: Duration = Duration::from_secs(1);
/// The same where one lane waits for the other, or for its turn under a rate limit.
const BREATH: Duration = Duration::from_millis(100);

/// The keeping told of one destination.
pub struct Telling {
    instance: Instance,
    target: Target,
    sealed: watch::Receiver<()>,
    /// Since something last went well.
    failures: u32,
}

impl Telling {
    pub fn new(instance: Instance, target: Target, sealed: watch::Receiver<()>) -> Telling {
        Telling { instance, target, sealed, failures: 0 }
    }

    /// Works until it is asked to stop.
    pub async fn run(mut self, mut stop: Stop) {
        while !stop.is_asked() {
            let pause = match self.turn(&stop).await {
                Ok(()) => LOOK,
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    let pause = back_off(error.kind, self.failures);
                    let name = format!("destination '{}'", self.target.name);
                    log(&error, &name, "not told; to be tried again");
                    tracing::info!(seconds = pause.as_secs(), "waiting before the next try");
                    pause
                }
            };
            tokio::select! {
                () = self.instance.clock.sleep(pause) => {}
                () = stop.asked() => {}
            }
        }
    }

    /// As long as all goes well and the lease is ours. An error gives the lease back: another instance may fare better.
    async fn turn(&mut self, stop: &Stop) -> Result<()> {
        let name = format!("destination:{}", self.target.name);
        let Some(held) = Held::acquire(&self.instance, &name).await? else { return Ok(()) };
        let told = self.keep_telling(&held, stop).await;
        held.release().await;
        told
    }

    async fn keep_telling(&mut self, held: &Held, stop: &Stop) -> Result<()> {
        let pool = &self.instance.pool;
        register::destination(&mut *pool.acquire().await?, &self.target.name).await?;
        // It only saves a fenced instance from fencing back; what is told once is told once without it.
        let ended = AtomicBool::new(false);
        let go_on = || held.is_kept() && !stop.is_asked() && !ended.load(Ordering::Relaxed);
        let mut bulk = BulkTelling {
            lane: Bulk::new(pool.clone(), &self.target),
            title: self.target.lane(Lane::Bulk).title(),
            clock: self.instance.clock.clone(),
            sealed: self.sealed.clone(),
            stop: stop.clone(),
        };
        let live = async {
            let told = self.live(&go_on, stop.clone()).await;
            ended.store(true, Ordering::Relaxed);
            told
        };
        // The bulk lane ends its page when the live one ends.
        let (told, ()) = tokio::join!(live, bulk.run(&go_on));
        told
    }

    async fn live(&mut self, go_on: GoOn<'_>, mut stop: Stop) -> Result<()> {
        let mut session = Session::start(self.instance.pool.clone(), self.target.clone()).await?;
        while go_on() {
            self.sealed.mark_unchanged();
            let told = session.deliver(&|_| go_on()).await?;
            self.failures = 0;
            log_told(&self.target.name, &told);
            pause(&self.instance.clock, pause_after(&told), &mut self.sealed, &mut stop).await;
        }
        Ok(())
    }
}

type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);

/// The bulk lane beside the live one, under the same lease. Its failures are its own: they keep the lease.
struct BulkTelling {
    lane: Bulk,
    title: String,
    clock: Clock,
    sealed: watch::Receiver<()>,
    stop: Stop,
}

impl BulkTelling {
    async fn run(&mut self, go_on: GoOn<'_>) {
        let mut failures = 0;
        while go_on() {
            self.sealed.mark_unchanged();
            let wait = match self.lane.step(&|_| go_on()).await {
                Ok(step) => {
                    failures = 0;
                    if let Some(told) = &step.told {
                        log_told(&self.title, told);
                    }
                    match (step.got_on(), step.topped.running) {
                        (true, _) => continue,
                        (false, 0) => LOOK,
                        // Perhaps it waits for its turn under a rate limit.
                        (false, _) => BREATH,
                    }
                }
                Err(error) => {
                    failures += 1;
                    log(&error, &self.title, "not told; to be tried again");
                    back_off(error.kind, failures)
                }
            };
            let until = self.clock.monotonic() + wait;
            while go_on() && self.clock.monotonic() < until {
                // In short steps: when the live lane ends, this one does.
                let step = until.saturating_duration_since(self.clock.monotonic()).min(LOOK);
                pause(&self.clock, step, &mut self.sealed, &mut self.stop).await;
                if failures == 0 {
                    break;
                }
            }
        }
    }
}

fn log_told(destination: &str, told: &Delivered) {
    let Delivered { lane, from, to, records, quarantined, .. } = told;
    if to > from {
        tracing::info!(destination, %lane, %from, %to, records, quarantined, "told");
    }
}

/// What waits for the other lane is looked at again soon.
fn pause_after(told: &Delivered) -> Duration {
    if told.to < told.end { BREATH } else { LOOK }
}

async fn pause(clock: &Clock, time: Duration, sealed: &mut watch::Receiver<()>, stop: &mut Stop) {
    tokio::select! {
        _ = sealed.changed() => {}
        () = clock.sleep(time) => {}
        () = stop.asked() => {}
    }
}

/// After 1 s, 2 s, 4 s, … up to a minute; a halted one waits for a person, and is looked at again at that slow pace.
fn back_off(kind: Kind, failures: u32) -> Duration {
    let longest = Duration::from_secs(limits::DESTINATION_RETRY_SECONDS);
    match kind {
        Kind::Halted => longest,
        _ => super::doubled(failures, longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_at_doubled_distances_up_to_a_minute() {
        let seconds = |failures| back_off(Kind::Wait, failures).as_secs();
        assert_eq!([1, 2, 3, 6, 7, u32::MAX].map(seconds), [1, 2, 4, 32, 60, 60]);
        assert_eq!(back_off(Kind::Halted, 1).as_secs(), 60);
    }
}
