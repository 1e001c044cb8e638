//! What a schedule means, said a second time and as plainly as possible: walk over the minutes, look at the clock.
//!
//! It shares nothing with the program but the zones' offsets at instants in UTC.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

/// A crontab line with its meaning.
#[derive(Debug, Clone)]
pub struct Model {
    pub text: String,
    pub minutes: BTreeSet<u32>,
    pub hours: BTreeSet<u32>,
    pub days: BTreeSet<u32>,
    pub months: BTreeSet<u32>,
    /// Sunday is 0.
    pub weekdays: BTreeSet<u32>,
    /// Whether one of the two day fields is enough: neither starts with `*`.
    pub either_day: bool,
}

impl Model {
    pub fn daily_at(hour: u32, minute: u32) -> Model {
        let text = format!("{minute} {hour} * * *");
        Model { text, minutes: [minute].into(), hours: [hour].into(), ..Model::every_minute() }
    }

    pub fn every_minute() -> Model {
        Model {
            text: "* * * * *".into(),
            minutes: (0..60).collect(),
            hours: (0..24).collect(),
            days: (1..=31).collect(),
            months: (1..=12).collect(),
            weekdays: (0..7).collect(),
            either_day: false,
        }
    }

    fn matches(&self, local: NaiveDateTime) -> bool {
        if !self.minutes.contains(&local.minute()) || !self.hours.contains(&local.hour()) {
            return false;
        }
        let day = self.days.contains(&local.day());
        let weekday = self.weekdays.contains(&local.weekday().num_days_from_sunday());
        let days = if self.either_day { day || weekday } else { day && weekday };
        days && self.months.contains(&local.month())
    }

    /// The ticks in `(from, to]`, both whole minutes, and whether each was moved. At `before` the walk begins: early
    /// enough that the clock shows no time for a second time.
    pub fn ticks(&self, zone: Tz, before: DateTime<Utc>, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<(DateTime<Utc>, bool)> {
        const MINUTE: TimeDelta = TimeDelta::minutes(1);
        let mut ticks = Vec::new();
        let mut latest_shown = before.with_timezone(&zone).naive_local();
        let mut instant = before + MINUTE;
        while instant <= to {
            let shows = instant.with_timezone(&zone).naive_local();
            let mut due = false;
            while latest_shown < shows {
                latest_shown += MINUTE;
                due |= self.matches(latest_shown);
            }
            if due && instant > from {
                ticks.push((instant, !self.matches(shows)));
            }
            instant += MINUTE;
        }
        ticks
    }
}
