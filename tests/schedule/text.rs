//! What the texts of schedules mean, and what is said of those that mean nothing.

use chrono::{DateTime, TimeDelta, Utc};
use insta::assert_snapshot;
use rollcall::schedule::{CatchUp, Map, Schedule, Setting};

/// A Monday.
fn monday() -> DateTime<Utc> {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

fn schedule(text: &str) -> Schedule {
    Schedule::parse("a test", text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

/// The next ticks after an instant, in the schedule's zone; those that were moved are marked.
fn ticks(text: &str, from: &str, count: usize) -> String {
    let schedule = schedule(text);
    let ticks = schedule.ticks(from.parse().unwrap()).take(count).map(|tick| {
        let at = tick.at.with_timezone(&schedule.zone()).format("%a %d %b %H:%M:%S %:z");
        format!("{at}{}", if tick.moved { " moved" } else { "" })
    });
    ticks.collect::<Vec<_>>().join("\n")
}

/// The days of a week, Monday is 1 and Sunday 7, on which a weekday field fires.
fn weekdays(field: &str) -> Vec<i64> {
    let ticks = schedule(&format!("0 12 * * {field}"));
    let week = ticks.ticks(monday()).take_while(|tick| tick.at < monday() + TimeDelta::weeks(1));
    week.map(|tick| (tick.at - monday()).num_days() + 1).collect()
}

#[test]
fn every_spelling_of_every_weekday_is_that_day() {
    let names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    for (index, name) in names.iter().enumerate() {
        let day = index as i64 + 1;
        for letters in 3..=name.len() {
            let name = &name[..letters];
            let capital = name[..1].to_uppercase() + &name[1..];
            for spelling in [name.to_string(), name.to_uppercase(), capital] {
                assert_eq!(weekdays(&spelling), [day], "{spelling}");
            }
        }
        assert_eq!(weekdays(&day.to_string()), [day]);
    }
    assert_eq!(weekdays("0"), [7], "0 is Sunday too");
}

#[test]
fn weekdays_come_in_ranges_steps_and_lists_also_over_the_weekend() {
    for (field, days) in [
        ("mon-fri", vec![1, 2, 3, 4, 5]),
        ("1-5", vec![1, 2, 3, 4, 5]),
        ("Monday-5", vec![1, 2, 3, 4, 5]),
        ("fri-mon", vec![1, 5, 6, 7]),
        ("5-1", vec![1, 5, 6, 7]),
        ("5-7", vec![5, 6, 7]),
        ("fri-sun", vec![5, 6, 7]),
        ("sat-sun", vec![6, 7]),
        ("6-0", vec![6, 7]),
        ("0-6", vec![1, 2, 3, 4, 5, 6, 7]),
        ("0-7", vec![1, 2, 3, 4, 5, 6, 7]),
        ("1-7", vec![1, 2, 3, 4, 5, 6, 7]),
        ("sun-sat", vec![1, 2, 3, 4, 5, 6, 7]),
        ("7-2", vec![1, 2, 7]),
        ("sun-tue", vec![1, 2, 7]),
        ("fri-mon/2", vec![5, 7]),
        ("1-7/2", vec![1, 3, 5, 7]),
        ("*/2", vec![2, 4, 6, 7]),
        ("0,3,7", vec![3, 7]),
        ("tue,THU-Sat", vec![2, 4, 5, 6]),
        ("?", vec![1, 2, 3, 4, 5, 6, 7]),
    ] {
        assert_eq!(weekdays(field), days, "{field}");
    }
}

#[test]
fn of_two_restricted_day_fields_either_is_enough_and_with_a_star_both_must_match() {
    assert_snapshot!(ticks("0 0 15 * fri", "2026-03-01T00:00:00Z", 4), @"
    Fri 06 Mar 00:00:00 +00:00
    Fri 13 Mar 00:00:00 +00:00
    Sun 15 Mar 00:00:00 +00:00
    Fri 20 Mar 00:00:00 +00:00
    ");
    assert_snapshot!(ticks("0 0 */2 * fri", "2026-03-01T00:00:00Z", 3), @"
    Fri 13 Mar 00:00:00 +00:00
    Fri 27 Mar 00:00:00 +00:00
    Fri 03 Apr 00:00:00 +00:00
    ");
}

#[test]
fn names_stand_for_what_crontab_says() {
    for (name, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * sun"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
        ("@annually", "0 0 1 January *"),
        ("@Daily", "0 0 * * *"),
    ] {
        let ticks = |text| schedule(text).ticks(monday()).take(30).collect::<Vec<_>>();
        assert_eq!(ticks(name), ticks(fields), "{name}");
    }
}

#[test]
fn a_sixth_field_in_front_is_the_second() {
    assert_snapshot!(ticks("*/20 30 6 * * *", "2026-03-02T06:30:10Z", 3), @"
    Mon 02 Mar 06:30:20 +00:00
    Mon 02 Mar 06:30:40 +00:00
    Tue 03 Mar 06:30:00 +00:00
    ");
}

#[test]
fn a_local_time_that_is_skipped_fires_at_the_first_instant_after() {
    assert_snapshot!(ticks("CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-27T12:00:00Z", 3), @"
    Sat 28 Mar 02:30:00 +01:00
    Sun 29 Mar 03:00:00 +02:00 moved
    Mon 30 Mar 02:30:00 +02:00
    ");
    assert_snapshot!(ticks("CRON_TZ=Europe/Berlin */20 1-3 * * *", "2026-03-29T00:30:00Z", 3), @"
    Sun 29 Mar 01:40:00 +01:00
    Sun 29 Mar 03:00:00 +02:00
    Sun 29 Mar 03:20:00 +02:00
    ");
}

#[test]
fn a_local_time_that_occurs_twice_fires_once() {
    assert_snapshot!(ticks("CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", 2), @"
    Sun 25 Oct 02:30:00 +02:00
    Mon 26 Oct 02:30:00 +01:00
    ");
    assert_snapshot!(ticks("CRON_TZ=Europe/Berlin 0,30 * * * *", "2026-10-24T23:50:00Z", 4), @"
    Sun 25 Oct 02:00:00 +02:00
    Sun 25 Oct 02:30:00 +02:00
    Sun 25 Oct 03:00:00 +01:00
    Sun 25 Oct 03:30:00 +01:00
    ");
}

#[test]
fn a_day_that_a_zone_skips_fires_once_at_its_end() {
    // Samoa went over the date line: after 29 December 2011 came the 31st.
    assert_snapshot!(ticks("TZ=Pacific/Apia 0 18 * * *", "2011-12-29T12:00:00Z", 3), @"
    Thu 29 Dec 18:00:00 -10:00
    Sat 31 Dec 00:00:00 +14:00 moved
    Sat 31 Dec 18:00:00 +14:00
    ");
}

#[test]
fn a_period_counts_from_the_epoch_and_is_not_cron() {
    assert_snapshot!(ticks("every 45m", "2026-03-01T23:50:00Z", 3), @"
    Mon 02 Mar 00:00:00 +00:00
    Mon 02 Mar 00:45:00 +00:00
    Mon 02 Mar 01:30:00 +00:00
    ");
    assert_snapshot!(ticks("every 1w", "2026-03-01T00:00:00Z", 1), @"Thu 05 Mar 00:00:00 +00:00");
    for (text, seconds) in [("every 90s", 90), ("every 1h30m", 5400), ("every 2 hours", 7200), ("every 1 d", 86_400)] {
        let schedule = schedule(text);
        let mut ticks = schedule.ticks(monday()).map(|tick| tick.at.timestamp());
        let (first, second) = (ticks.next().unwrap(), ticks.next().unwrap());
        assert_eq!((first % seconds, second - first), (0, seconds), "{text}");
    }
}

#[test]
fn a_map_says_more_than_a_text() {
    let json =
        serde_json::json!({ "cron": "0 6 * * *", "timezone": "Asia/Kolkata", "catch_up": "skip", "jitter": "1m" });
    let setting: Setting = serde_json::from_value(json).unwrap();
    let schedule = setting.parse("a test").unwrap();
    assert_eq!(schedule.to_string(), "0 6 * * * (Asia/Kolkata)");
    assert_eq!(schedule.catch_up(), CatchUp::Skip);
    assert_eq!(schedule.next_after(monday()).unwrap().at.to_rfc3339(), "2026-03-02T00:30:00+00:00");
    assert!(schedule.delay("any") <= TimeDelta::minutes(1));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_to_write() {
    let texts = [
        "",
        "@fortnightly",
        "@reboot",
        "@every 15m",
        "every",
        "every 0m",
        "every 15 moons",
        "every month",
        "every 2 months",
        "every 9999d",
        "CRON_TZ=Europe/Berlin every 1h",
        "CRON_TZ=Berlin 0 6 * * *",
        "CRON_TZ=+02:00 0 6 * * *",
        "TZ=local @daily",
        "CRON_TZ=Europe/Berlin",
        "* * * *",
        "0 0 1 1 * 2026 x y",
        "0 0 0 1 1 * 2026",
        "60 24 0 13 8",
        "0 0 30 2 *",
        "0 0 31 feb,apr *",
        "*/90 * * * *",
        "*/0 * * * *",
        "1,,2 * * * *",
        "5- * * * *",
        "a * * * *",
        "0 0 * * mno",
        "0 0 * * weds",
        "0 0 L * *",
        "0 0 * * 5#2",
        "H * * * *",
        "0 0 * foo *",
        "? * * * *",
        "-5 * * * *",
    ];
    let told = texts.map(|text| match Schedule::parse("a test", text) {
        Ok(_) => format!("`{text}` is taken"),
        Err(problems) => {
            let told = problems.problems.iter().map(|problem| {
                let place = &problems.text[problem.span.clone()];
                format!("`{text}` at `{place}`: {}. {}", problem.message, problem.help.as_deref().unwrap())
            });
            told.collect::<Vec<_>>().join("\n")
        }
    });
    assert_snapshot!(told.join("\n"));
}

#[test]
fn a_map_is_told_all_that_is_wrong_at_once() {
    let text = |text: &str| Some(text.to_string());
    let map = Map { cron: text("61 6 * * *"), timezone: text("Europe/Berlim"), jitter: text("2h"), ..Map::default() };
    let problems = Setting::Map(map).parse("a test").unwrap_err();
    let told = problems
        .problems
        .iter()
        .map(|problem| format!("{}: {}", &problems.text[problem.span.clone()], problem.message));
    assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    61: there is no minute 61
    Europe/Berlim: there is no time zone `Europe/Berlim`
    2h: the jitter is longer than an hour
    ");
    let both = Map { cron: text("@daily"), every: text("15m"), ..Map::default() };
    assert_snapshot!(Setting::Map(both).parse("a test").unwrap_err().problems[0].message, @"a schedule is either `cron` or `every`");
    assert_snapshot!(Setting::Map(Map::default()).parse("a test").unwrap_err().problems[0].message, @"a schedule needs `cron` or `every`");
}
