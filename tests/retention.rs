//! What is dropped because it is old, and what is kept although it is.

use chrono::{DateTime, TimeDelta, Utc};
use rollcall::{
    audience::{lookback::Lookback, parse},
    config::{self, Config, Surroundings},
    retention::{self, Bounds, Dropped},
};
use sqlx::PgPool;

use crate::support::postgres::Database;

fn config(text: &str) -> Config {
    let around = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    config::parse("a test", text, &around).unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-03-15T12:00:00Z".parse().unwrap()
}

fn days(days: i64) -> DateTime<Utc> {
    now() - TimeDelta::days(days)
}

#[test]
fn a_definition_looks_back_as_far_as_its_widest_window_and_without_one_at_everything() {
    let lookback = |text: &str| Lookback::of_definition(&parse("a test", text).unwrap());
    let bounded = |days| Lookback::Bounded(TimeDelta::days(days));
    for (text, expected) in [
        ("trait('n') = 1", bounded(0)),
        ("event('A').within(30 days).count() >= 1", bounded(30)),
        ("NOT event('A').within(2 weeks).count() >= 1", bounded(14)),
        ("event('A').between(5 days, 40 days).count() >= 1", bounded(40)),
        ("event('A').within(30 days).within(7 days).count() >= 1", bounded(7)),
        ("event('A').within(3 days).count() >= 1 AND event('B').within(90 days).count() >= 1", bounded(90)),
        ("event('A').count() >= 1", Lookback::Everything),
        ("event('A').within(1 day).count() >= 1 OR event('B').sum(property('x')) > 3", Lookback::Everything),
        ("event('A').within(9 days).where(event('B').within(parent: 1 day).count() = 0).count() >= 1", bounded(9)),
        ("event('A').within(9 days).where(event('B').count() = 0).count() >= 1", Lookback::Everything),
        ("event('A').within(9 days).count() > event('B').within(20 days).count()", bounded(20)),
    ] {
        assert_eq!(lookback(text), expected, "{text}");
    }
}

#[test]
fn events_that_an_audience_looks_at_are_kept_unless_it_is_said_otherwise() {
    let of = |retention: &str, queries: &[&str]| {
        let audience = |(n, query): (usize, &&str)| format!("  - {{name: A {n}, query: \"{query}\"}}\n");
        let audiences: String = queries.iter().enumerate().map(audience).collect();
        Bounds::of(&config(&format!("retention: {retention}\naudiences:\n{audiences}")), now())
    };
    let (near, far) = ("event('A').within(30 days).count() >= 1", "event('A').within(400 days).count() >= 1");
    let all = "event('A').count() >= 1";
    let kept = of("{}", &[near]);
    assert_eq!((kept.runs, kept.events, kept.message_ids), (None, None, days(366)));
    let plain = of("{runs: 90d, events: 1y, message_ids: 30d}", &[near]);
    assert_eq!((plain.runs, plain.events, plain.message_ids), (Some(days(90)), Some(days(366)), days(30)));
    assert!(plain.notes.is_empty());
    let further = of("{events: 1y}", &[near, far]);
    assert_eq!(further.events, Some(days(400)));
    assert!(further.notes[0].contains("'a_1'") && further.notes[0].contains("400 days"), "{:?}", further.notes);
    let everything = of("{events: 1y}", &[near, all, far]);
    assert_eq!(everything.events, None);
    assert!(everything.notes.iter().any(|note| note.contains("drop_needed_events")), "{:?}", everything.notes);
    let told = of("{events: 1y, drop_needed_events: true}", &[near, all]);
    assert_eq!(told.events, Some(days(366)));
    assert!(told.notes[0].contains("'a_1'"), "it is said all the same: {:?}", told.notes);
    assert_eq!(of("{events: 1y}", &["event('A').cuont() >= 1"]).events, None, "nobody knows what it looks at");
}

async fn store(pool: &PgPool) {
    sqlx::raw_sql(
        "insert into event_names (name) values ('A');
         create table events_y2024m01 partition of events for values from ('2024-01-01 UTC') to ('2024-02-01 UTC');
         create table events_y2024m02 partition of events for values from ('2024-02-01 UTC') to ('2024-03-01 UTC');
         insert into events (profile_id, name_id, occurred_at, message_id)
             select 1, 1, at, at::text from generate_series(timestamptz '2023-12-30 UTC', '2024-03-03 UTC', '1 day') at;
         insert into messages (digest, came_on) select gen_random_uuid(), at::date
             from generate_series(timestamptz '2024-01-01 UTC', '2024-03-03 UTC', '1 day') at",
    )
    .execute(pool)
    .await
    .unwrap();
}

async fn prune(pool: &PgPool, before: &str, dry_run: bool) -> Vec<Dropped> {
    let before = format!("{before}T00:00:00Z").parse().unwrap();
    let bounds = Bounds { runs: None, events: Some(before), message_ids: before, notes: Vec::new() };
    retention::prune(pool, &bounds, dry_run).await.unwrap()
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn whole_months_go_as_tables_and_the_rest_of_the_old_row_by_row() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    store(pool).await;
    let of = |dropped: &[Dropped]| dropped.iter().map(|dropped| (dropped.what, dropped.of.clone())).collect::<Vec<_>>();
    let went =
        [("events", "events_y2024m01".into()), ("events", "events_default".into()), ("message_ids", "messages".into())];
    let events = count(pool, "events").await;
    assert_eq!(of(&prune(pool, "2024-02-20", true).await), went);
    assert_eq!((count(pool, "events").await, count(pool, "messages").await), (events, 63), "a dry run drops nothing");

    let dropped = prune(pool, "2024-02-20", false).await;
    assert_eq!(of(&dropped), went);
    assert_eq!((dropped[1].rows, dropped[2].rows), (2, 50), "December's events, and the ids that came before");
    assert_eq!(count(pool, "events").await, events - 31 - 2, "February is not over");
    assert_eq!(count(pool, "messages").await, 13);
    assert_eq!(prune(pool, "2024-02-20", false).await, []);
}

#[tokio::test]
async fn a_month_that_somebody_reads_is_left_until_next_time() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    store(pool).await;
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("select count(*) from events").execute(&mut *reader).await.unwrap();
    let dropped = prune(pool, "2024-03-01", false).await;
    let kept: Vec<_> = dropped.iter().filter(|dropped| dropped.kept.is_some()).map(|dropped| &dropped.of).collect();
    assert_eq!(kept, ["events_y2024m01", "events_y2024m02"]);
    reader.commit().await.unwrap();
    assert!(prune(pool, "2024-03-01", false).await.iter().all(|dropped| dropped.kept.is_none()));
    assert_eq!(count(pool, "events").await, 3);
}

#[tokio::test]
async fn of_all_instances_one_prunes_a_day() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    let tries = (0..8).map(|_| retention::begin_daily(pool));
    let begun = futures_util::future::join_all(tries).await;
    assert_eq!(begun.into_iter().filter(|begun| *begun.as_ref().unwrap()).count(), 1);
    assert!(!retention::begin_daily(pool).await.unwrap());
    sqlx::query("update upkeep set begun_at = begun_at - interval '25 hours'").execute(pool).await.unwrap();
    assert!(retention::begin_daily(pool).await.unwrap());
}
