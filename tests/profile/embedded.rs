//! The Postgres that we start ourselves.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rollcall::embedded::{Binaries, Embedded, EmbeddedOptions};
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

/// Server binaries whose `initdb` writes down what it was asked to do.
fn watched(folder: &Path) -> Binaries {
    let installed = Binaries::default().installed;
    let newest = installed.iter().rfind(|bin| bin.join("initdb").exists()).expect("PostgreSQL is on this machine");
    let real = fs::canonicalize(newest.join("postgres")).unwrap();
    let real = real.parent().unwrap();
    let script =
        format!("#!/bin/sh\necho \"$@\" > {}\nexec {}/initdb \"$@\"\n", folder.join("asked").display(), real.display());
    fs::write(folder.join("initdb"), script).unwrap();
    fs::write(folder.join("postgres"), format!("#!/bin/sh\nexec {}/postgres \"$@\"\n", real.display())).unwrap();
    for name in ["initdb", "postgres"] {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    Binaries { installed: vec![folder.to_owned()], origin: None }
}

#[tokio::test]
async fn what_is_to_last_is_written_out_when_it_is_made_and_whenever_it_changes() {
    for durable in [true, false] {
        let above = crate::support::server::folder();
        let bin = above.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // Whoever the server runs as writes it.
        fs::write(bin.join("asked"), "").unwrap();
        fs::set_permissions(bin.join("asked"), fs::Permissions::from_mode(0o666)).unwrap();
        let options = EmbeddedOptions { folder: above.path().join("postgres"), durable };
        let server = Embedded::start_with(watched(&bin), options).await.unwrap();
        let asked = fs::read_to_string(bin.join("asked")).unwrap();
        assert!(asked.contains("-D "), "initdb was watched: {asked}");
        assert_eq!(!asked.contains("--no-sync"), durable, "{asked}");
        let mut connection = server.options().connect().await.unwrap();
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let is: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert_eq!(is == "on", durable, "{setting} is {is}");
        }
        server.stop().await.unwrap();
    }
}
