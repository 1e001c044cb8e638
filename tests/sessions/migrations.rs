//! A schema is brought up to date though whoever does it dies, and without standing in the way of those who work on it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rollcall::{database, limits};

use crate::{
    serve::Instance,
    support::{
        kafka::{self, PATIENCE},
        postgres::Database,
    },
    sync::World,
};

async fn until(db: &Database, what: &str, sql: &'static str) {
    let deadline = Instant::now() + PATIENCE;
    while !sqlx::query_scalar::<_, bool>(sql).fetch_one(&db.pool).await.unwrap() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const AMID: &str =
    "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')";

/// Fault row 13: killed amid a migration.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_amid_a_step_is_completed_by_the_next_program() {
    let topic = kafka::topic(kafka::broker(), "audiences", 1);
    let world = World { db: Database::bare().await, topic, folder: tempfile::tempdir().unwrap() };
    world.configure("");
    // From some step on it hangs: half of that step's statements are done.
    sqlx::raw_sql(
        "create function hang() returns event_trigger language plpgsql as
             $$ begin if to_regclass('runs') is not null then perform pg_sleep(600); end if; end $$;
         create event trigger hang on ddl_command_start when tag in ('CREATE TABLE') execute function hang()",
    )
    .execute(&world.db.pool)
    .await
    .unwrap();
    let mut killed = Instance::run(&world, "killed", world.command(&["runs", "--color", "never"]));
    until(&world.db, "the migration hangs", AMID).await;
    killed.signal(Signal::SIGKILL);
    kafka::eventually("it is dead", || killed.ended());
    // Its session has the lock of those who migrate: it must not outlive the program that asked, busy as it is.
    until(&world.db, "its session ends", "select not exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')").await;
    let done: Vec<(i64, bool)> =
        sqlx::query_as("select version, success from _sqlx_migrations").fetch_all(&world.db.pool).await.unwrap();
    assert!(!done.is_empty() && done.iter().all(|(_, success)| *success), "whole steps alone: {done:?}");
    assert!((done.len() as i64) < database::newest_step(), "{done:?}");
    assert!(!database::is_current(&world.db.pool).await.unwrap());

    sqlx::raw_sql("drop event trigger hang; drop function hang()").execute(&world.db.pool).await.unwrap();
    let again = world.run(&["runs"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(database::is_current(&world.db.pool).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_table_lets_others_read_it_and_is_done_in_the_end() {
    let db = Database::fresh().await;
    // As if that step were still to come.
    sqlx::raw_sql(
        "delete from _sqlx_migrations where version = 14;
         alter table backfill_rests drop column last_merge; alter table deltas drop column identified_since",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let is_done = async || -> bool {
        let done = "select exists (select from _sqlx_migrations where version = 14)";
        sqlx::query_scalar(done).fetch_one(&db.pool).await.unwrap()
    };
    let mut reader = database::connect(&db.options()).await.unwrap();
    sqlx::raw_sql("set idle_in_transaction_session_timeout = 0; begin; select from deltas")
        .execute(&mut reader)
        .await
        .unwrap();
    let others = async {
        let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
        until(&db, "it waits for the table", waits).await;
        let since = Instant::now();
        sqlx::query("select count(*) from deltas").execute(&db.pool).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(limits::LOCK_SECONDS / 2), "{:?}", since.elapsed());
        assert!(!is_done().await, "the table is still another's");
        sqlx::raw_sql("commit").execute(&mut reader).await.unwrap();
    };
    let (migrated, ()) = tokio::join!(database::migrate(&db.pool), others);
    migrated.unwrap();
    assert!(is_done().await);
}
