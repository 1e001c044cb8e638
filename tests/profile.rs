//! The profile store: what is imported is there, once, whatever happens on the way.

use rollcall::embedded::{Embedded, EmbeddedOptions};
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use crate::support::postgres::Database;

#[tokio::test]
async fn a_fresh_database_is_migrated() {
    let database = Database::fresh().await;
    let profiles: i64 = sqlx::query_scalar("select count(*) from profiles").fetch_one(&database.pool).await.unwrap();
    assert_eq!(profiles, 0);
}

#[tokio::test]
async fn a_second_start_on_the_same_folder_joins_and_leaves_it_running() {
    let above = tempfile::tempdir().unwrap();
    std::fs::set_permissions(above.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let options = EmbeddedOptions { folder: above.path().join("a/folder with a name so long that its path does not fit a socket's address, as happens deep in home folders/postgres"), durable: false };
    let first = Embedded::start(options.clone()).await.unwrap();
    let second = Embedded::start(options.clone()).await.unwrap();
    assert!(!first.is_joined() && second.is_joined());
    assert_eq!(first.url(), second.url());
    second.stop().await.unwrap();
    first.url().parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    first.stop().await.unwrap();

    // A kill leaves postmaster.pid; here it names a process that is not a Postgres.
    std::fs::write(
        options.folder.join("data/postmaster.pid"),
        format!("{}\n/x\n0\n5432\n/nowhere\n\n", std::process::id()),
    )
    .unwrap();
    let third = Embedded::start(options).await.unwrap();
    assert!(!third.is_joined());
    third.stop().await.unwrap();
}
