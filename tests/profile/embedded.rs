//! The Postgres that we start ourselves.

use rollcall::embedded::{Embedded, EmbeddedOptions};
use sqlx::{ConnectOptions, PgPool, postgres::PgConnectOptions};

use crate::support::postgres::Database;

#[tokio::test]
async fn a_fresh_database_is_migrated() {
    let database = Database::fresh().await;
    assert_eq!(super::count(&database.pool, "select count(*) from profiles").await, 0);
}

#[tokio::test]
async fn many_may_migrate_at_once() {
    let database = Database::bare().await;
    let pools: Vec<PgPool> = (0..4).map(|_| PgPool::connect_lazy_with(database.options())).collect();
    let (a, b, c, d) = tokio::join!(
        rollcall::database::migrate(&pools[0]),
        rollcall::database::migrate(&pools[1]),
        rollcall::database::migrate(&pools[2]),
        rollcall::database::migrate(&pools[3]),
    );
    for done in [a, b, c, d] {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let database = Database::fresh().await;
    sqlx::query("insert into _sqlx_migrations values (9999, 'from the future', now(), true, '', 0)")
        .execute(&database.pool)
        .await
        .unwrap();
    let refused = rollcall::database::migrate(&database.pool).await.unwrap_err();
    assert!(refused.message.contains("newer Rollcall") && refused.message.contains("9999"), "{refused}");
}

#[tokio::test]
async fn a_second_start_on_the_same_folder_joins_and_leaves_it_running() {
    let above = tempfile::tempdir().unwrap();
    std::fs::set_permissions(above.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let deep =
        "a/folder with a name so long that its path does not fit a socket's address, as happens deep in home folders";
    let options = EmbeddedOptions { folder: above.path().join(deep).join("postgres"), durable: false };
    let first = Embedded::start(options.clone()).await.unwrap();
    let second = Embedded::start(options.clone()).await.unwrap();
    assert!(!first.is_joined() && second.is_joined());
    assert_eq!(first.url(), second.url());
    second.stop().await.unwrap();
    first.url().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    first.stop().await.unwrap();

    // A kill leaves postmaster.pid; its number may since have passed to a process that is no Postgres.
    let stale = format!("{}\n/x\n0\n5432\n/nowhere\n\n", std::process::id());
    std::fs::write(options.folder.join("data/postmaster.pid"), stale).unwrap();
    let third = Embedded::start(options).await.unwrap();
    assert!(!third.is_joined());
    third.stop().await.unwrap();
}
