//! When an audience is overdue, for schedules with and without gaps.

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::{
    clock::Clock,
    schedule::{Facts, Freshness, Promise, Schedule},
};

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(&format!("{text}:00Z")).unwrap().to_utc()
}

/// By when something newer than what was true at `since` must be told.
fn due_by(schedule: &str, since: &str) -> DateTime<Utc> {
    let schedule = Schedule::parse("test", schedule).unwrap();
    let promise = Promise { key: "a", schedule: Some(&schedule), within: None };
    let facts = Facts { known_since: None, true_as_of: Some(at(since)) };
    promise.judge(facts, at(since)).due_by.unwrap()
}

#[test]
fn by_default_one_tick_may_be_late_by_a_period_of_a_minute_to_an_hour() {
    // 2024-05-03 is a Friday.
    for (schedule, since, due) in [
        ("every 15m", "2024-05-03T12:00", "2024-05-03T12:30"),
        ("every 15m", "2024-05-03T12:01", "2024-05-03T12:30"),
        ("every 10s", "2024-05-03T12:00", "2024-05-03T12:01"),
        ("@hourly", "2024-05-03T12:00", "2024-05-03T14:00"),
        ("@daily", "2024-05-03T00:00", "2024-05-04T01:00"),
        // Nothing is expected over a weekend or a night.
        ("0 6 * * mon-fri", "2024-05-03T06:00", "2024-05-06T07:00"),
        ("*/5 9-17 * * mon-fri", "2024-05-03T17:55", "2024-05-06T09:05"),
    ] {
        let due = if schedule == "every 10s" { at(due) + TimeDelta::seconds(10) } else { at(due) };
        assert_eq!(due_by(schedule, since), due, "{schedule} since {since}");
    }
}

#[test]
fn a_clock_change_moves_what_is_due_with_its_tick() {
    // 2024-03-31: 02:30 does not exist in Berlin; its tick is at 03:00 local time, 01:00 UTC.
    let due = due_by("CRON_TZ=Europe/Berlin 30 2 * * *", "2024-03-30T01:30");
    assert_eq!(due, at("2024-03-31T02:00"));
}

#[test]
fn an_audience_goes_from_pending_to_fresh_to_overdue_and_back_as_the_clock_goes_on() {
    let clock = Clock::standing_at(at("2024-05-03T12:07"));
    let schedule = Schedule::parse("test", "every 15m").unwrap();
    let promise = Promise { key: "a", schedule: Some(&schedule), within: None };
    let judge =
        |true_as_of| promise.judge(Facts { known_since: Some(at("2024-05-03T12:07")), true_as_of }, clock.now());
    assert_eq!(judge(None).freshness, Freshness::Pending);
    clock.advance(TimeDelta::minutes(24).to_std().unwrap());
    assert_eq!(judge(None).freshness, Freshness::Overdue, "it was never told: that is no excuse");
    assert_eq!(judge(None).overdue_for(clock.now()), TimeDelta::minutes(1));
    let told = Some(clock.now());
    assert_eq!(judge(told).freshness, Freshness::Fresh);
    clock.advance(TimeDelta::minutes(29).to_std().unwrap());
    assert_eq!(judge(told).freshness, Freshness::Fresh, "12:31 is followed by 12:45, until 13:00");
    assert_eq!(judge(told).overdue_for(clock.now()), TimeDelta::zero());
    clock.advance(TimeDelta::minutes(2).to_std().unwrap());
    assert_eq!(judge(told).freshness, Freshness::Overdue);
    assert_eq!(judge(Some(clock.now())).freshness, Freshness::Fresh);
}

#[test]
fn fresh_within_counts_from_when_it_was_true_whatever_the_schedule() {
    let schedule = Schedule::parse("test", "@weekly").unwrap();
    let facts = Facts { known_since: None, true_as_of: Some(at("2024-05-03T12:00")) };
    for schedule in [None, Some(&schedule)] {
        let promise = Promise { key: "a", schedule, within: Some(Promise::within("1h30m").unwrap()) };
        assert_eq!(promise.judge(facts, at("2024-05-03T13:30")).freshness, Freshness::Fresh);
        assert_eq!(promise.judge(facts, at("2024-05-03T13:31")).freshness, Freshness::Overdue);
    }
    let nothing = Promise { key: "a", schedule: None, within: None };
    assert_eq!(nothing.judge(facts, at("2030-01-01T00:00")).freshness, Freshness::Unscheduled);
    let unknown = Facts { known_since: None, true_as_of: None };
    let promised = Promise { key: "a", schedule: Some(&schedule), within: None };
    assert_eq!(promised.judge(unknown, at("2030-01-01T00:00")).freshness, Freshness::Pending, "no instance serves it");
    assert!(Promise::within("0s").is_err() && Promise::within("soon").is_err());
}

#[test]
fn jitter_is_part_of_when_a_run_is_expected() {
    let setting =
        serde_json::from_value::<rollcall::schedule::Setting>(serde_json::json!({"every": "1h", "jitter": "30m"}))
            .unwrap();
    let schedule = setting.parse("test").unwrap();
    let delay = schedule.delay("a");
    assert!(delay > TimeDelta::zero());
    let promise = Promise { key: "a", schedule: Some(&schedule), within: None };
    let facts = Facts { known_since: None, true_as_of: Some(at("2024-05-03T12:00") + delay) };
    assert_eq!(promise.judge(facts, at("2024-05-03T12:40")).due_by, Some(at("2024-05-03T14:00") + delay));
}
