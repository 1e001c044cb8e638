//! Every zone of the tz database, 2000 to 2040: the ticks around each clock change are those of the model.

use chrono::{DateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use rollcall::schedule::Schedule;

use super::model::Model;

const YEAR_2000: i64 = 946_684_800;
const YEAR_2041: i64 = 2_240_611_200;

#[test]
fn every_zone_keeps_the_rules_at_every_clock_change_from_2000_to_2040() {
    let mut changes = 0;
    for zone in TZ_VARIANTS {
        let fixed =
            [every_half_hour(), sunday_nights(), Model::daily_at(0, 0)].map(|model| (schedule(zone, &model), model));
        for change in clock_changes(zone) {
            let shown_before =
                (change - TimeDelta::seconds(1)).with_timezone(&zone).naive_local() + TimeDelta::seconds(1);
            let shown_after = change.with_timezone(&zone).naive_local();
            // Half way through what is skipped or shown twice.
            let within = (shown_before.min(shown_after) + (shown_before - shown_after).abs() / 2).time();
            let daily = Model::daily_at(within.hour(), within.minute());
            agree(zone, &schedule(zone, &daily), &daily, change);
            let (schedule, model) = &fixed[changes % fixed.len()];
            agree(zone, schedule, model, change);
            changes += 1;
        }
        for year in (0..41).step_by(4) {
            let (schedule, model) = &fixed[year % fixed.len()];
            agree(zone, schedule, model, at(YEAR_2000 + year as i64 * 366 * 86_400));
        }
    }
    assert!(changes > 15_000, "only {changes} clock changes were found");
}

fn schedule(zone: Tz, model: &Model) -> Schedule {
    Schedule::parse("a test", &format!("CRON_TZ={} {}", zone.name(), model.text)).unwrap()
}

/// The model and the program tell the same ticks within four hours of an instant, forwards, one by one and backwards.
fn agree(zone: Tz, schedule: &Schedule, model: &Model, around: DateTime<Utc>) {
    let (from, to) = (around - TimeDelta::hours(4), around + TimeDelta::hours(4));
    // No clock was set back by more than three hours.
    let expected = model.ticks(zone, from - TimeDelta::hours(3), from, to);
    let ticks: Vec<_> =
        schedule.ticks(from).take_while(|tick| tick.at <= to).map(|tick| (tick.at, tick.moved)).collect();
    assert_eq!(ticks, expected, "{schedule} around {around}");
    for (index, &(tick, moved)) in expected.iter().enumerate() {
        let last = schedule.last_at_or_before(tick).unwrap();
        assert_eq!((last.at, last.moved), (tick, moved), "{schedule} at {tick}");
        if index > 0 {
            let before = schedule.last_at_or_before(tick - TimeDelta::milliseconds(1)).unwrap();
            assert_eq!((before.at, before.moved), expected[index - 1], "{schedule} just before {tick}");
        }
    }
    // In the middle of what is shown a second time, too.
    for minutes in [-30, 0, 1, 30, 59, 60, 90] {
        let instant = around + TimeDelta::minutes(minutes);
        let last = expected.iter().rev().find(|(tick, _)| *tick <= instant);
        if let Some(&expected) = last {
            let last = schedule.last_at_or_before(instant).unwrap();
            assert_eq!((last.at, last.moved), expected, "{schedule} at {instant}");
        }
    }
}

fn every_half_hour() -> Model {
    Model { text: "*/30 * * * *".into(), minutes: [0, 30].into(), ..Model::every_minute() }
}

fn sunday_nights() -> Model {
    let text = "30 1-3 * * Sunday".into();
    Model { text, minutes: [30].into(), hours: [1, 2, 3].into(), weekdays: [0].into(), ..Model::every_minute() }
}

/// The instants of 2000 to 2040 at which the offset changes, found by looking at each day and then closer.
fn clock_changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let offset = |seconds: i64| zone.offset_from_utc_datetime(&at(seconds).naive_utc()).fix();
    let mut changes = Vec::new();
    for start in (YEAR_2000..YEAR_2041).step_by(86_400) {
        let (mut same, mut changed) = (start, start + 86_400);
        if offset(same) != offset(changed) {
            while same + 1 < changed {
                let middle = (same + changed) / 2;
                if offset(middle) == offset(start) { same = middle } else { changed = middle }
            }
            assert_eq!(changed % 60, 0, "the model walks by minutes");
            changes.push(at(changed));
        }
    }
    changes
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
