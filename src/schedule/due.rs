//! Which audiences are to run now, for which tick, and when to look again? Pure: facts in, decision out.
//!
//! Whether a decision comes true is for [`super::fire`] to say: facts may be old by the time they are acted upon, and
//! other instances decide at the same time.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{CatchUp, Schedule};
use crate::{ids::AudienceId, limits};

/// How often a run that failed is first tried again; twice as long after each further failure.
const FIRST_RETRY: TimeDelta = TimeDelta::seconds(10);

/// An audience with its schedule, and what is known of its last tick.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub audience: AudienceId,
    /// Its share of the jitter comes from its key.
    pub key: &'a str,
    pub schedule: &'a Schedule,
    /// The audiences that it refers to and that have a schedule themselves.
    pub references: &'a [AudienceId],
    /// None if it never fired.
    pub last: Option<Last>,
}

/// The last tick that fired for an audience: a row of `schedules`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub scheduled_for: DateTime<Utc>,
    /// Tries since the last run that was done, from 1 on.
    pub attempt: i32,
    pub state: State,
}

/// What became of a tick. Named as in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// `running`: an instance is at it, and its lease holds.
    Running,
    /// `running` as well, but the lease of the instance has ended: it may be dead, so another takes over.
    Abandoned,
    /// `done`: its run is sealed.
    Done,
    /// `failed`: to be tried again then.
    Failed { retry_at: DateTime<Utc> },
}

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    pub audience: AudienceId,
    /// The tick: the latest one, whatever was missed before it.
    pub scheduled_for: DateTime<Utc>,
    pub attempt: i32,
}

/// What to do now, and until when nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agenda {
    /// By tick, then by audience: who waits longest is first, and those due together stand together.
    pub now: Vec<Firing>,
    /// When the next one is due, as far as is known now. What runs is not waited for: look again when it ends, and
    /// before a dead instance's lease would have ended.
    pub wake_at: Option<DateTime<Utc>>,
}

/// Which candidates fire at `now`, and when the next does. Candidates stand in the order of reference: whoever refers to
/// another comes after it.
pub fn due<'a>(candidates: impl IntoIterator<Item = Candidate<'a>>, now: DateTime<Utc>) -> Agenda {
    Diary::default().due(candidates, now)
}

/// Remembers when each audience will next be due, so that looking again costs nothing until then. What it decides does
/// not depend on it.
#[derive(Debug, Default)]
pub struct Diary {
    quiet: HashMap<AudienceId, Quiet>,
}

/// Nothing is due from `since` until `next` starts, unless something fires meanwhile.
#[derive(Debug, Clone, Copy)]
struct Quiet {
    last: Option<Last>,
    since: DateTime<Utc>,
    next: Next,
}

/// A coming tick, and when it starts: later by the jitter.
#[derive(Debug, Clone, Copy)]
struct Next {
    tick: DateTime<Utc>,
    start: DateTime<Utc>,
}

/// A tick that has come, but is not yet done; and when something can be done about it, if that is known.
#[derive(Debug, Clone, Copy)]
struct Behind {
    tick: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

impl Diary {
    /// As [`due`].
    pub fn due<'a>(&mut self, candidates: impl IntoIterator<Item = Candidate<'a>>, now: DateTime<Utc>) -> Agenda {
        let mut agenda = Agenda::default();
        let mut behind: HashMap<AudienceId, Behind> = HashMap::new();
        for candidate in candidates {
            let id = candidate.audience;
            let wake_at = match self.decide(&candidate, now) {
                Decision::Fire(firing) => {
                    // A membership is computed from those it refers to, so they come first: at the same moment, or
                    // where a tick of theirs that is not later fails, is late, or runs on an instance that may be dead.
                    let waits = candidate.references.iter().filter_map(|reference| behind.get(reference));
                    let waits = waits.filter(|behind| behind.tick <= firing.scheduled_for);
                    match waits.map(|behind| behind.until).max() {
                        Some(until) => {
                            behind.insert(id, Behind { tick: firing.scheduled_for, until });
                            until
                        }
                        None => {
                            agenda.now.push(firing);
                            None
                        }
                    }
                }
                Decision::Wait(next) => {
                    // One that never fired has nothing that others could be computed from.
                    let tick = candidate.last.map_or(DateTime::<Utc>::MIN_UTC, |_| next.tick);
                    if tick <= now {
                        behind.insert(id, Behind { tick, until: Some(next.start) });
                    }
                    Some(next.start)
                }
                Decision::Running(tick) => {
                    behind.insert(id, Behind { tick, until: None });
                    None
                }
                Decision::Nothing => None,
            };
            agenda.wake_at = [agenda.wake_at, wake_at].into_iter().flatten().min();
        }
        agenda.now.sort_by_key(|firing| (firing.scheduled_for, firing.audience));
        agenda
    }

    fn decide(&mut self, candidate: &Candidate<'_>, now: DateTime<Utc>) -> Decision {
        if let Some(quiet) = self.quiet.get(&candidate.audience)
            && quiet.last == candidate.last
            && (quiet.since..quiet.next.start).contains(&now)
        {
            return Decision::Wait(quiet.next);
        }
        let decision = candidate.decide(now);
        if let Decision::Wait(next) = decision {
            self.quiet.insert(candidate.audience, Quiet { last: candidate.last, since: now, next });
        }
        decision
    }
}

/// When a run that failed at its `attempt`-th try is tried again: after 10 s, 20 s, 40 s, … up to an hour.
pub fn retry_at(attempt: i32, now: DateTime<Utc>) -> DateTime<Utc> {
    let doublings = attempt.clamp(1, 20) - 1;
    now + (FIRST_RETRY * (1 << doublings)).min(TimeDelta::seconds(limits::RETRY_SECONDS))
}

enum Decision {
    Fire(Firing),
    Wait(Next),
    Running(DateTime<Utc>),
    Nothing,
}

impl Candidate<'_> {
    fn decide(&self, now: DateTime<Utc>) -> Decision {
        let delay = self.schedule.delay(self.key);
        // The latest tick whose time has come. All ticks before it are over: they are one run at most.
        let latest = || self.schedule.last_at_or_before(now - delay).map(|tick| tick.at);
        let fire = |scheduled_for, attempt| Decision::Fire(Firing { audience: self.audience, scheduled_for, attempt });
        match self.last {
            // A run longer than its period is followed by one run when it has ended.
            Some(Last { state: State::Running, scheduled_for, .. }) => Decision::Running(scheduled_for),
            Some(Last { state: State::Failed { retry_at }, scheduled_for, .. }) if now < retry_at => {
                Decision::Wait(Next { tick: scheduled_for, start: retry_at })
            }
            // What was begun is brought to an end, also under `skip`; if a later tick has come meanwhile, as that one.
            Some(Last { state: State::Failed { .. } | State::Abandoned, scheduled_for, attempt }) => {
                fire(latest().map_or(scheduled_for, |latest| latest.max(scheduled_for)), attempt.saturating_add(1))
            }
            Some(Last { state: State::Done, .. }) | None => {
                let fired = self.last.map(|last| last.scheduled_for);
                match latest() {
                    Some(latest) if fired < Some(latest) && self.in_time(latest + delay, now) => fire(latest, 1),
                    // Should the clock have run backwards, ticks up to the one that fired are not waited for again.
                    _ => match self.schedule.next_after(fired.map_or(now - delay, |fired| fired.max(now - delay))) {
                        Some(next) => Decision::Wait(Next { tick: next.at, start: next.at + delay }),
                        None => Decision::Nothing,
                    },
                }
            }
        }
    }

    fn in_time(&self, start: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        match self.schedule.catch_up() {
            CatchUp::Once => true,
            CatchUp::Skip => now - start <= TimeDelta::seconds(limits::TICK_GRACE_SECONDS),
        }
    }
}
