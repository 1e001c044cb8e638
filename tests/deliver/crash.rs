//! A delivery killed, paused and overtaken between every two of its steps: each change is told once, and in order.
//!
//! The delivery runs in a child process, this same binary, because what is tested is a death without any clean-up.

use std::process::{Child, Command, ExitStatus, Stdio};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rollcall::{
    config::Delivery,
    deliver::Session,
    fault::{Point, Safeguard},
};
use serde_json::json;

use super::{Stage, fields, mapping, target, with};
use crate::support::{
    faults::{Way, assert_all_named},
    kafka::{self, Received},
    verify::verified,
};

/// The points of a delivery, and which time there the process dies: in its second transaction, or while it recovers.
const DEATHS: [(Point, u32); 11] = [
    (Point::AfterFence, 1),
    (Point::AfterCursorRead, 1),
    (Point::AfterQuarantine, 2),
    (Point::AfterBegin, 2),
    (Point::AfterFirstCursor, 2),
    (Point::AmidRecords, 2),
    (Point::AfterRecords, 2),
    (Point::AfterLastCursor, 2),
    (Point::AfterDrain, 2),
    (Point::AfterCommit, 2),
    (Point::AfterMirror, 2),
];

/// Rejects profiles whose number ends with five, so that each page has something to put aside.
fn picky(topic: &str) -> rollcall::mapping::Mapping {
    mapping("picky", &with(fields(topic), "partition", json!({"@path": "$.traits.partition"})))
}

/// Sixty profiles, some of which [`picky`] rejects.
pub async fn stage() -> Stage {
    let stage = Stage::new(60, 1).await;
    stage.give((5..=60).step_by(10), json!({"partition": "not a number"})).await;
    stage
}

#[derive(Default)]
pub struct Settings<'a> {
    /// Properties of librdkafka.
    pub properties: serde_json::Map<String, serde_json::Value>,
    pub fault: &'a str,
    /// What is switched off.
    pub without: Option<Safeguard>,
    /// Without transactions.
    pub at_least_once: bool,
}

/// Starts a delivery in a process of its own; its log is read by [`output`].
pub fn start(stage: &Stage, settings: &Settings<'_>) -> Child {
    let told = json!({
        "database": stage.db.url(), "broker": stage.broker, "topic": stage.topic, "cursor_topic": stage.cursor_topic,
        "properties": settings.properties, "at_least_once": settings.at_least_once,
    });
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "deliver::crash::a_child_delivers_what_its_parent_says", "--nocapture", "--test-threads=1"])
        .env("ROLLCALL_TEST_CHILD", told.to_string())
        .env("ROLLCALL_FAULT", settings.fault)
        .env("ROLLCALL_SWITCH_OFF", settings.without.map_or("", Safeguard::name))
        .env("RUST_LOG", "rollcall=debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until a child has stopped itself.
pub fn wait_until_stopped(child: &Child) {
    let status = waitpid(Pid::from_raw(child.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{status:?}");
}

pub fn go_on(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGCONT).unwrap();
}

pub fn output(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A delivery that dies or stops at a fault, or does what is to be done.
pub fn deliver(stage: &Stage, fault: &str) -> (ExitStatus, String) {
    output(start(stage, &Settings { fault, ..Settings::default() }))
}

/// Started by other tests; by itself it only makes sure that it was not asked for anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_delivers_what_its_parent_says() {
    let Ok(told) = std::env::var("ROLLCALL_TEST_CHILD") else { return };
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let text = |name: &str| told[name].as_str().unwrap();
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    let pool = sqlx::PgPool::connect(text("database")).await.unwrap();
    let mappings = vec![picky(text("topic"))];
    let mut target = target(text("broker"), text("cursor_topic"), mappings, told["properties"].clone());
    // Three transactions for each run.
    target.page_changes = 20;
    if told["at_least_once"] == true {
        target.delivery = Delivery::AtLeastOnce;
    }
    let mut session = Session::start(pool, target).await.unwrap();
    let delivered = session.deliver(&|_| true).await;
    println!("delivered: {delivered:?}");
    assert!(delivered.is_ok());
}

/// Positions of the changes that consumers are told, in their order.
pub fn positions(stage: &Stage) -> Vec<i64> {
    let received = kafka::read_committed(&stage.broker, &stage.topic);
    received.iter().map(|record| record.header("rollcall-position").unwrap().parse().unwrap()).collect()
}

/// Positions of the changes to be told: all but those of profiles whose number ends with five.
pub fn expected(changes: i64) -> impl Iterator<Item = i64> {
    // Runs enter profiles 1 to 60 and take them out again, so position p is about profile p % 60 + 1.
    (0..changes).filter(|position| (position % 60 + 1) % 10 != 5)
}

async fn assert_told(stage: &Stage, changes: i64) {
    assert!(positions(stage).into_iter().eq(expected(changes)), "{:?}", positions(stage));
    // An instance that was overtaken may have put aside what is still to come.
    let aside = sqlx::query_scalar("select count(*) from quarantine where position < $1").bind(changes);
    let aside: i64 = aside.fetch_one(stage.pool()).await.unwrap();
    assert_eq!(aside, changes / 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_killed_between_any_two_steps_tells_each_change_once_and_in_order() {
    let stage = stage().await;
    let mut changes = 0;
    for (index, (point, nth)) in DEATHS.into_iter().enumerate() {
        match index % 2 {
            0 => stage.seal(1..=60, []).await,
            _ => stage.seal([], 1..=60).await,
        }
        changes += 60;
        let (status, log) = deliver(&stage, &format!("{}@{nth}:abort", point.name()));
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(Signal::SIGABRT as i32), "{point:?} is not reached: {log}");
        let (status, log) = deliver(&stage, "");
        assert!(status.success(), "after {point:?}: {log}");
        assert_told(&stage, changes).await;
    }
    verified(stage.pool(), &stage.target_with(vec![picky(&stage.topic)])).await;
    let uncommitted = kafka::read_uncommitted(&stage.broker, &stage.topic).len();
    let committed = kafka::read_committed(&stage.broker, &stage.topic).len();
    assert!(uncommitted > committed, "no death left anything half done: the test proves nothing");
}

/// The points of a delivery without transactions.
const DEATHS_AT_LEAST_ONCE: [(Point, u32); 5] = [
    (Point::AfterQuarantine, 2),
    (Point::AmidRecords, 2),
    (Point::AfterRecords, 2),
    (Point::AfterDrain, 2),
    (Point::AfterMirror, 2),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_at_least_once_killed_between_any_two_steps_loses_nothing_and_repeats_only_what_is_the_same() {
    let stage = stage().await;
    let deliver = |fault: &str| output(start(&stage, &Settings { fault, at_least_once: true, ..Settings::default() }));
    for (index, (point, nth)) in DEATHS_AT_LEAST_ONCE.into_iter().enumerate() {
        match index % 2 {
            0 => stage.seal(1..=60, []).await,
            _ => stage.seal([], 1..=60).await,
        }
        let (status, log) = deliver(&format!("{}@{nth}:abort", point.name()));
        assert!(!status.success(), "{point:?} is not reached: {log}");
        let (status, log) = deliver("");
        assert!(status.success(), "after {point:?}: {log}");
    }
    let mut first: Vec<Received> = Vec::new();
    let mut repeated = 0;
    let position = |record: &Received| -> i64 { record.header("rollcall-position").unwrap().parse().unwrap() };
    for record in kafka::read_committed(&stage.broker, &stage.topic) {
        match first.iter().find(|known| position(known) == position(&record)) {
            None => first.push(record),
            Some(known) => {
                repeated += 1;
                assert_eq!((&known.key, &known.value, &known.headers), (&record.key, &record.value, &record.headers));
            }
        }
    }
    let told: Vec<i64> = first.iter().map(position).collect();
    let expected: Vec<i64> = expected(60 * DEATHS_AT_LEAST_ONCE.len() as i64).collect();
    assert_eq!(told, expected, "all are told, and each for the first time in the order of the log");
    assert!(repeated > 0, "no death left anything to be told again: the test proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_paused_and_overtaken_does_no_harm_when_it_wakes() {
    for point in [Point::AfterFence, Point::AfterCursorRead, Point::AmidRecords, Point::AfterDrain, Point::AfterCommit]
    {
        let stage = stage().await;
        stage.seal(1..=60, []).await;
        let fault = &format!("{}:stop", point.name());
        let paused = start(&stage, &Settings { fault, ..Settings::default() });
        wait_until_stopped(&paused);
        let (status, log) = deliver(&stage, "");
        assert!(status.success(), "while one is paused at {point:?}: {log}");
        assert_told(&stage, 60).await;
        stage.seal([], 1..=60).await;
        go_on(&paused);
        let (status, log) = output(paused);
        assert!(!status.success() && log.contains("another instance has taken over"), "woken at {point:?}: {log}");
        assert_told(&stage, 60).await;
        assert!(deliver(&stage, "").0.success());
        assert_told(&stage, 120).await;
        verified(stage.pool(), &stage.target_with(vec![picky(&stage.topic)])).await;
    }
}

/// One has begun and sent nothing, another has got as far as the cursor; then the first goes on, and after it the other.
async fn overtaken_between_fence_and_cursor(without: Option<Safeguard>) -> Vec<i64> {
    let stage = stage().await;
    stage.seal(1..=60, []).await;
    let first = start(&stage, &Settings { fault: "after_begin:stop", ..Settings::default() });
    wait_until_stopped(&first);
    let other = start(&stage, &Settings { fault: "after_cursor_read:stop", without, ..Settings::default() });
    wait_until_stopped(&other);
    go_on(&first);
    let (status, log) = output(first);
    // Unless it is fenced it tells the page that it is at, and then hears that another one has claimed the stream.
    assert!(!status.success() && log.contains("another instance has taken over"), "{log}");
    go_on(&other);
    let (status, log) = output(other);
    assert!(status.success(), "{log}");
    positions(&stage)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_fencing_before_the_cursor_is_read_what_an_older_instance_commits_meanwhile_is_told_again() {
    let once: Vec<i64> = expected(60).collect();
    assert_eq!(overtaken_between_fence_and_cursor(None).await, once);
    let told = overtaken_between_fence_and_cursor(Some(Safeguard::CursorAfterFence)).await;
    assert_eq!(told, [expected(20).collect(), once].concat());
}

#[test]
fn every_point_of_delivery_is_died_at() {
    let isolating = super::isolated::DEATHS.map(|(point, _)| point.name());
    assert_all_named(Way::Delivery, &[&DEATHS.map(|(point, _)| point.name())[..], &isolating[..]].concat());
}
