//! How is one destination kept told? By one session, kept as long as nothing goes wrong, under the destination's lease.
//!
//! Each destination has a task of its own: one that is away or halted holds up nobody.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

use super::{Instance, Stop, held::Held, log};
use crate::{
    Kind, Result,
    deliver::{Delivered, Session, Target},
    limits,
    membership::register,
};

/// How often to look whether another instance has sealed something, or let the lease go. What is sealed here is told at once.
const LOOK: Duration = Duration::from_secs(1);

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
                () = sleep(pause) => {}
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
        let mut session = Session::start(pool.clone(), self.target.clone()).await?;
        // It only saves a fenced instance from fencing back; what is told once is told once without it.
        let go_on = |_: &Delivered| held.is_trusted() && !stop.is_asked();
        let mut asked = stop.clone();
        while held.is_trusted() && !stop.is_asked() {
            self.sealed.mark_unchanged();
            let told = session.deliver(&go_on).await?;
            self.failures = 0;
            let Delivered { from, to, records, quarantined, .. } = told;
            if to > from {
                tracing::info!(%from, %to, records, quarantined, "told");
            }
            tokio::select! {
                _ = self.sealed.changed() => {}
                () = sleep(LOOK) => {}
                () = asked.asked() => {}
            }
        }
        Ok(())
    }
}

/// After 1 s, 2 s, 4 s, … up to a minute; a halted one waits for a person, and is looked at again at that slow pace.
fn back_off(kind: Kind, failures: u32) -> Duration {
    let longest = limits::DESTINATION_RETRY_SECONDS;
    match kind {
        Kind::Halted => Duration::from_secs(longest),
        _ => Duration::from_secs((1 << (failures.clamp(1, 20) - 1)).min(longest)),
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
