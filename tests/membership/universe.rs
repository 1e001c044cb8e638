//! Who can be a member: profiles with an identifier that counts, whenever it came.

use rollcall::{
    audience::conditions::Formula,
    evaluate::{Due, Settings, Universe, evaluate},
};
use serde_json::json;
use sqlx::{Connection, PgPool};

use super::{evaluation::profile, store};
use crate::support::{histories::now, postgres::Database};

async fn everyone(pool: &PgPool, universe: Universe, settings: &Settings) -> Vec<u32> {
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
    let due = [Due { key: "everyone", formula: &Formula::Everyone, universe: &universe }];
    let evaluation = evaluate(&mut tx, now(), &due, &Default::default(), settings).await.unwrap();
    tx.commit().await.unwrap();
    evaluation.audiences[0].1.as_ref().unwrap().iter().collect()
}

async fn identify(conn: impl sqlx::PgExecutor<'_>, id_type: &str, value: &str, profile: i64) {
    sqlx::query("insert into identifiers (type, value, profile_id, added_at) values ($1, $2, $3, now())")
        .bind(id_type)
        .bind(value)
        .bind(profile)
        .execute(conn)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_of_the_right_type_makes_a_member() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    store::insert(pool, &vec![profile(json!({}), []); 2]).await;
    identify(pool, "anonymous_id", "a", 2).await;
    identify(pool, "anonymous_id", "b", 3).await;
    identify(pool, "email", "c", 4).await;
    let settings = Settings::default();
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 2]);
    assert_eq!(everyone(pool, Universe::users(true), &settings).await, [1, 2, 3]);
    assert_eq!(everyone(pool, Universe::of(["email"]), &settings).await, [4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_that_are_committed_late_are_not_missed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    store::insert(pool, &[profile(json!({}), [])]).await;
    let settings = Settings::default();
    let mut late = pool.begin().await.unwrap();
    identify(&mut *late, "user_id", "late", 7).await;
    // Later by its transaction, earlier by its commit; and one of a subtransaction.
    identify(pool, "user_id", "early", 5).await;
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 5]);
    sqlx::raw_sql("savepoint s").execute(&mut *late).await.unwrap();
    identify(&mut *late, "user_id", "later", 8).await;
    late.commit().await.unwrap();
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 5, 7, 8]);
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 5, 7, 8], "nothing is lost on the way");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_identifiers_that_came_are_read_and_a_cache_of_another_cluster_is_not_believed() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    store::insert(pool, &vec![profile(json!({}), []); 3]).await;
    let settings = Settings::default();
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 2, 3]);
    // A cache that lies shows that it is what is read.
    sqlx::raw_sql("delete from identifiers where profile_id = 2").execute(pool).await.unwrap();
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 2, 3]);
    sqlx::raw_sql("update universes set system_identifier = 0").execute(pool).await.unwrap();
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [1, 3]);
    sqlx::raw_sql("delete from identifiers where profile_id = 1; delete from universes").execute(pool).await.unwrap();
    assert_eq!(everyone(pool, Universe::users(false), &settings).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_writes_nothing() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    store::insert(pool, &[profile(json!({}), [])]).await;
    let settings = Settings { remember: false, ..Settings::default() };
    let mut conn = pool.acquire().await.unwrap();
    let mut tx = conn.begin_with("begin isolation level repeatable read, read only").await.unwrap();
    let universe = Universe::users(false);
    let due = [Due { key: "everyone", formula: &Formula::Everyone, universe: &universe }];
    let evaluation = evaluate(&mut tx, now(), &due, &Default::default(), &settings).await.unwrap();
    assert_eq!(evaluation.audiences[0].1.as_ref().unwrap().len(), 1);
}
