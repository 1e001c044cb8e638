//! How fast may a destination be told? At most so many Identify events a second, both lanes together, the live one first.
//!
//! Pages are cut short, a tenth of a second's worth at most, and come at even distances: each one says how long the next one waits.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use crate::{clock::Clock, delta::lane::Lane};

/// Pages in a second, when the pace is limited.
const PAGES_PER_SECOND: u32 = 10;

/// How soon the bulk lane asks again when the live one is waiting for its turn.
const GIVE_WAY: Duration = Duration::from_millis(10);

/// How long a wait sleeps at most before it asks whether to go on.
const BREATH: Duration = Duration::from_millis(100);

/// The pace of one destination, shared by its lanes.
#[derive(Debug)]
pub struct Pace {
    clock: Clock,
    per_second: Option<NonZeroU32>,
    turn: Mutex<Turn>,
}

#[derive(Debug)]
struct Turn {
    /// When what was told last has used up its time.
    free: Instant,
    live_waits: bool,
}

impl Pace {
    /// No limit where none is given.
    pub fn new(clock: Clock, per_second: Option<NonZeroU32>) -> Pace {
        let turn = Mutex::new(Turn { free: clock.monotonic(), live_waits: false });
        Pace { clock, per_second, turn }
    }

    /// The time by the clock that the pace is kept by.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Changes in one page, of `most` at most.
    pub fn page(&self, most: usize) -> usize {
        self.per_second.map_or(most, |rate| most.min((rate.get() / PAGES_PER_SECOND).max(1) as usize))
    }

    /// Takes the time that these events take. If it is not their turn yet: how long to wait before asking again.
    pub fn turn(&self, lane: Lane, events: usize) -> Result<(), Duration> {
        let Some(rate) = self.per_second else { return Ok(()) };
        let now = self.clock.monotonic();
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if lane == Lane::Bulk && turn.live_waits {
            return Err(GIVE_WAY);
        }
        turn.live_waits = lane == Lane::Live && turn.free > now;
        if turn.free > now {
            return Err(turn.free - now);
        }
        turn.free = now + Duration::from_secs_f64(events as f64 / f64::from(rate.get()));
        Ok(())
    }

    /// Waits for the turn, in short steps: a pause must not keep anybody from stopping. False if `go_on` said so.
    pub async fn wait(&self, lane: Lane, events: usize, go_on: impl Fn() -> bool) -> bool {
        while let Err(wait) = self.turn(lane, events) {
            if !go_on() {
                self.give_up(lane);
                return false;
            }
            tokio::time::sleep(wait.min(BREATH)).await;
        }
        true
    }

    /// The lane waits no longer.
    fn give_up(&self, lane: Lane) {
        if lane == Lane::Live {
            self.turn.lock().unwrap_or_else(PoisonError::into_inner).live_waits = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_any_stretch_of_time_no_more_is_told_than_the_rate_allows_and_one_page() {
        let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
        let pace = Pace::new(clock.clone(), NonZeroU32::new(1_000));
        assert_eq!((pace.page(5_000), pace.page(7)), (100, 7));
        let mut told = Vec::new();
        for step in 0..40_u64 {
            // It is asked now often, now after a long time, with pages of every size.
            for events in [100, 1, 250] {
                if pace.turn(Lane::Live, events).is_ok() {
                    told.push((clock.monotonic(), events));
                }
                clock.advance(Duration::from_millis(step * 7 % 61));
            }
        }
        assert!(told.len() > 10);
        for (first, (from, _)) in told.iter().enumerate() {
            let mut sum = 0;
            for (to, events) in &told[first..] {
                let allowed = (*to - *from).as_secs_f64() * 1_000.0;
                assert!(f64::from(sum) <= allowed + 1e-6, "{sum} before {allowed}");
                sum += *events as i32;
            }
        }
    }

    #[test]
    fn the_live_lane_goes_first_and_the_bulk_lane_has_what_is_left() {
        let clock = Clock::standing_at(DateTime::UNIX_EPOCH);
        let pace = Pace::new(clock.clone(), NonZeroU32::new(100));
        assert_eq!(pace.turn(Lane::Bulk, 10), Ok(()));
        assert_eq!(pace.turn(Lane::Live, 10), Err(Duration::from_millis(100)));
        clock.advance(Duration::from_millis(100));
        assert_eq!(pace.turn(Lane::Bulk, 10), Err(GIVE_WAY), "the live one has asked before");
        assert_eq!(pace.turn(Lane::Live, 10), Ok(()));
        clock.advance(Duration::from_millis(100));
        assert_eq!(pace.turn(Lane::Bulk, 10), Ok(()));
        assert!(pace.turn(Lane::Live, 10).is_err());
        pace.give_up(Lane::Live);
        clock.advance(Duration::from_millis(100));
        assert_eq!(pace.turn(Lane::Bulk, 10), Ok(()));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let pace = Pace::new(Clock::standing_at(DateTime::UNIX_EPOCH), None);
        assert_eq!(pace.page(5_000), 5_000);
        assert!((0..100).all(|_| pace.turn(Lane::Bulk, 1_000_000).is_ok()));
    }
}
