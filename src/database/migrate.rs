//! Is the database's schema the one this program was written for? It is brought up to date, or we refuse.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
};

use tokio::time::{Instant, sleep};

use crate::{Error, Result, database};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long one try waits for a lock. Whoever comes after a statement that waits for a table's lock waits as well: not for long.
const LOCK_SECONDS: u64 = 5;
/// For how long it is tried again while others have the tables, or migrate.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two tries, in which others come to their turn.
const PAUSE: Duration = Duration::from_millis(500);

/// Applies the migrations that are missing. Safe to call from several processes at once: sqlx holds an advisory lock, in a session of
/// its own here, so that it ends with it. Each step is a transaction with the row that says it is done: killed amid one, it is made anew.
///
/// A database that a newer program has changed is refused, not touched.
///
/// # Errors
/// If a lock is not to be had within two minutes, if the role may not make tables, or if the schema is another program's.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt(pool).await {
            Err(error) if is_about_locks(&error) && Instant::now() < deadline => sleep(PAUSE).await,
            Err(error) if is_about_locks(&error) => {
                return Err(Error::wait("the database's schema is locked by others for too long").because(error).help(
                    "Another instance is migrating, or a session has a table of Rollcall's locked: see pg_stat_activity.",
                ));
            }
            done => return done,
        }
    }
}

async fn attempt(pool: &PgPool) -> Result<()> {
    let mut session = database::connect(&pool.connect_options()).await?;
    let bound = format!("set lock_timeout = '{LOCK_SECONDS}s'");
    sqlx::raw_sql(AssertSqlSafe(bound)).execute(&mut session).await?;
    MIGRATIONS.run(&mut session).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => Error::settings(format!(
            "the database was set up by a newer Rollcall (its schema has step {version}, which this one does not know)"
        ))
        .help("Run the newer program, or use another database; a schema never goes back."),
        MigrateError::VersionMismatch(version) => Error::settings(format!(
            "step {version} of the database's schema is not the one this program would have made"
        ))
        .help("It was made by a program between releases: import again into a new database."),
        MigrateError::Dirty(version) => {
            Error::settings(format!("step {version} of the database's schema was left half-made"))
                .help("Import again into a new database, or mend it by hand and its row in _sqlx_migrations.")
        }
        MigrateError::Execute(error) => Error::from(error),
        MigrateError::ExecuteMigration(error, _) if is_locked(&error) => Error::from(error),
        other => Error::settings("the database's schema could not be brought up to date")
            .help("The role needs the right to create tables in the first schema of its search_path.")
            .because(other),
    })
}

/// Refuses a standby: nothing can be stored there, and its snapshots are no watermark.
///
/// # Errors
/// If it is one, or the database cannot be asked.
pub async fn refuse_standby(connection: &mut PgConnection) -> Result<()> {
    match sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(connection).await? {
        true => Err(standby()),
        false => Ok(()),
    }
}

/// What is said of a standby.
pub fn standby() -> Error {
    Error::settings("this database is a standby, which can only be read").help(
        "Name the primary by --database, DATABASE_URL or `database`; after a failover, promote the standby first.",
    )
}

fn is_about_locks(error: &Error) -> bool {
    error.sqlstate() == Some("55P03")
}

fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

/// The newest step of the schema that this program knows.
pub fn newest_step() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Whether the database's schema is this program's. So is a newer one, which a newer instance has made: it only adds, and this one
/// works on until it is replaced.
///
/// # Errors
/// If the database cannot be asked.
pub async fn is_current(pool: &PgPool) -> Result<bool> {
    let step: Option<i64> =
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(pool).await?;
    Ok(step.unwrap_or(0) >= newest_step())
}
