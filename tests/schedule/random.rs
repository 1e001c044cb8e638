//! Random crontab lines in random zones: the program agrees with the model, and ticks only go forward.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta};
use chrono_tz::TZ_VARIANTS;
use proptest::prelude::*;
use rollcall::schedule::Schedule;

use super::model::Model;

/// A field's text, with the numbers it means.
type Field = (String, BTreeSet<u32>);

fn item(min: u32, max: u32) -> impl Strategy<Value = Field> {
    let number = move || min..=max;
    prop_oneof![
        2 => number().prop_map(|number| (number.to_string(), [number].into())),
        1 => (number(), number()).prop_map(move |(from, to)| {
            let numbers = if from <= to { (from..=to).collect() } else { (from..=max).chain(min..=to).collect() };
            (format!("{from}-{to}"), numbers)
        }),
        1 => (number(), number(), 1u32..=5).prop_map(|(one, other, step)| {
            let (from, to) = (one.min(other), one.max(other));
            (format!("{from}-{to}/{step}"), (from..=to).filter(|number| (number - from).is_multiple_of(step)).collect())
        }),
        1 => (number(), 1u32..=5).prop_map(move |(from, step)| {
            (format!("{from}/{step}"), (from..=max).filter(|number| (number - from).is_multiple_of(step)).collect())
        }),
    ]
}

fn field(min: u32, max: u32) -> impl Strategy<Value = Field> {
    prop_oneof![
        2 => Just(("*".to_string(), (min..=max).collect::<BTreeSet<_>>())),
        1 => (1u32..=(max / 2)).prop_map(move |step| {
            (format!("*/{step}"), (min..=max).filter(|number| (number - min).is_multiple_of(step)).collect())
        }),
        4 => prop::collection::vec(item(min, max), 1..4).prop_map(|items| {
            let text = items.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
            (text, items.into_iter().flat_map(|(_, numbers)| numbers).collect())
        }),
    ]
}

fn weekdays() -> impl Strategy<Value = Field> {
    let names = ["Sun", "monday", "TUE", "weds".trim_end_matches('s'), "thurs", "Friday", "sat"];
    let day = move |number: u32| (names[number as usize].to_string(), [number].into());
    prop_oneof![field(0, 6), (0u32..7).prop_map(day), Just(("7".to_string(), [0].into()))]
}

prop_compose! {
    fn model()(
        minutes in field(0, 59), hours in field(0, 23), days in field(1, 31), months in field(1, 12), weekdays in weekdays()
    ) -> Model {
        let either_day = !days.0.starts_with('*') && !weekdays.0.starts_with('*');
        let text = [&minutes.0, &hours.0, &days.0, &months.0, &weekdays.0].map(|text| text.as_str()).join(" ");
        Model { text, minutes: minutes.1, hours: hours.1, days: days.1, months: months.1, weekdays: weekdays.1, either_day }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_random_line_in_a_random_zone_has_the_ticks_of_the_model(
        model in model(), zone in 0..TZ_VARIANTS.len(), minute in 15_778_080i64..37_343_520, second in 0i64..60,
    ) {
        let zone = TZ_VARIANTS[zone];
        let schedule = Schedule::parse("a test", &format!("CRON_TZ={} {}", zone.name(), model.text));
        let Ok(schedule) = schedule else {
            // The one thing that such a line may lack is a day that comes.
            let days_come = model.months.iter().any(|month| model.days.iter().any(|day| {
                chrono::NaiveDate::from_ymd_opt(2024, *month, *day).is_some()
            }));
            prop_assert!(!days_come, "{model:?} was refused: {schedule:?}");
            return Ok(());
        };
        let from = DateTime::from_timestamp(minute * 60, 0).unwrap();
        let to = from + TimeDelta::days(5);
        let expected = model.ticks(zone, from - TimeDelta::days(2), from, to);
        let ticks: Vec<_> =
            schedule.ticks(from).take_while(|tick| tick.at <= to).map(|tick| (tick.at, tick.moved)).collect();
        prop_assert_eq!(&ticks, &expected);
        // From any second, not only from a whole minute.
        let instant = from + TimeDelta::seconds(second);
        let next = expected.iter().find(|(tick, _)| *tick > instant).copied();
        let told = schedule.next_after(instant).map(|tick| (tick.at, tick.moved)).filter(|(tick, _)| *tick <= to);
        prop_assert_eq!(told, next);
        if let Some((last, moved)) = expected.iter().rev().find(|(tick, _)| *tick <= to - TimeDelta::seconds(second)) {
            let told = schedule.last_at_or_before(to - TimeDelta::seconds(second)).unwrap();
            prop_assert_eq!((told.at, told.moved), (*last, *moved));
        }
    }

    #[test]
    fn the_next_tick_is_later_and_the_last_one_before_it_is_the_last(
        model in model(), zone in 0..TZ_VARIANTS.len(), second in 946_684_800i64..2_240_611_200,
    ) {
        let text = format!("CRON_TZ={} {}", TZ_VARIANTS[zone].name(), model.text);
        let Ok(schedule) = Schedule::parse("a test", &text) else { return Ok(()) };
        let start = DateTime::from_timestamp(second, 0).unwrap();
        let mut before = start;
        for tick in schedule.ticks(start).take(20) {
            prop_assert!(tick.at > before);
            prop_assert_eq!(schedule.last_at_or_before(tick.at), Some(tick));
            let last = schedule.last_at_or_before(tick.at - TimeDelta::nanoseconds(1)).map(|last| last.at);
            prop_assert!(last.is_none_or(|last| last == before || (before == start && last <= start)), "{last:?}, {before}");
            before = tick.at;
        }
    }

    #[test]
    fn no_text_makes_the_parser_fail_other_than_by_telling_where(text in "[ -~]{0,40}|[*0-9,/ a-z-]{5,30}") {
        if let Err(problems) = Schedule::parse("a test", &text) {
            prop_assert!(!problems.problems.is_empty());
            for problem in &problems.problems {
                prop_assert!(problems.text.get(problem.span.clone()).is_some(), "{problem:?} in {text:?}");
                prop_assert!(problem.help.is_some());
            }
        }
    }
}
