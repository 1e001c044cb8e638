//! Does the work still go round? Whoever works says so each time; whoever is asked knows how long that is ago.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::clock::Clock;

/// Shared between who works and who is asked.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    clock: Clock,
    /// `None` while at a piece of work that may take long.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Heartbeat {
    /// The first beat.
    pub fn new(clock: Clock) -> Heartbeat {
        let last = Arc::new(Mutex::new(Some(clock.monotonic())));
        Heartbeat { clock, last }
    }

    /// That of an instance whose part of the work has no turns: it is never silent.
    pub fn of_nobody(clock: Clock) -> Heartbeat {
        let heartbeat = Heartbeat::new(clock);
        heartbeat.at_work();
        heartbeat
    }

    /// Alive, and about to look again within seconds.
    pub fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.monotonic());
    }

    /// Alive, and at a piece of work that may take long: it ends by limits of its own. The next beat says that it has.
    pub fn at_work(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How long it has said nothing, though it should have.
    pub fn silent_for(&self) -> Duration {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Duration::ZERO, |last| self.clock.monotonic() - last)
    }
}
