//! What time is it, and how long until then? The one place that reads the wall clock and the monotonic clock.
//!
//! Nothing that decides membership reads it: `t` is a parameter everywhere. A lease trusts the monotonic clock alone,
//! because the wall clock may jump. Whoever waits by it waits on the monotonic clock, so that tests can let time pass.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

/// A clock that is handed to whoever needs one; clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    /// Stands still until it is advanced.
    Standing(watch::Sender<Standing>),
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

    /// A clock for tests, which shows `wall` until [`Clock::advance`] or [`Clock::step`] moves it.
    pub fn standing_at(wall: DateTime<Utc>) -> Self {
        Clock(Source::Standing(watch::Sender::new(Standing { wall, monotonic: Instant::now() })))
    }

    /// The wall clock, in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::System => Utc::now(),
            Source::Standing(standing) => standing.borrow().wall,
        }
    }

    /// The monotonic clock: only differences mean something.
    pub fn monotonic(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Standing(standing) => standing.borrow().monotonic,
        }
    }

    /// Waits until the monotonic clock has moved on by `pause`.
    pub async fn sleep(&self, pause: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(pause).await,
            Source::Standing(standing) => {
                let until = standing.borrow().monotonic + pause;
                // The sender is ours, so the wait cannot fail.
                standing.subscribe().wait_for(|standing| standing.monotonic >= until).await.ok();
            }
        }
    }

    /// Lets time pass on a standing clock, wall and monotonic alike; the machine's clock does not listen.
    pub fn advance(&self, by: Duration) {
        if let Source::Standing(standing) = &self.0 {
            standing.send_modify(|standing| {
                standing.wall += by;
                standing.monotonic += by;
            });
        }
    }

    /// Sets a standing clock's wall, forwards or backwards, as a time server or a person does; no time passes.
    pub fn step(&self, by: TimeDelta) {
        if let Source::Standing(standing) = &self.0 {
            standing.send_modify(|standing| standing.wall += by);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_standing_clock_moves_both_clocks_by_the_same_step_for_every_clone() {
        let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
        let (clone, before) = (clock.clone(), clock.monotonic());
        clock.advance(Duration::from_secs(5));
        assert_eq!(clone.now().timestamp(), 5);
        assert_eq!(clone.monotonic() - before, Duration::from_secs(5));
    }

    #[tokio::test]
    async fn whoever_sleeps_wakes_when_time_has_passed_and_not_when_the_wall_clock_is_set() {
        let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
        let mut sleeper = std::pin::pin!(clock.sleep(Duration::from_secs(5)));
        assert!((&mut sleeper).now_or_never().is_none());
        clock.step(TimeDelta::hours(-1));
        clock.advance(Duration::from_secs(4));
        assert!((&mut sleeper).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now().timestamp(), 5 - 3_600);
    }
}
