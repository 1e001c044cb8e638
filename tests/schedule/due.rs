//! What fires when: missed ticks, long runs, failures, jitter, clocks that run backwards. No database, no clock.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rollcall::{
    ids::AudienceId,
    schedule::{Agenda, Candidate, Diary, Firing, Last, Map, Schedule, Setting, State, due, retry_at},
};

fn time(text: &str) -> DateTime<Utc> {
    format!("2026-03-01T{text}Z").parse().unwrap()
}

fn schedule(every: &str, catch_up: &str, jitter: &str) -> Schedule {
    let json = serde_json::json!({ "every": every, "catch_up": catch_up, "jitter": jitter });
    serde_json::from_value::<Setting>(json).unwrap().parse("a test").unwrap()
}

fn agenda(schedule: &Schedule, last: Option<Last>, now: DateTime<Utc>) -> Agenda {
    due([Candidate { audience: AudienceId(7), key: "big_spenders", schedule, references: &[], last }], now)
}

fn last(at: &str, attempt: i32, state: State) -> Option<Last> {
    Some(Last { scheduled_for: time(at), attempt, state })
}

fn fires(at: &str, attempt: i32) -> Agenda {
    Agenda { now: vec![Firing { audience: AudienceId(7), scheduled_for: time(at), attempt }], wake_at: None }
}

fn waits(until: &str) -> Agenda {
    Agenda { now: vec![], wake_at: Some(time(until)) }
}

#[test]
fn a_tick_fires_when_its_time_has_come_and_not_before() {
    let hourly = schedule("1h", "once", "0s");
    let done = last("10:00:00", 1, State::Done);
    assert_eq!(agenda(&hourly, done, time("10:59:59")), waits("11:00:00"));
    assert_eq!(agenda(&hourly, done, time("11:00:00")), fires("11:00:00", 1));
}

#[test]
fn ticks_missed_while_nothing_ran_become_one_run_for_the_latest() {
    let done = last("02:00:00", 1, State::Done);
    assert_eq!(agenda(&schedule("15m", "once", "0s"), done, time("11:20:00")), fires("11:15:00", 1));
}

#[test]
fn ticks_missed_while_nothing_ran_are_skipped_on_demand() {
    let skipping = schedule("15m", "skip", "0s");
    let done = last("02:00:00", 1, State::Done);
    assert_eq!(agenda(&skipping, done, time("11:20:00")), waits("11:30:00"));
    assert_eq!(agenda(&skipping, done, time("11:30:40")), fires("11:30:00", 1));
}

#[test]
fn an_audience_that_never_ran_runs_at_once_unless_it_skips() {
    assert_eq!(agenda(&schedule("1d", "once", "0s"), None, time("11:20:00")), fires("00:00:00", 1));
    let tomorrow = Agenda { now: vec![], wake_at: Some(time("00:00:00") + TimeDelta::days(1)) };
    assert_eq!(agenda(&schedule("1d", "skip", "0s"), None, time("11:20:00")), tomorrow);
}

#[test]
fn a_run_longer_than_its_period_is_followed_by_one_run() {
    let quarterly = schedule("15m", "once", "0s");
    let nothing = Agenda::default();
    assert_eq!(agenda(&quarterly, last("10:00:00", 1, State::Running), time("10:50:00")), nothing);
    assert_eq!(agenda(&quarterly, last("10:00:00", 1, State::Done), time("10:50:00")), fires("10:45:00", 1));
    assert_eq!(agenda(&quarterly, last("10:45:00", 1, State::Done), time("10:51:00")), waits("11:00:00"));
}

#[test]
fn a_clock_that_runs_backwards_fires_nothing_a_second_time() {
    let quarterly = schedule("15m", "once", "0s");
    let done = last("11:00:00", 1, State::Done);
    for now in ["10:00:00", "10:15:00", "10:59:59", "11:00:00", "11:14:59"] {
        assert_eq!(agenda(&quarterly, done, time(now)), waits("11:15:00"), "{now}");
    }
}

#[test]
fn a_failed_run_is_tried_again_when_its_time_has_come_and_for_the_latest_tick() {
    let quarterly = schedule("15m", "once", "0s");
    let failed = last("10:00:00", 3, State::Failed { retry_at: time("10:20:00") });
    assert_eq!(agenda(&quarterly, failed, time("10:16:00")), waits("10:20:00"));
    assert_eq!(agenda(&quarterly, failed, time("10:20:00")), fires("10:15:00", 4));
    let soon = last("10:00:00", 1, State::Failed { retry_at: time("10:00:10") });
    assert_eq!(agenda(&quarterly, soon, time("10:00:10")), fires("10:00:00", 2));
}

#[test]
fn waits_between_tries_double_up_to_an_hour() {
    let now = time("00:00:00");
    let waits: Vec<_> = (1..=12).map(|attempt| (retry_at(attempt, now) - now).num_seconds()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
    assert_eq!((retry_at(i32::MAX, now) - now).num_seconds(), 3600);
}

#[test]
fn a_run_whose_instance_died_is_taken_over() {
    let abandoned = last("10:00:00", 1, State::Abandoned);
    assert_eq!(agenda(&schedule("15m", "once", "0s"), abandoned, time("10:01:00")), fires("10:00:00", 2));
    // What was begun is brought to an end under `skip` too.
    assert_eq!(agenda(&schedule("15m", "skip", "0s"), abandoned, time("10:14:00")), fires("10:00:00", 2));
}

#[test]
fn jitter_delays_each_audience_by_its_own_share_and_keeps_the_tick() {
    let spread = schedule("1h", "once", "30s");
    let delay = spread.delay("big_spenders");
    assert_eq!(delay, spread.clone().delay("big_spenders"));
    let done = last("10:00:00", 1, State::Done);
    let start = time("11:00:00") + delay;
    assert_eq!(agenda(&spread, done, start - TimeDelta::milliseconds(1)).wake_at, Some(start));
    assert_eq!(agenda(&spread, done, start), fires("11:00:00", 1));
    let delays: Vec<_> = (0..1000).map(|n| spread.delay(&format!("audience_{n}")).num_milliseconds()).collect();
    assert!(delays.iter().all(|delay| (0..=30_000).contains(delay)));
    let early = delays.iter().filter(|delay| **delay < 15_000).count();
    assert!((400..600).contains(&early), "{early} of 1000 start in the first half");
}

#[test]
fn those_due_together_stand_together_and_who_waits_longest_is_first() {
    let (hourly, quarterly) = (schedule("1h", "once", "0s"), schedule("15m", "once", "0s"));
    let candidate =
        |id, schedule| Candidate { audience: AudienceId(id), key: "any", schedule, references: &[], last: None };
    let agenda = due([candidate(3, &quarterly), candidate(2, &hourly), candidate(1, &quarterly)], time("10:20:00"));
    let order: Vec<_> = agenda.now.iter().map(|firing| firing.audience.0).collect();
    assert_eq!(order, [2, 1, 3]);
}

/// Two hourly audiences, the second of which refers to the first; which fire at `now`, and until when they wait.
fn pair(first: Option<Last>, second: Option<Last>, jitter: &str, now: &str) -> (Vec<i64>, Option<DateTime<Utc>>) {
    let (plain, spread) = (schedule("1h", "once", "0s"), schedule("1h", "once", jitter));
    let one =
        Candidate { audience: AudienceId(1), key: "big_spenders", schedule: &spread, references: &[], last: first };
    let other =
        Candidate { audience: AudienceId(2), key: "any", schedule: &plain, references: &[AudienceId(1)], last: second };
    let agenda = due([one, other], time(now));
    (agenda.now.iter().map(|firing| firing.audience.0).collect(), agenda.wake_at)
}

#[test]
fn whoever_refers_to_another_waits_for_its_tick_wherever_that_is() {
    let done = last("10:00:00", 1, State::Done);
    assert_eq!(pair(done, done, "0s", "11:00:00").0, [1, 2], "they fire together");
    let running = last("11:00:00", 1, State::Running);
    assert_eq!(pair(running, done, "0s", "11:00:10"), (vec![], None), "the first runs on an instance that may be dead");
    let failed = last("11:00:00", 2, State::Failed { retry_at: time("11:01:00") });
    assert_eq!(pair(failed, done, "0s", "11:00:10"), (vec![], Some(time("11:01:00"))), "the first has failed");
    assert_eq!(pair(failed, done, "0s", "11:01:00").0, [1, 2], "and is tried again with it");
    let newer = last("12:00:00", 1, State::Running);
    let behind = last("10:00:00", 1, State::Failed { retry_at: time("11:30:00") });
    assert_eq!(pair(newer, behind, "0s", "11:59:59").0, [2], "a later tick than its own is not waited for");
    let start = time("11:00:00") + schedule("1h", "once", "30m").delay("big_spenders");
    assert!(start > time("11:00:00"));
    assert_eq!(pair(done, done, "30m", "11:00:00"), (vec![], Some(start)), "the first starts later, by its jitter");
}

#[test]
fn whoever_refers_to_one_that_never_fired_waits_for_its_first_tick() {
    let (hourly, skipping) = (schedule("1h", "once", "0s"), schedule("4h", "skip", "0s"));
    let first = Candidate { audience: AudienceId(1), key: "any", schedule: &skipping, references: &[], last: None };
    let second =
        Candidate { audience: AudienceId(2), key: "any", schedule: &hourly, references: &[AudienceId(1)], last: None };
    assert_eq!(due([first, second], time("10:20:00")), waits("12:00:00"));
}

#[test]
fn who_waits_for_another_is_waited_for() {
    let hourly = schedule("1h", "once", "0s");
    let done = last("10:00:00", 1, State::Done);
    let candidate =
        |id, references, last| Candidate { audience: AudienceId(id), key: "any", schedule: &hourly, references, last };
    let failed = last("11:00:00", 1, State::Failed { retry_at: time("11:00:30") });
    let chain = [candidate(1, &[], failed), candidate(2, &[AudienceId(1)], done), candidate(3, &[AudienceId(2)], done)];
    assert_eq!(due(chain, time("11:00:20")), waits("11:00:30"));
    let order: Vec<_> = due(chain, time("11:00:30")).now.iter().map(|firing| firing.audience.0).collect();
    assert_eq!(order, [1, 2, 3]);
}

proptest! {
    #[test]
    fn a_diary_decides_as_who_looks_each_time_anew(
        steps in proptest::collection::vec((-4_000i64..8_000, any::<bool>()), 1..40), jitter in 0u32..1_000,
        skips in any::<bool>(),
    ) {
        let schedule = schedule("1h", if skips { "skip" } else { "once" }, &format!("{jitter}s"));
        let mut diary = Diary::default();
        let (mut now, mut last) = (time("12:00:00"), None);
        for (seconds, fires) in steps {
            // A clock that runs backwards past what was looked at forgets nothing that fired.
            now += TimeDelta::seconds(seconds);
            let candidate = Candidate { audience: AudienceId(7), key: "big_spenders", schedule: &schedule, references: &[], last };
            let anew = due([candidate], now);
            prop_assert_eq!(diary.due([candidate], now), anew.clone());
            if let (Some(firing), true) = (anew.now.first(), fires) {
                last = Some(Last { scheduled_for: firing.scheduled_for, attempt: firing.attempt, state: State::Done });
            }
        }
    }

    #[test]
    fn it_is_due_exactly_when_it_said_it_would_wake(
        period in 1i64..100_000, fired in 0i64..1_000_000, ahead in 0i64..1_000_000, jitter in 0u32..3600,
    ) {
        let schedule = schedule(&format!("{period}s"), "once", &format!("{jitter}s"));
        let instant = |seconds| DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
        let fired = schedule.last_at_or_before(instant(fired)).unwrap().at;
        let last = Some(Last { scheduled_for: fired, attempt: 1, state: State::Done });
        // Also where the clock has run backwards since.
        if let Some(wake_at) = agenda(&schedule, last, instant(ahead)).wake_at {
            prop_assert!(wake_at > instant(ahead));
            prop_assert!(agenda(&schedule, last, wake_at - TimeDelta::milliseconds(1)).now.is_empty());
            let now = agenda(&schedule, last, wake_at).now;
            prop_assert_eq!(now.len(), 1);
            prop_assert!(now[0].scheduled_for > fired);
        }
    }
}

#[test]
fn a_map_is_told_what_is_wrong_with_it() {
    let read = |json| serde_json::from_value::<Setting>(json).map_err(|error| error.to_string());
    assert!(read(serde_json::json!({ "cron": "@daily", "zone": "UTC" })).unwrap_err().contains("unknown field `zone`"));
    assert!(read(serde_json::json!(15)).unwrap_err().contains("a schedule, as `every 15m`"));
    let both = Map { cron: Some("@daily".into()), every: Some("15m".into()), ..Map::default() };
    let problems = Setting::Map(both).parse("a test").unwrap_err();
    assert_eq!(&problems.text[problems.problems[0].span.clone()], "15m");
}
