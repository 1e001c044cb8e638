//! Is the database's schema the one this program was written for? It is brought up to date, or we refuse.

use sqlx::{
    PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
};

use crate::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Applies the migrations that are missing. Safe to call from several processes at once: sqlx holds an advisory lock.
///
/// A database that a newer program has changed is refused, not touched.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    MIGRATIONS.run(pool).await.map_err(|error| match error {
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
