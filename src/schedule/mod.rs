//! When is an audience computed? Schedules, their ticks, and what is due. All of it is pure.
//!
//! ```text
//!  rollcall.yaml ──► Setting ──► Schedule ──► ticks ──► due ──► runs::fire ──► a run
//! ```
//!
//! Must never ask a clock or a database. The rules that are promised stand in `docs/scheduling.md`.

mod crontab;
mod due;
mod every;
mod field;
mod fresh;
mod reader;
mod setting;
mod zone;

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use crate::{error::Problems, limits};
use crontab::Crontab;
pub use due::{Agenda, Candidate, Diary, Firing, Last, State, due, retry_at};
use every::Every;
pub use fresh::{Facts, Fresh, Freshness, Promise};
pub use setting::{CatchUp, Map, Setting};

/// When to compute an audience: ticks, without end until the year 2100.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// As written, without the zone.
    text: String,
    times: Times,
    zone: Tz,
    catch_up: CatchUp,
    jitter_seconds: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Times {
    Crontab(Crontab),
    Every(Every),
}

/// One time of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    pub at: DateTime<Utc>,
    /// Whether a clock change moved it: its local time was skipped, so it falls on the first instant after.
    pub moved: bool,
}

impl Schedule {
    /// Reads the short form, a text alone. `name` says whose schedule it is, in errors.
    pub fn parse(name: &str, text: &str) -> Result<Schedule, Problems> {
        Setting::Text(text.into()).parse(name)
    }

    /// The first tick after `instant`.
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<Tick> {
        match &self.times {
            Times::Every(every) => every.next_after(instant).map(Tick::in_place),
            Times::Crontab(crontab) => {
                let mut local = zone::local(self.zone, instant);
                // Local times that come a second time have had their tick: it is not after `instant`.
                loop {
                    local = crontab.next_after(local)?;
                    let at = zone::first_showing(self.zone, local)?;
                    if at > instant {
                        return Some(self.tick(crontab, at));
                    }
                }
            }
        }
    }

    /// The last tick not after `instant`.
    pub fn last_at_or_before(&self, instant: DateTime<Utc>) -> Option<Tick> {
        match &self.times {
            Times::Every(every) => every.last_at_or_before(instant).map(Tick::in_place),
            Times::Crontab(crontab) => {
                // Where the clock was set back, times that it will show again are over already.
                let ahead = zone::set_back(self.zone, instant) + TimeDelta::nanoseconds(1);
                let mut local = zone::local(self.zone, instant) + ahead;
                loop {
                    local = crontab.last_before(local)?;
                    let at = zone::first_showing(self.zone, local)?;
                    if at <= instant {
                        return Some(self.tick(crontab, at));
                    }
                }
            }
        }
    }

    /// By when what was true at `instant` is to be followed by something newer: the first tick after it, and a grace.
    ///
    /// The grace is the time to the tick after that one, but at least a minute and at most an hour: a schedule of every 15
    /// minutes may miss one tick, a daily one may be an hour late.
    pub(super) fn due_after(&self, audience_key: &str, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let delay = self.delay(audience_key);
        let tick = self.next_after(instant - delay)?.at;
        let period = self.next_after(tick).map_or(limits::FRESH_GRACE_MOST, |next| next.at - tick);
        Some(tick + delay + period.clamp(limits::FRESH_GRACE_LEAST, limits::FRESH_GRACE_MOST))
    }

    /// The ticks after `instant`, in order.
    pub fn ticks(&self, instant: DateTime<Utc>) -> impl Iterator<Item = Tick> {
        std::iter::successors(self.next_after(instant), |tick| self.next_after(tick.at))
    }

    /// The zone in which its times are meant; UTC for a period.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// What becomes of ticks that could not start in time.
    pub fn catch_up(&self) -> CatchUp {
        self.catch_up
    }

    /// How long after its tick the audience with this key starts: its share of the jitter.
    ///
    /// A hash of the key, so that every instance computes the same, and at every tick.
    pub fn delay(&self, audience_key: &str) -> TimeDelta {
        let digest = Sha256::digest(audience_key.as_bytes());
        let share = digest.iter().take(8).fold(0u64, |share, byte| share << 8 | u64::from(*byte));
        let milliseconds = share % (u64::from(self.jitter_seconds) * 1_000 + 1);
        TimeDelta::milliseconds(milliseconds as i64)
    }

    fn tick(&self, crontab: &Crontab, at: DateTime<Utc>) -> Tick {
        Tick { at, moved: !crontab.includes(zone::local(self.zone, at)) }
    }
}

/// As written, and the zone where there is a question.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone {
            Tz::UTC => f.write_str(&self.text),
            zone => write!(f, "{} ({})", self.text, zone.name()),
        }
    }
}

impl Tick {
    fn in_place(at: DateTime<Utc>) -> Tick {
        Tick { at, moved: false }
    }
}
