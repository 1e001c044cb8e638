//! Conditions that read computed traits: what they need of Postgres, and what a failure of one may reach.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use rollcall::{
    Kind,
    audience::{
        conditions::{Formula, Keys, formula},
        parse,
    },
    evaluate::{Due, Evaluation, Settings, Universe, evaluate, preview},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};

use super::{
    evaluation::{event, profile},
    store,
};
use crate::support::{histories::now, postgres::Database};

/// Two people: their plans are a number as text, and their computed traits a number and a word.
async fn two() -> Database {
    let database = Database::fresh().await;
    let orders = |revenue: f64| [event("Order Completed", 1, json!({ "revenue": revenue }))];
    let people = [
        profile(json!({"plan": "5", "word": "imported"}), orders(9.5)),
        profile(json!({"plan": "5", "spent": 1}), orders(8.5)),
    ];
    store::insert(&database.pool, &people).await;
    store::insert_values(&database.pool, "spent", &BTreeMap::from([(1, "9".to_owned())])).await;
    store::insert_values(&database.pool, "word", &BTreeMap::from([(2, "\"5\"".to_owned())])).await;
    database
}

fn ask(query: &str) -> Formula {
    let traits = ["spent", "word", "unheard_of"].map(|key| (key.to_owned(), key.to_owned())).into();
    formula(&parse("a", query).unwrap(), &Keys { traits, ..Keys::default() }).unwrap()
}

async fn evaluated(conn: &mut PgConnection, formulas: &[Formula], settings: &Settings) -> Evaluation {
    let keys: Vec<String> = (0..formulas.len()).map(|n| format!("a{n}")).collect();
    let universe = Universe::users(false);
    let due: Vec<_> =
        formulas.iter().zip(&keys).map(|(formula, key)| Due { key, formula, universe: &universe }).collect();
    let stored = HashMap::from([("spent", [1]), ("word", [2])]);
    let stored = stored.into_iter().map(|(key, ids)| (key.to_owned(), RoaringBitmap::from_iter(ids))).collect();
    evaluate(conn, now(), &due, &stored, settings).await.unwrap()
}

/// Who is in each, or why that is not known.
fn outcomes(evaluation: Evaluation) -> Vec<Result<Vec<u32>, (Kind, String)>> {
    let told = |error: rollcall::Error| (error.kind, format!("{} {}", error.message, error.help.unwrap_or_default()));
    evaluation.audiences.into_iter().map(|(_, members)| members.map(|of| of.iter().collect()).map_err(told)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_fails_leaves_the_values_to_the_others() {
    let database = two().await;
    database.read_numbers_slowly().await;
    let formulas = [
        ask("trait('plan') > trait('spent')"),
        ask("trait('plan') = trait('word')"),
        ask("event('Order Completed').where(property('revenue') > trait('spent')).count() >= 1"),
        ask("trait('plan') = trait('unheard_of')"),
    ];
    let settings = Settings { statement_timeout_ms: 1_000, ..Settings::default() };
    let mut conn = database.pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
    let evaluation = evaluated(&mut tx, &formulas, &settings).await;
    assert_eq!(evaluation.statistics.statements, 3, "none of them is part of a scan, and one was not asked");
    let outcomes = outcomes(evaluation);
    assert!(outcomes[0].as_ref().is_err_and(|(kind, _)| *kind == Kind::Wait), "{outcomes:?}");
    assert_eq!(outcomes[1..3], [Ok(vec![2]), Ok(vec![1])]);
    assert!(outcomes[3].as_ref().is_err_and(|(_, said)| said.contains("`unheard_of`, which has no values yet")));
    let timeout: String =
        sqlx::query_scalar("select current_setting('statement_timeout')").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(timeout, "0", "the transaction goes on, with its own time limit");
    tx.commit().await.unwrap();
    let left: bool = sqlx::query_scalar("select to_regclass('pg_temp.rollcall_computed') is null")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert!(left, "the table goes with the transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_compared_to_its_last_digit_wherever_it_is_read() {
    let database = Database::fresh().await;
    let number = "123456789012345678901.5";
    store::insert(&database.pool, &[profile(json!({ "promised": number }), [])]).await;
    store::insert_values(&database.pool, "spent", &BTreeMap::from([(1, number.to_owned())])).await;
    let totals = format!("{{\"deep\":{number}}}");
    store::insert_values(&database.pool, "word", &BTreeMap::from([(1, totals)])).await;
    let mut asked = Vec::new();
    for key in ["spent", "word.deep"] {
        asked.extend([
            ask(&format!("trait('{key}') = {number}")),
            ask(&format!("trait('{key}') > 123456789012345678901.4")),
            ask(&format!("trait('{key}') = 123456789012345678901")),
            ask(&format!("trait('{key}') = trait('promised')")),
            ask(&format!("trait('promised') > trait('{key}')")),
        ]);
    }
    let mut conn = database.pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
    let outcomes = outcomes(evaluated(&mut tx, &asked, &Settings::default()).await);
    let members: Vec<bool> = outcomes.into_iter().map(|members| members.unwrap() == [1]).collect();
    assert_eq!(members, [true, true, false, true, false].repeat(2));
}

async fn previewed(pool: &PgPool, formula: &Formula) -> Result<Vec<u32>, String> {
    let members = preview::members(pool, formula, &Universe::users(false), now()).await.map(|found| found.members);
    members
        .map(|of| of.iter().collect())
        .map_err(|error| format!("{} {}", error.message, error.help.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_create_temporary_tables_is_told_what_to_grant_where_it_matters() {
    let database = two().await;
    let role = format!("no_temp_{}", std::process::id());
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&database.pool).await.unwrap();
    let grants = format!(
        "create role {role}; grant select on all tables in schema public to {role};
         revoke temporary on database \"{name}\" from public"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&database.pool).await.unwrap();
    let options = database.pool.connect_options().as_ref().clone().options([("role", role.as_str())]);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let formulas = [
        ask("trait('spent') >= 9"),
        ask("trait('spent') > trait('plan')"),
        ask("event('Order Completed').count() >= 1"),
    ];
    let mut tx = pool.begin_with("begin isolation level repeatable read").await.unwrap();
    let settings = Settings { remember: false, ..Settings::default() };
    let outcomes = outcomes(evaluated(&mut tx, &formulas, &settings).await);
    tx.rollback().await.unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(vec![1]), &Ok(vec![1, 2])));
    let grant = format!("As its owner: grant temporary on database {name} to {role}");
    let Err((Kind::Settings, said)) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(said.contains(&grant), "{said}");
    let said = previewed(&pool, &formulas[1]).await.unwrap_err();
    assert!(said.contains(&grant), "{said}");
    assert_eq!(previewed(&pool, &formulas[0]).await, Ok(vec![1]));

    let grant = format!("grant temporary on database \"{name}\" to {role}");
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(&database.pool).await.unwrap();
    assert_eq!(previewed(&pool, &formulas[1]).await, Ok(vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_reads_computed_traits_where_sessions_write_nothing_by_default() {
    let database = two().await;
    let options = database.pool.connect_options().as_ref().clone().options([("default_transaction_read_only", "on")]);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    assert_eq!(previewed(&pool, &ask("trait('spent') > trait('plan')")).await, Ok(vec![1]));
    assert_eq!(previewed(&pool, &ask("trait('plan') = trait('word')")).await, Ok(vec![2]));
    let without = ask("event('Order Completed').where(trait('spent').absent()).count() >= 1");
    assert_eq!(previewed(&pool, &without).await, Ok(vec![2]), "whoever has no value is asked about, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_that_reads_computed_traits_can_write_to_no_other_table() {
    let database = two().await;
    let writes = "create table written (value text);
                  create or replace function rollcall_number(value text) returns numeric language plpgsql as
                  $$ begin insert into written values (value); return 1; end $$";
    sqlx::raw_sql(writes).execute(&database.pool).await.unwrap();
    let said = previewed(&database.pool, &ask("trait('plan') > trait('spent')")).await.unwrap_err();
    assert!(said.contains("25006"), "a transaction that is read only: {said}");
}
