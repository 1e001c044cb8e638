//! SQL audiences whose statement runs in another Postgres than the store's: its people are told, and its trouble is its own.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{World, order, users};
use crate::support::postgres::Database;

/// A store that knows ann, bob and 7, and somebody's subscriptions in another database.
struct Two {
    world: World,
    billing: Database,
}

impl Two {
    async fn new() -> Two {
        let (world, billing) = (World::new("").await, Database::bare().await);
        world.import(&[
            order("ann", "1", "2024-05-01T00:00:00Z", 10.0),
            json!({"type": "identify", "userId": "bob", "messageId": "2", "traits": {"plan": "pro"}}),
            json!({"type": "identify", "userId": "7", "messageId": "3"}),
        ]);
        let two = Two { world, billing };
        two.there(
            "create table subscriptions (user_id text, account bigint, active boolean);
             insert into subscriptions values ('ann', 1, true), ('bob', 2, true), ('stranger', 3, true), (null, 4, true), ('7', 7, false)",
        )
        .await;
        two
    }

    async fn there(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.billing.pool).await.unwrap();
    }

    /// Two audiences in `billing`, one in a database that is away, one of the store.
    fn configure(&self, user: &str, first: &str, second: &str) {
        let url = self.billing.url_as(user);
        self.world.configure(&format!(
            "
  - {{name: Subscribers, sql: {first:?}, source: billing}}
  - {{name: Idle Subscribers, query: \"trait('subscribers') = 'true' AND event('Order Completed').count() = 0\"}}
  - {{name: Paused, sql: {second:?}, source: billing}}
  - {{name: Lost, sql: select 'ann', source: away}}
  - {{name: Lost Too, sql: select 'bob', source: away}}
  - {{name: Buyers, query: \"event('Order Completed').count() >= 1\"}}
sources:
  billing: {{database: {url:?}}}
  away: {{database: \"postgres://nobody@127.0.0.1:1/nothing\"}}
"
        ));
    }
}

const ACTIVE: &str = "select user_id from subscriptions where active;";
const PAUSED: &str = "select account from subscriptions where not active";

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_statement_in_another_database_yields_is_told_by_a_role_that_may_only_select() {
    let two = Two::new().await;
    let role = format!("billing_reader_{}", std::process::id());
    let grant = format!("create role {role} login; grant select on subscriptions to {role}");
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(&two.billing.pool).await.unwrap();
    two.configure(&role, ACTIVE, PAUSED);
    let world = &two.world;
    let preview = world.json(&["preview", "--sql", ACTIVE, "--source", "billing"]);
    assert_eq!(preview["members"], 2, "strangers and null are nobody");

    let failed = two.world.failures();
    assert_eq!(failed.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["lost", "lost_too"]);
    for (_, error) in &failed {
        assert!(error.contains("the database of the source 'away' cannot be reached"), "{error}");
    }
    let fold = world.fold();
    assert_eq!((&fold["subscribers"], &fold["idle_subscribers"]), (&users(["ann", "bob"]), &users(["bob"])));
    assert_eq!((&fold["paused"], &fold["buyers"]), (&users(["7"]), &users(["ann"])), "whole numbers are ids as well");

    two.there("update subscriptions set active = not active where user_id in ('bob', '7')").await;
    two.world.failures();
    let fold = world.fold();
    assert_eq!((&fold["subscribers"], &fold["paused"]), (&users(["7", "ann"]), &users([])), "account 2 is nobody's id");

    let why = world.json(&["explain", "subscribers", "7"]);
    assert_eq!((&why["member"], &why["reason"]["text"]), (&json!(true), &json!("the statement yields this user")));
    assert_eq!(world.json(&["explain", "subscribers", "bob"])["member"], false);
    let stored: Vec<String> =
        sqlx::query_scalar("select query from definitions").fetch_all(&world.db.pool).await.unwrap();
    assert!(stored.contains(&format!("{ACTIVE}\n-- source: billing")), "{stored:?}");
    assert!(!stored.iter().any(|query| query.contains("postgres://")), "where it is, is not kept");

    let checked = world.command(&["check", "--json"]).output().unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    for said in ["source 'billing'", "may be read", "the database of the source 'away' cannot be reached"] {
        assert!(checked.contains(said), "{said}: {checked}");
    }
    let pull = world.run(&["pull", "billing"]);
    assert!(String::from_utf8_lossy(&pull.stderr).contains("no query for the source 'billing'"), "{pull:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_there_stops_its_own_audience_and_nothing_is_written_there() {
    let two = Two::new().await;
    two.there(
        "create function intrude() returns text language plpgsql as
         $$ begin delete from subscriptions; return 'ann'; end $$",
    )
    .await;
    let own = two.billing.options().get_username().to_owned();
    for (statement, said) in [
        ("select user_id, active from subscriptions", "the statement yields 2 columns, and one is wanted"),
        ("select active from subscriptions", "the statement yields `active` of the type bool, which is no user id"),
        (
            "select user_id from subscribers",
            "the statement fails: there is no such table: `subscribers`, at line 1, column 21 (SQLSTATE 42P01)",
        ),
        ("select user_id from subscriptions; delete from subscriptions", "the statement fails: a syntax error"),
        ("select user_id from subscriptions) r; commit; delete from subscriptions; --", "the statement fails"),
        ("select intrude()", "the statement fails: it would write, where nothing may be written"),
        ("select (1 / (random() * 0)::int)::text", "the statement fails: a division by zero"),
    ] {
        two.configure(&own, statement, PAUSED);
        let failed = two.world.failures();
        let keys: Vec<&str> = failed.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["idle_subscribers", "lost", "lost_too", "subscribers"], "{statement}");
        assert!(failed[3].1.contains(said), "{statement}: {}", failed[3].1);
    }
    let left: i64 =
        sqlx::query_scalar("select count(*) from subscriptions").fetch_one(&two.billing.pool).await.unwrap();
    assert_eq!(left, 5);
    // The other statement of the same database was asked after the failed one, on the same session.
    let fold = two.world.fold();
    assert_eq!(fold.keys().collect::<Vec<_>>(), ["buyers", "paused"]);
    assert_eq!(fold["paused"], users(["7"]));
}
