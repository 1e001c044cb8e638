//! Is an audience as fresh as promised? Pure: by what is promised, when it was last true, and now.
//!
//! ```text
//!      true as of                        due by                    now
//!  ────────┼─────── tick ──── grace ───────┼─────────────────────────┼──►
//!          └─────── fresh ─────────────────┘└──── overdue for ───────┘
//! ```
//!
//! An audience is true as of the last run that every destination has been told. Whether anything went wrong is not asked:
//! what is not told in time is overdue, whatever the reason.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{Schedule, every};

/// What is promised of an audience.
#[derive(Debug, Clone, Copy)]
pub struct Promise<'a> {
    /// The schedule's jitter depends on it.
    pub key: &'a str,
    /// `None` if it is computed by hand.
    pub schedule: Option<&'a Schedule>,
    /// How old it may get; by its schedule when `None`.
    pub within: Option<TimeDelta>,
}

/// What is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Since when it is to be computed at all. `None` if nobody has begun to.
    pub known_since: Option<DateTime<Utc>>,
    /// `None` before its first run is told.
    pub true_as_of: Option<DateTime<Utc>>,
}

/// Whether a promise is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    Fresh,
    Overdue,
    /// Never true yet, and not overdue either.
    Pending,
    /// Nothing is promised: it has neither a schedule nor `fresh_within`.
    Unscheduled,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fresh {
    pub freshness: Freshness,
    /// When it becomes, or became, overdue unless something newer is told.
    pub due_by: Option<DateTime<Utc>>,
}

impl Freshness {
    /// The word that users see.
    pub fn name(self) -> &'static str {
        match self {
            Freshness::Fresh => "fresh",
            Freshness::Overdue => "overdue",
            Freshness::Pending => "pending",
            Freshness::Unscheduled => "unscheduled",
        }
    }
}

impl Promise<'_> {
    /// How old `fresh_within` lets an audience get.
    ///
    /// # Errors
    /// What to write instead.
    pub fn within(text: &str) -> Result<TimeDelta, String> {
        every::span(text)
    }

    /// Whether it is kept at `now`.
    pub fn judge(&self, facts: Facts, now: DateTime<Utc>) -> Fresh {
        let since = facts.true_as_of.or(facts.known_since);
        let due_by = since.and_then(|since| match (self.within, self.schedule) {
            (Some(within), _) => Some(since + within),
            (None, Some(schedule)) => schedule.due_after(self.key, since),
            (None, None) => None,
        });
        let freshness = match (due_by, facts.true_as_of) {
            _ if self.within.is_none() && self.schedule.is_none() => Freshness::Unscheduled,
            (Some(due_by), _) if due_by < now => Freshness::Overdue,
            (_, None) => Freshness::Pending,
            (_, Some(_)) => Freshness::Fresh,
        };
        Fresh { freshness, due_by }
    }
}

impl Fresh {
    /// For how long it is overdue at `now`; zero unless it is.
    pub fn overdue_for(&self, now: DateTime<Utc>) -> TimeDelta {
        match (self.freshness, self.due_by) {
            (Freshness::Overdue, Some(due_by)) => now - due_by,
            _ => TimeDelta::zero(),
        }
    }
}
