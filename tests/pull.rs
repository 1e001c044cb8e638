//! SQL sources: rows become people and events, each once, however late a transaction commits and wherever a pull stops.

mod killed;
mod statements;

use std::time::{Duration, Instant};

use rollcall::{
    Error,
    clock::Clock,
    config::{self, Config, Surroundings},
    lease::Instance,
    profile::{pulled, refused},
    pull,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio::sync::Notify;

use crate::{
    support::{kafka::PATIENCE, postgres::Database},
    sync::World,
};

/// A store, and somebody's tables in another database.
struct Shop {
    store: Database,
    tables: Database,
    instance: Instance,
}

impl Shop {
    async fn with(sql: &'static str) -> Shop {
        let (store, tables) = (Database::fresh().await, Database::bare().await);
        sqlx::raw_sql(sql).execute(&tables.pool).await.unwrap();
        let instance = Instance::new(store.pool.clone(), Clock::system()).await.unwrap();
        Shop { store, tables, instance }
    }

    /// A configuration with one source, `s`, of which `of` is given in YAML's short form.
    fn config(&self, of: &str) -> Config {
        configured(&format!("sources: {{s: {{database: {:?}, {of}}}}}", self.tables.url()))
    }

    async fn pull(&self, config: &Config) -> Result<pulled::Summary, Error> {
        pull::pull(&self.instance, config, "s", |_| {}).await
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.store.pool).await.unwrap()
    }

    async fn events(&self) -> i64 {
        self.count("select count(*) from events").await
    }

    async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.tables.pool).await.unwrap();
    }
}

fn configured(text: &str) -> Config {
    let around = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    config::parse("rollcall.yaml", text, &around).unwrap_or_else(|error| panic!("{error}: {:?}", error.problems))
}

/// Polls until it is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn traits(store: &PgPool, user: &str) -> Value {
    let traits: Option<Value> = sqlx::query_scalar(
        "select p.traits from profiles p join identifiers i on i.profile_id = p.id where i.type = 'user_id' and i.value = $1",
    )
    .bind(user)
    .fetch_optional(store)
    .await
    .unwrap();
    traits.unwrap_or_default()
}

const CUSTOMERS: &str = "
  - {name: Pros, query: \"trait('plan') = 'pro'\"}
sources:
  customers:
    query: select id, plan, city from customers
    profiles: {user_id: id}
";

#[tokio::test(flavor = "multi_thread")]
async fn people_are_read_whole_and_who_vanishes_leaves_the_audience() {
    let world = World::new(CUSTOMERS).await;
    let run = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(&world.db.pool).await.unwrap();
    };
    run("create table customers (id bigint primary key, plan text, city text);
         insert into customers values (1, 'pro', 'Rome'), (2, 'pro', null), (3, 'free', 'Oslo'), (10, 'pro', 'Bonn')")
    .await;
    let pull = || world.json(&["pull"])["pulled"][0].clone();
    let first = pull();
    assert_eq!((&first["rows"], &first["stored"], &first["refused"]), (&json!(4), &json!(4), &json!(0)));
    world.json(&["sync"]);
    assert_eq!(world.fold()["pros"], ["1", "10", "2"].map(String::from).into());
    assert_eq!(traits(&world.db.pool, "2").await, json!({"plan": "pro"}), "null is no trait");

    let again = pull();
    assert_eq!((&again["stored"], &again["unchanged"]), (&json!(0), &json!(4)));

    // There and back again is two changes, though the second says what was said before.
    for plan in ["update customers set plan = 'free' where id = 1", "update customers set plan = 'pro' where id = 1"] {
        run(plan).await;
        assert_eq!(pull()["stored"], 1);
    }
    assert_eq!(traits(&world.db.pool, "1").await, json!({"plan": "pro", "city": "Rome"}));

    run("delete from customers where id in (2, 10); insert into customers values (4, 'pro', 'Rome')").await;
    let gone = pull();
    assert_eq!((&gone["vanished"], &gone["unchanged"]), (&json!(2), &json!(2)), "{gone}");
    assert_eq!(traits(&world.db.pool, "10").await, json!({}));
    world.json(&["sync"]);
    assert_eq!(world.fold()["pros"], ["1", "4"].map(String::from).into());

    // Of whom nothing is taken in, nothing is kept.
    world.json(&["forget", "user_id:4"]);
    assert_eq!(pull()["suppressed"], 1);
    let kept: Vec<String> =
        sqlx::query_scalar("select key from source_rows order by key").fetch_all(&world.db.pool).await.unwrap();
    assert_eq!(kept, ["1", "3"]);

    // All of it is gone: also beyond the last page.
    run("truncate customers").await;
    assert_eq!(pull()["vanished"], 2);
    world.json(&["sync"]);
    assert!(world.fold()["pros"].is_empty());
    let listed = world.json(&["sources"]);
    assert_eq!(
        (&listed[0]["source"], &listed[0]["rows"], &listed[0]["error"]),
        (&json!("customers"), &json!(0), &Value::Null)
    );
}

const ORDERS: &str = "
    create table orders (id bigint primary key, customer text, total numeric, placed_at timestamptz default now(),
                         changed_in xid8 default pg_current_xact_id());
    create index on orders (placed_at)";
const ORDER_EVENTS: &str = "events: {name: Order Completed, user_id: customer, timestamp: placed_at, message_id: id}";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_committed_late_is_read_and_each_row_counts_once() {
    let shop = Shop::with(ORDERS).await;
    let insert = "insert into orders (id, customer, total) values";
    for (n, (query, cursor)) in [
        ("select id, customer, total, placed_at, changed_in from orders", "cursor: {xid: changed_in}"),
        ("select id, customer, total, placed_at, xmin from orders", "cursor: {xid: xmin}"),
        ("select id, customer, total, placed_at, placed_at as at from orders", "cursor: {column: at}"),
        ("select id, customer, total, placed_at, id as n from orders", "cursor: {column: n, lookback: '10'}"),
        // Without looking back it is missed: what the others prove is not by chance.
        ("select id, customer, total, placed_at, id as n from orders", "cursor: {column: n, lookback: '0'}"),
    ]
    .into_iter()
    .enumerate()
    {
        shop.run("truncate orders").await;
        sqlx::raw_sql("truncate events, messages; delete from sources").execute(&shop.store.pool).await.unwrap();
        let config = shop.config(&format!("query: {query:?}, {cursor}, {ORDER_EVENTS}"));
        // The late one has the earliest number and time; part of it is written in a subtransaction.
        let mut late = PgConnection::connect_with(&shop.tables.options()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!(
            "begin; {insert} (1, 'ann', 1); savepoint s; {insert} (2, 'ann', 2); release s"
        )))
        .execute(&mut late)
        .await
        .unwrap();
        shop.run("insert into orders (id, customer, total) values (3, 'bob', 3), (4, 'bob', 4)").await;
        assert_eq!(shop.pull(&config).await.unwrap().stored, 2, "{cursor}");
        shop.run("insert into orders (id, customer, total) values (5, 'bob', 5)").await;
        assert_eq!(shop.pull(&config).await.unwrap().stored, 1, "{cursor}");
        sqlx::raw_sql("commit").execute(&mut late).await.unwrap();
        let found = shop.pull(&config).await.unwrap().stored;
        assert_eq!(found, if n == 4 { 0 } else { 2 }, "{cursor}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = shop.pull(&config).await.unwrap();
            assert_eq!((last.stored, shop.events().await), (0, 3 + found.cast_signed()), "{cursor}");
            if n >= 2 || last.rows == 0 {
                break;
            }
            // A snapshot's oldest transaction may be one of a neighbour's database on the same server.
            assert!(Instant::now() < deadline, "{cursor}: once all have ended nothing is read again");
        }
    }
    let properties: Value = sqlx::query_scalar("select properties from events order by message_id limit 1")
        .fetch_one(&shop.store.pool)
        .await
        .unwrap();
    assert_eq!(properties, json!({"total": 3}), "what says who, when and which is no property");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_cut_off_goes_on_where_its_last_commit_was() {
    let shop = Shop::with(ORDERS).await;
    shop.run(
        "insert into orders (id, customer, total, placed_at)
         select n, 'c' || n % 7, n, '2024-01-01Z'::timestamptz + n * interval '1 s' from generate_series(1, 5000) n",
    )
    .await;
    let query = "select id, customer, total, placed_at, id as n from orders";
    let config = shop.config(&format!("query: {query:?}, cursor: {{column: n, lookback: '100'}}, {ORDER_EVENTS}"));
    let stop = Notify::new();
    tokio::select! {
        biased;
        () = stop.notified() => {}
        ended = pull::pull(&shop.instance, &config, "s", |_| stop.notify_one()) => panic!("it is not cut off: {ended:?}"),
    }
    let place = || async { shop.count("select coalesce(max(position), '0')::bigint from sources").await };
    let reached = place().await;
    assert!((2_000..5_000).contains(&reached), "{reached}");
    let stored = shop.count("select coalesce(max((properties ->> 'total')::bigint), 0) from events").await;
    assert_eq!(stored, reached, "the messages and the place that they were read to are one");
    let rest = shop.pull(&config).await.unwrap();
    let (all, read) = (5_000, rest.rows.cast_signed());
    assert_eq!((read, rest.stored.cast_signed()), (all - reached + 101, all - reached));
    assert_eq!((shop.events().await, place().await), (all, all));

    // Another statement is read from the beginning; what counted counts no more.
    let config = shop.config(&format!("query: \"{query} where true\", cursor: {{column: n}}, {ORDER_EVENTS}"));
    let anew = shop.pull(&config).await.unwrap();
    assert_eq!((anew.rows, anew.stored, anew.repeated), (5_000, 0, 5_000));

    // People, whole: who was told of before the cut is known after it.
    let query = "select 'u' || n as user_id, n as score from generate_series(1, 5000) n";
    let config = shop.config(&format!("query: {query:?}, profiles: {{}}"));
    tokio::select! {
        biased;
        () = stop.notified() => {}
        ended = pull::pull(&shop.instance, &config, "s", |_| stop.notify_one()) => panic!("it is not cut off: {ended:?}"),
    }
    let known = shop.count("select count(*) from source_rows").await;
    assert!((2_000..5_000).contains(&known), "{known}");
    let rest = shop.pull(&config).await.unwrap();
    assert_eq!((rest.unchanged.cast_signed(), rest.stored.cast_signed(), rest.vanished), (known, 5_000 - known, 0));
    let half = shop.config("query: \"select 'u' || n as user_id, n as score from generate_series(1, 5000) n where n % 2 = 0\", profiles: {}");
    assert_eq!(shop.pull(&half).await.unwrap().vanished, 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_message_are_refused_with_reasons_and_stop_nobody() {
    let shop = Shop::with(
        "create table seen (user_id text, at text, what text, id text, note text);
         insert into seen values ('ann', '2024-01-01', 'A', '1', null), (null, '2024-01-01', 'A', '2', null),
             ('ann', 'yesterday', 'A', '3', null), ('ann', null, 'A', '4', null), ('ann', '2024-01-01', null, '5', null),
             ('ann', '2024-01-01', 'A', null, null), ('ann', '2024-01-01', 'A', '7', repeat('x', 40000)),
             ('ann', '2024-01-01', 'A', '8', 'fine'), ('ann', '2024-01-01', 'A', '8', 'twice')",
    )
    .await;
    let config = shop.config("query: select * from seen, events: {name_column: what, timestamp: at, message_id: id}");
    let summary = shop.pull(&config).await.unwrap();
    assert_eq!((summary.rows, summary.stored, summary.repeated, summary.refused), (9, 2, 1, 6));
    let mut refused: Vec<String> = refused::list(&shop.store.pool)
        .await
        .unwrap()
        .into_iter()
        .map(|of| format!("{}: {} {} ({})", of.source, of.field, of.reason, of.messages))
        .collect();
    refused.sort();
    assert_eq!(
        refused,
        [
            "s: event is missing (1)",
            "s: line is too long for a message (1)",
            "s: messageId is missing (1)",
            "s: timestamp is missing (1)",
            "s: timestamp is not an ISO 8601 time, as 2024-01-31T10:20:30Z (1)",
            "s: userId is missing, and anonymousId too: a message needs one of them (1)",
        ]
    );
    let twice =
        shop.config("query: \"select * from (values ('ann', 1), ('ann', 2), (null, 3)) t (user_id, n)\", profiles: {}");
    let summary = shop.pull(&twice).await.unwrap();
    assert_eq!((summary.stored, summary.refused), (1, 2), "one of two rows of a person counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_select_suffices_and_nothing_is_written() {
    let shop = Shop::with(ORDERS).await;
    let role = format!("reader_{}", std::process::id());
    sqlx::raw_sql(AssertSqlSafe(format!(
        "create role {role} login; grant select on orders to {role}; create table secrets (id int);
         insert into orders (id, customer, total) values (1, 'ann', 1);
         create function intrude() returns int language plpgsql as $$ begin delete from orders; return 1; end $$"
    )))
    .execute(&shop.tables.pool)
    .await
    .unwrap();
    let url = |user: &str| {
        shop.tables.url().replace(&format!("//{}@", shop.tables.options().get_username()), &format!("//{user}@"))
    };
    let config = |user: &str, query: &str| {
        configured(&format!(
            "sources: {{s: {{database: {:?}, query: {query:?}, {ORDER_EVENTS}, cursor: {{xid: xmin}}}}}}",
            url(user)
        ))
    };
    let columns = "id, customer, total, placed_at, xmin";
    let summary = shop.pull(&config(&role, &format!("select {columns} from orders"))).await.unwrap();
    assert_eq!(summary.stored, 1);
    let own = shop.tables.options().get_username().to_owned();
    for (user, query, said) in [
        (
            &role,
            "select id, 'x' as customer, 1 as total, now() as placed_at, xmin from secrets".to_owned(),
            "the statement fails: the role lacks a permission: `secrets` (SQLSTATE 42501)",
        ),
        (
            &own,
            format!("select {columns}, intrude() from orders"),
            "it would write, where nothing may be written (SQLSTATE 25006)",
        ),
        (&own, format!("delete from orders returning {columns}"), "syntax error"),
        (&own, format!("select {columns} from orders) r; delete from orders; --"), "the statement fails"),
        (&own, "select id from orders".to_owned(), "the statement yields no column `placed_at`"),
        (
            &own,
            format!("select {columns}, 1 / (total - 1)::int from orders"),
            "the statement fails: a division by zero (SQLSTATE 22012)",
        ),
    ] {
        let error = shop.pull(&config(user, &query)).await.unwrap_err();
        assert!(error.message.contains(said), "{query}: {}", error.message);
    }
    let left: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&shop.tables.pool).await.unwrap();
    assert_eq!(left, 1);
    let progress = pulled::progress(&shop.store.pool).await.unwrap();
    assert_eq!(progress[0].attempts, 6);
    assert!(progress[0].error.as_ref().unwrap().contains("22012") && progress[0].retry_at.is_some());
    let away = configured("sources: {s: {database: 'postgres://u:hush@127.0.0.1:1/x', query: select 1, profiles: {}}}");
    let error = shop.pull(&away).await.unwrap_err();
    assert!(error.message.contains("cannot be reached") && !format!("{error:?}").contains("hush"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_pull_stores_nothing_once_a_later_one_has_begun() {
    let shop = Shop::with("").await;
    let pool = &shop.store.pool;
    let first = pulled::begin(pool, "s", "x").await.unwrap();
    let rules = std::sync::Arc::default();
    let mut writer = pulled::Writer::new(pool, &Clock::system(), "s", first.pull, &rules).await.unwrap();
    let mut summary = pulled::Summary::new("s");
    let write = pulled::Settle::Position(Some("1"));
    writer.write(pulled::Page::default(), write, &mut summary).await.unwrap();
    let second = pulled::begin(pool, "s", "x").await.unwrap();
    assert_eq!((second.pull, second.position.as_deref()), (2, Some("1")));
    let error =
        writer.write(pulled::Page::default(), pulled::Settle::Position(Some("2")), &mut summary).await.unwrap_err();
    assert!(error.message.contains("a later pull"), "{error}");
    assert!(writer.finish(Clock::system().now(), &pulled::Kept::default(), &summary).await.is_err());
    assert_eq!(shop.count("select position::bigint from sources").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_pulls_by_the_schedule_and_one_that_fails_stops_only_itself() {
    let shop = Shop::with(ORDERS).await;
    shop.run("insert into orders (id, customer, total) values (1, 'ann', 1)").await;
    let url = shop.tables.url();
    let query = "select id, customer, total, placed_at from orders";
    let config = configured(&format!(
        "sources:\n  s: {{database: {url:?}, query: {query:?}, {ORDER_EVENTS}, schedule: every 1s}}\n  \
         wrong: {{database: {url:?}, query: select 1, profiles: {{}}, schedule: every 1s}}\n  \
         off: {{database: {url:?}, query: {query:?}, {ORDER_EVENTS}, schedule: every 1s, enabled: false}}"
    ));
    let now = Clock::system().now();
    assert_eq!(pull::due(&shop.store.pool, &config, now).await.unwrap(), ["s", "wrong"]);
    let server =
        rollcall::serve::Server::start(shop.store.pool.clone(), Clock::system(), config.clone()).await.unwrap();
    until(async || shop.events().await == 1).await;
    shop.run("insert into orders (id, customer, total) values (2, 'ann', 1)").await;
    until(async || shop.events().await == 2).await;
    until(async || {
        let all = pulled::progress(&shop.store.pool).await.unwrap();
        all.iter().any(|of| of.source == "wrong" && of.error.is_some())
    })
    .await;
    server.stop().await;
    let all = pulled::progress(&shop.store.pool).await.unwrap();
    assert_eq!(all.iter().map(|of| of.source.as_str()).collect::<Vec<_>>(), ["s", "wrong"]);
    let retry_at = all[1].retry_at.unwrap();
    assert_eq!(
        pull::due(&shop.store.pool, &config, retry_at - chrono::TimeDelta::milliseconds(1)).await.unwrap(),
        ["s"]
    );
}
