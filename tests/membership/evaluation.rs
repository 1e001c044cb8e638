//! What is asked once, what fails alone, and where evaluation refuses.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use rollcall::{
    Kind,
    audience::{
        conditions::{Formula, Keys, formula},
        interpret::{Event, Profile},
        parse,
    },
    evaluate::{Due, Evaluation, Settings, Universe, evaluate},
};
use serde_json::{Value as Json, json};
use sqlx::{Connection, PgConnection, PgPool};

use super::store;
use crate::support::{histories::now, postgres::Database};

pub fn ask(query: &str) -> Formula {
    formula(&parse("a", query).unwrap(), &Keys::default()).unwrap()
}

pub fn event(name: &str, days_ago: i64, properties: Json) -> Event {
    Event {
        name: name.into(),
        occurred_at: now() - chrono::TimeDelta::days(days_ago),
        message_id: format!("{name} {days_ago}"),
        source_id: None,
        properties,
        context: json!({}),
    }
}

pub fn profile(traits: Json, events: impl Into<Vec<Event>>) -> Profile {
    Profile { traits, events: events.into(), ..Profile::default() }
}

/// Evaluates in a transaction of its own; each key is the formula's place.
pub async fn evaluated(pool: &PgPool, at: DateTime<Utc>, formulas: &[Formula], settings: &Settings) -> Evaluation {
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
    let evaluation = evaluated_in(&mut tx, at, formulas, settings).await;
    tx.commit().await.unwrap();
    evaluation
}

pub async fn evaluated_in(
    conn: &mut PgConnection,
    at: DateTime<Utc>,
    formulas: &[Formula],
    settings: &Settings,
) -> Evaluation {
    let keys: Vec<String> = (0..formulas.len()).map(|n| format!("a{n}")).collect();
    let universe = Universe::users(false);
    let due: Vec<_> =
        formulas.iter().zip(&keys).map(|(formula, key)| Due { key, formula, universe: &universe }).collect();
    evaluate(conn, at, &due, &HashMap::new(), settings).await.unwrap()
}

pub fn members(evaluation: &Evaluation) -> Vec<Vec<u32>> {
    evaluation.audiences.iter().map(|(_, members)| members.as_ref().unwrap().iter().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_several_audiences_is_asked_once_and_scans_are_shared() {
    let database = Database::fresh().await;
    let orders = |days: &[i64]| {
        days.iter().map(|days| event("Order Completed", *days, json!({ "revenue": 10 * days }))).collect::<Vec<_>>()
    };
    store::insert(
        &database.pool,
        &[
            profile(json!({ "plan": "pro" }), orders(&[1, 2, 25])),
            profile(json!({ "plan": "free" }), orders(&[3])),
            profile(json!({ "plan": "pro" }), []),
        ],
    )
    .await;
    let formulas = [
        ask("event('Order Completed').within(30 days).count() >= 1"),
        ask("event('Order Completed').within(30 days).count() >= 1 AND trait('plan') = 'pro'"),
        ask("event('Order Completed').within(30 days).count() >= 2"),
        ask("event('Order Completed').within(20 days).sum(property('revenue')) >= 30"),
        ask("NOT event('Order Completed').within(20 days).sum(property('revenue')) >= 30"),
        ask("trait('plan') = 'pro'"),
    ];
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    assert_eq!(members(&evaluation), [vec![1, 2], vec![1], vec![1], vec![1, 2], vec![3], vec![1, 3]]);
    let statistics = evaluation.statistics;
    assert_eq!((statistics.conditions, statistics.scanned), (4, 3), "{statistics:?}");
    // One scan for the counts of thirty days, one that also reads properties, one look at traits.
    assert_eq!(statistics.statements, 3, "{statistics:?}");

    store::promote(&database.pool, "Order Completed", "revenue", 1).await;
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    assert_eq!(members(&evaluation), [vec![1, 2], vec![1], vec![1], vec![1, 2], vec![3], vec![1, 3]]);
    assert_eq!(evaluation.statistics.statements, 2, "a promoted property needs no scan of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_fails_fails_the_audiences_that_use_it_and_no_others() {
    let database = Database::fresh().await;
    store::insert(&database.pool, &[profile(json!({ "plan": "pro" }), [event("Order Completed", 1, json!({}))])]).await;
    // Whatever asks for a number of a text stops for longer than a condition may take.
    database.read_numbers_slowly().await;
    let formulas = [
        ask("trait('plan') > 5 OR event('Order Completed').count() >= 1"),
        ask("event('Order Completed').count() >= 1"),
        ask("trait('plan') = 'pro'"),
        ask("NOT trait('plan') > 5"),
    ];
    let settings = Settings { statement_timeout_ms: 200, ..Settings::default() };
    let mut conn = database.pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
    let evaluation = evaluated_in(&mut tx, now(), &formulas, &settings).await;
    for (n, (key, members)) in evaluation.audiences.iter().enumerate() {
        match members {
            Ok(members) => assert!(n == 1 || n == 2 && members.contains(1), "{key}"),
            Err(error) => assert!((n == 0 || n == 3) && error.kind == Kind::Wait, "{key}: {error:?}"),
        }
    }
    // The transaction goes on, with its own time limit.
    let timeout: String =
        sqlx::query_scalar("select current_setting('statement_timeout')").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(timeout, "0");
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_even_begin_leaves_the_connection_in_step() {
    let database = Database::fresh().await;
    store::insert(&database.pool, &[profile(json!({ "plan": "pro", "born": "2000-01-01" }), [])]).await;
    sqlx::raw_sql("drop function rollcall_instant").execute(&database.pool).await.unwrap();
    let formulas =
        [ask("trait('born').before_date(2010-01-01)"), ask("trait('plan') = 'pro'"), ask("trait('plan') = 'free'")];
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    let outcomes: Vec<_> =
        evaluation.audiences.iter().map(|(_, members)| members.as_ref().ok().map(RoaringBitmap::len)).collect();
    // Out of step, each answer would be that of the question before.
    assert_eq!(outcomes, [None, Some(1), Some(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_reads_the_same_tick_else_what_was_stored_else_fails() {
    let database = Database::fresh().await;
    store::insert(&database.pool, &vec![profile(json!({}), []); 4]).await;
    let member = |key: &str| Formula::Member(key.into());
    let (first, second) = (Formula::Not(member("stored").into()), Formula::Not(member("first").into()));
    let (unknown, after) = (member("unknown"), member("third"));
    let universe = Universe::users(false);
    let due: Vec<_> = [("first", &first), ("second", &second), ("third", &unknown), ("fourth", &after)]
        .into_iter()
        .map(|(key, formula)| Due { key, formula, universe: &universe })
        .collect();
    let stored = HashMap::from([("stored".to_owned(), RoaringBitmap::from_iter([1, 2]))]);
    let mut conn = database.pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
    let evaluation = evaluate(&mut tx, now(), &due, &stored, &Settings::default()).await.unwrap();
    let members: Vec<_> =
        evaluation.audiences.into_iter().map(|(_, members)| members.map_err(|error| error.to_string())).collect();
    assert_eq!(members[0], Ok(RoaringBitmap::from_iter([3, 4])));
    assert_eq!(members[1], Ok(RoaringBitmap::from_iter([1, 2])));
    assert!(members[2].as_ref().is_err_and(|error| error.contains("`unknown`, which was never computed")));
    assert!(members[3].as_ref().is_err_and(|error| error.contains("`third`, which failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_that_do_not_fit_are_asked_of_postgres() {
    let database = Database::fresh().await;
    let spent = |values: &[Json]| {
        values
            .iter()
            .enumerate()
            .map(|(n, value)| event("Order Completed", n as i64, json!({ "revenue": value })))
            .collect::<Vec<_>>()
    };
    store::insert(
        &database.pool,
        &[
            profile(json!({}), spent(&[json!("0.0000001"), json!("0.0000002")])),
            profile(json!({}), spent(&[json!("9e18"), json!(1)])),
            profile(json!({}), spent(&[json!(0.5), json!("abc"), json!(null)])),
            profile(json!({}), spent(&[json!(-1), json!(1)])),
        ],
    )
    .await;
    let formulas = [
        ask("event('Order Completed').sum(property('revenue')) = 0.0000003"),
        ask("event('Order Completed').sum(property('revenue')) > 9000000000000000000"),
        ask("event('Order Completed').sum(property('revenue')) <= 0.5"),
        ask("event('Order Completed').sum(property('revenue')) = 0"),
    ];
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    assert_eq!(members(&evaluation), [vec![1], vec![2], vec![1, 3, 4], vec![4]]);
}
