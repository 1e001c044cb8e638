//! What time is it? The one place that reads the wall clock and the monotonic clock.
//!
//! Nothing that decides membership reads it: `t` is a parameter everywhere. A lease trusts the monotonic clock alone,
//! because the wall clock may jump.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

/// A clock that is handed to whoever needs one; clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    /// Stands still until it is advanced.
    Standing(Arc<Mutex<Standing>>),
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    wall: DateTime<Utc>,
    monotonic: Instant,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// A clock for tests, which shows `wall` until [`Clock::advance`] moves it.
    pub fn standing_at(wall: DateTime<Utc>) -> Self {
        Clock(Source::Standing(Arc::new(Mutex::new(Standing { wall, monotonic: Instant::now() }))))
    }

    /// The wall clock, in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::System => Utc::now(),
            Source::Standing(standing) => standing.lock().unwrap_or_else(PoisonError::into_inner).wall,
        }
    }

    /// The monotonic clock: only differences mean something.
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Standing(standing) => standing.lock().unwrap_or_else(PoisonError::into_inner).monotonic,
        }
    }

    /// Moves a standing clock forward, wall and monotonic alike; the machine's clock does not listen.
    pub fn advance(&self, by: Duration) {
        if let Source::Standing(standing) = &self.0 {
            let mut standing = standing.lock().unwrap_or_else(PoisonError::into_inner);
            standing.wall += by;
            standing.monotonic += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_both_clocks_by_the_same_step_for_every_clone() {
        let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
        let (clone, before) = (clock.clone(), clock.monotonic());
        clock.advance(Duration::from_secs(5));
        assert_eq!(clone.now().timestamp(), 5);
        assert_eq!(clone.monotonic() - before, Duration::from_secs(5));
    }
}
