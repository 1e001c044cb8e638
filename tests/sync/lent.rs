//! SQL traits whose statement runs in another Postgres than the store's: its values are told, and its trouble is its own.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{World, of, order};
use crate::support::postgres::Database;

/// A store that knows ann, bob, and eve by two user ids, and somebody's customers in another database.
struct Two {
    world: World,
    crm: Database,
}

impl Two {
    async fn new() -> Two {
        let (world, crm) = (World::new("").await, Database::bare().await);
        let identify = |user: &str, id: &str, at: &str| {
            let context = json!({"traits": {"email": format!("{user}@example.com")}});
            json!({"type": "identify", "userId": user, "messageId": id, "timestamp": at, "context": context})
        };
        world.import(&[
            order("ann", "1", "2024-05-01T00:00:00Z", 10.0),
            identify("bob", "2", "2024-05-01"),
            identify("eve", "3", "2024-05-01"),
        ]);
        let second = "insert into identifiers (type, value, profile_id, added_at)
                      select type, 'eva', profile_id, added_at + interval '1 day' from identifiers where value = 'eve'";
        sqlx::raw_sql(second).execute(&world.db.pool).await.unwrap();
        let two = Two { world, crm };
        two.there(
            "create table customers (user_id text, clv numeric, grade text, id bigint);
             insert into customers values ('ann', 120.50, 'gold', 1), ('bob', 7, null, 2), ('eve', 1, 'gold', 3), ('eva', 2, 'tin', 4),
                 ('stranger', 9, 'gold', 5), (null, 9, 'gold', 6)",
        )
        .await;
        two
    }

    async fn there(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.crm.pool).await.unwrap();
    }

    /// Two traits in `crm`, which leads to `url`; one in a database that is away, one of the store, and audiences of them.
    fn configure(&self, url: &str, lifetime: &str) {
        self.world.configure(&format!(
            "
  - {{name: Gold, query: \"trait('lifetime.grade') = 'gold'\"}}
  - {{name: Buyers, query: \"event('Order Completed').count() >= 1\"}}
traits:
  - {{name: Lifetime, sql: {lifetime:?}, source: crm}}
  - {{name: Number, sql: \"select user_id, id as number from customers\", source: crm}}
  - {{name: Lost, sql: \"select 'ann' as user_id, 1 as lost\", source: away}}
  - {{name: Orders, query: \"event('Order Completed').count()\"}}
sources:
  crm: {{database: {url:?}}}
  away: {{database: \"postgres://nobody@127.0.0.1:1/nothing\"}}
"
        ));
    }

    /// What was told after the first so many, in a fixed order.
    fn told(&self, from: usize) -> Vec<Value> {
        let mut told: Vec<Value> = self.world.events().iter().skip(from).map(of).collect();
        told.sort_by_key(Value::to_string);
        told
    }
}

const LIFETIME: &str = "select user_id, clv, grade from customers;";

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_statement_in_another_database_are_told_by_a_role_that_may_only_select() {
    let two = Two::new().await;
    let role = format!("crm_reader_{}", std::process::id());
    let grant = format!("create role {role} login; grant select on customers to {role}");
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(&two.crm.pool).await.unwrap();
    two.configure(&two.crm.url_as(&role), LIFETIME);
    let world = &two.world;
    let preview = world.json(&["preview", "--sql", "--trait", LIFETIME, "--source", "crm"]);
    assert_eq!(preview["values"], 3, "strangers and null are nobody: {preview}");
    assert_eq!(preview["sample"][2]["value"], json!({"clv": 2, "grade": "tin"}), "eva came after eve");

    let synced = world.run(&["sync", "lifetime", "number", "gold", "orders"]);
    let said = String::from_utf8_lossy(&synced.stderr).into_owned();
    assert!(synced.status.success(), "{said}");
    assert!(said.contains("the statement yields users that the store does not know"), "{said}");
    let mut expected = vec![
        json!(["ann", {"clv": 120.5, "grade": "gold"}]),
        json!(["bob", {"clv": 7}]),
        json!(["eva", {"clv": 2, "grade": "tin"}]),
        json!(["ann", {"number": 1}]),
        json!(["bob", {"number": 2}]),
        json!(["eva", {"number": 4}]),
        json!(["ann", {"gold": true}]),
        json!(["ann", {"orders": 1}]),
    ];
    expected.sort_by_key(Value::to_string);
    assert_eq!(two.told(0), expected);

    two.there(
        "update customers set grade = 'gold', clv = 7.00 where user_id = 'bob'; delete from customers where user_id = 'ann';
         delete from customers where user_id = 'eva'",
    )
    .await;
    assert!(world.run(&["sync", "lifetime", "gold"]).status.success());
    let mut expected = vec![
        json!(["ann", {"clv": null, "grade": null}]),
        json!(["bob", {"grade": "gold"}]),
        json!(["eva", {"clv": 1, "grade": "gold"}]),
        json!(["ann", {"gold": false}]),
        json!(["bob", {"gold": true}]),
        json!(["eva", {"gold": true}]),
    ];
    expected.sort_by_key(Value::to_string);
    assert_eq!(two.told(8), expected, "the earlier user's row counts where the latest one has none");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_asks_the_statement_there_and_a_plan_shows_another_source() {
    let two = Two::new().await;
    two.configure(&two.crm.url(), LIFETIME);
    let world = &two.world;
    assert_eq!(two.world.failures().len(), 1);
    two.there("update customers set clv = 3 where user_id = 'eva'").await;
    let why = world.json(&["explain", "lifetime", "eve"]);
    assert_eq!(why["values"], json!({"clv": 3, "grade": "tin"}), "{why}");
    assert_eq!(why["values_at_last_run"], json!({"clv": 2, "grade": "tin"}));
    two.there("delete from customers where user_id in ('ann', 'eva')").await;
    assert_eq!(world.json(&["explain", "lifetime", "ann"])["values"], Value::Null);
    assert_eq!(world.json(&["explain", "lifetime", "eve"])["values"], json!({"clv": 1, "grade": "gold"}));
    let past = world.run(&["explain", "lifetime", "ann", "--at", "2024-01-01"]);
    assert!(String::from_utf8_lossy(&past.stderr).contains("which values there are now"), "{past:?}");
    let lost = world.run(&["explain", "lost", "ann"]);
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(said.contains("the database of the source 'away' cannot be reached"), "{said}");
    let checked = world.command(&["check", "--json"]).output().unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.contains("may be read by SQL audiences and traits"), "{checked}");

    let stored: Vec<String> =
        sqlx::query_scalar("select query from definitions").fetch_all(&world.db.pool).await.unwrap();
    assert!(stored.contains(&format!("{LIFETIME}\n-- source: crm")), "{stored:?}");
    assert!(!stored.iter().any(|query| query.contains("postgres://")), "where it is, is not kept");
    let file = world.folder.path().join("rollcall.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let moved = text
        .replacen("source: crm}", "source: other, additive: true}", 1)
        .replace("sources:\n", &format!("sources:\n  other: {{database: {:?}}}\n", two.crm.url()));
    std::fs::write(&file, moved).unwrap();
    let plan = world.command(&["plan", "--json"]).output().unwrap();
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let changed = &plan["audiences"].as_array().unwrap().iter().find(|of| of["key"] == "lifetime").unwrap();
    let query = &changed["fields"][0];
    assert_eq!((&changed["needs_sync"], &query["field"]), (&json!(true), &json!("query")), "{changed}");
    assert_eq!(query["from"], json!(format!("{LIFETIME}\n-- source: crm")));
    assert_eq!(query["to"], json!(format!("{LIFETIME}\n-- source: other\n-- additive")));
    // Ann's row is gone and bob's the same; additive, only eve's other row is told.
    assert_eq!(changed["effect"]["identifies"], json!({"kafka": {"entered": 1, "exited": 0}}), "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_there_stops_its_own_trait_and_nothing_is_written_there() {
    let two = Two::new().await;
    two.there(
        "create function intrude() returns bigint language plpgsql as
         $$ begin delete from customers; return 1; end $$",
    )
    .await;
    let url = two.crm.url();
    for (statement, said) in [
        ("select user_id from customers", "the statement yields 0 columns beside user_id"),
        ("select clv, grade from customers", "the statement yields 0 columns `user_id`, and one is wanted"),
        ("select user_id, user_id, clv from customers", "the statement yields `user_id` twice: as columns 1 and 2"),
        ("select true as user_id, clv from customers", "`user_id` of the type bool, which is no user id"),
        ("select user_id, clv as \"Value\" from customers", "the column `Value` has a name that is no key"),
        ("select user_id, clv + 1 from customers", "the column `?column?` has a name that is no key"),
        ("select user_id, clv, grade as clv from customers", "the statement yields `clv` twice: as columns 2 and 3"),
        (
            "select user_id, clv from clients",
            "the statement fails: there is no such table: `clients`, at line 1, column 26",
        ),
        ("select user_id, clv from customers; delete from customers", "the statement fails: a syntax error"),
        ("select user_id, intrude() as clv from customers", "it would write, where nothing may be written"),
        ("select user_id, 1 / (clv - 7) as clv from customers", "the statement fails: a division by zero"),
        ("select user_id, repeat('x', 20000) as clv from customers", "a row has more than 16384 bytes"),
    ] {
        two.configure(&url, statement);
        let failed = two.world.failures();
        let keys: Vec<&str> = failed.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["gold", "lifetime", "lost"], "{statement}");
        assert!(failed[1].1.contains(said), "{statement}: {}", failed[1].1);
    }
    let left: i64 = sqlx::query_scalar("select count(*) from customers").fetch_one(&two.crm.pool).await.unwrap();
    assert_eq!(left, 6);
    // The other statement of the same database was asked after the failed one, on the same session.
    let told = two.told(0);
    assert!(told.contains(&json!(["eva", {"number": 4}])), "{told:?}");
    assert!(told.contains(&json!(["ann", {"buyers": true}])) && told.len() == 5, "{told:?}");
    // Nor does the store's own database run what would be refused there.
    two.world.configure("traits:\n  - {name: Here, sql: \"select date '2024-01-01' as user_id, 1 as one\"}");
    let failed = two.world.failures();
    assert!(failed[0].1.contains("`user_id` of the type date, which is no user id"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lets_nobody_in_stops_its_own_traits_and_what_was_told_stays() {
    let two = Two::new().await;
    let url = two.crm.url();
    two.configure(&url, LIFETIME);
    two.world.failures();
    let before = two.told(0).len();
    let failing = |said: &str| {
        let failed = two.world.failures();
        let keys: Vec<&str> = failed.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["gold", "lifetime", "lost", "number"], "{failed:?}");
        for (_, error) in [&failed[1], &failed[3]] {
            assert!(error.contains(said), "{error}");
        }
        assert_eq!(two.told(before), [] as [Value; 0]);
    };
    two.configure(&two.crm.url_as("nobody_by_this_name"), LIFETIME);
    failing("the database of the source 'crm' refused the connection");
    two.configure(&url, LIFETIME);
    two.crm.let_in(false).await;
    failing("the database of the source 'crm'");
    two.crm.let_in(true).await;
    assert_eq!(two.world.failures().len(), 1, "it is back");
    assert_eq!(two.told(before), [] as [Value; 0]);
    assert_eq!(two.world.json(&["explain", "gold", "ann"])["member_at_last_run"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_statements_of_a_run_share_one_session_of_their_source() {
    let two = Two::new().await;
    let sql = "select 'ann' as user_id, pg_backend_pid() as pid,
               (select count(*) from pg_stat_activity where datname = current_database() and application_name = 'rollcall') as sessions";
    two.world.configure(&format!(
        "  - {{name: Gold, sql: select 'ann', source: crm}}
traits:
  - {{name: First, sql: {sql:?}, source: crm}}
  - {{name: Second, sql: {sql:?}, source: crm}}
sources:
  crm: {{database: {:?}}}
",
        two.crm.url()
    ));
    two.world.json(&["sync"]);
    let mut told: Vec<Value> = two.world.events().into_iter().map(|event| event["traits"].clone()).collect();
    told.sort_by_key(Value::to_string);
    assert_eq!(told[0], json!({"gold": true}));
    assert_eq!((&told[1]["sessions"], &told[1]), (&json!(1), &told[2]), "the same process there asked for both");
    assert_eq!(told.len(), 3);
}

/// Many users of three pages, several of one profile far apart, twice, null and unknown ones.
const SCORES: &str = "
    create table scores as
        select user_id, n % 9 as score, case when n % 4 > 0 then md5(user_id) end as label, n * 1.50 as price
        from generate_series(1, 25000) n, lateral (values ('u' || n), ('a' || n), ('z' || n), (null)) ids (user_id)
        where user_id is null or hashtext(user_id) % 4 <> 0;
    insert into scores select user_id, score + 1, label, price from scores where score = 3;
    insert into scores select user_id, null, null, null from scores where score = 5 and user_id like 'z%'";

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_gives_the_same_values_in_another_database_as_in_the_stores_own() {
    let two = Two::new().await;
    let people = "
        insert into profiles (id) select generate_series(100001, 125000);
        insert into identifiers (type, value, profile_id, added_at)
            select 'user_id', kind || n, 100000 + n, timestamptz '2024-01-01' + abs(hashtext(kind || n) % 3) * interval '1 day'
            from generate_series(1, 25000) n, unnest(array['u', 'a', 'z']) kind
            where kind = 'u' or hashtext(kind || n) % 5 > 1";
    sqlx::raw_sql(people).execute(&two.world.db.pool).await.unwrap();
    sqlx::raw_sql(SCORES).execute(&two.world.db.pool).await.unwrap();
    two.there(SCORES).await;
    let sql = "sql: \"select score, user_id, label, price from scores\", destinations: []";
    two.world.configure(&format!(
        "  - {{name: Buyers, query: \"event('Order Completed').count() >= 1\"}}\ntraits:\n  - {{name: Here, {sql}}}\n  - {{name: There, {sql}, source: crm}}\nsources:\n  crm: {{database: {:?}}}\n",
        two.crm.url()
    ));
    let synced = two.world.run(&["sync"]);
    assert!(synced.status.success(), "{synced:?}");
    let values = |key: &str| {
        let listed = two.world.run(&["members", key, "--limit", "1000000"]);
        String::from_utf8(listed.stdout).unwrap()
    };
    let (here, there) = (values("here"), values("there"));
    assert!(here.lines().count() > 20_000, "{}", here.lines().count());
    for (here, there) in here.lines().zip(there.lines()) {
        assert_eq!(here, there);
    }
    assert_eq!(here.lines().count(), there.lines().count());
}
