//! What a schedule means, said a second time and as plainly as possible: walk over the minutes, look at the clock.
//!
//! It shares nothing with the program but the zones' offsets at instants in UTC.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone, Utc};
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

    /// `local` in minutes since 1970 by the clock on the wall.
    fn matches(&self, local: i64) -> bool {
        let (day, minute) = (local.div_euclid(1440), local.rem_euclid(1440) as u32);
        if !self.minutes.contains(&(minute % 60)) || !self.hours.contains(&(minute / 60)) {
            return false;
        }
        let date = NaiveDate::from_epoch_days(day as i32).unwrap();
        let day = self.days.contains(&date.day());
        let weekday = self.weekdays.contains(&date.weekday().num_days_from_sunday());
        let days = if self.either_day { day || weekday } else { day && weekday };
        days && self.months.contains(&date.month())
    }

    /// The ticks in `(from, to]`, both whole minutes, and whether each was moved. At `before` the walk begins: early
    /// enough that the clock shows no time for a second time.
    pub fn ticks(
        &self,
        zone: Tz,
        before: DateTime<Utc>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Vec<(DateTime<Utc>, bool)> {
        let [before, from, to] = [before, from, to].map(|instant| instant.timestamp() / 60);
        let shown_at = |minute: i64| minute + offset_minutes(zone, minute);
        let mut ticks = Vec::new();
        let mut latest_shown = shown_at(before);
        for minute in before + 1..=to {
            let shows = shown_at(minute);
            let mut due = false;
            while latest_shown < shows {
                latest_shown += 1;
                due |= self.matches(latest_shown);
            }
            if due && minute > from {
                ticks.push((DateTime::from_timestamp(minute * 60, 0).unwrap(), !self.matches(shows)));
            }
        }
        ticks
    }
}

fn offset_minutes(zone: Tz, minute: i64) -> i64 {
    let instant = DateTime::from_timestamp(minute * 60, 0).unwrap().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&instant).fix().local_minus_utc() / 60)
}
