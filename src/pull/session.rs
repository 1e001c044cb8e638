//! How is somebody's Postgres asked? On one snapshot, where nothing can be written and nothing takes for ever.

use std::{future::Future, str::FromStr as _, time::Duration};

use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use crate::{Error, Kind, Result, config::Secret, database, limits};

/// How long a database may take to let us in, or to let us go.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What an answer may take beyond what its statement may.
const GRACE: Duration = Duration::from_secs(60);

/// Where a URL leads to; that of the source called `name`.
///
/// # Errors
/// If it cannot be read. It is not shown.
pub fn options(name: &str, url: &Secret) -> Result<PgConnectOptions> {
    PgConnectOptions::from_str(url.expose()).map_err(|_| {
        Error::settings(format!("the database's URL of the source '{name}' cannot be read"))
            .help("Write postgres://user:password@host:5432/database, with special characters percent-encoded.")
    })
}

/// A connection to the database of the source called `name`, in a transaction that only reads. It ends when dropped.
///
/// # Errors
/// If the database does not let us in.
pub async fn open(name: &str, options: PgConnectOptions) -> Result<PgConnection> {
    let options = options.application_name("rollcall").disable_statement_logging();
    let connected = timeout(PATIENCE, database::connect_elsewhere(&options)).await;
    let mut connection =
        connected.map_err(|_| away(name, sqlx::Error::PoolTimedOut))?.map_err(|error| away(name, error))?;
    patience(begin(&mut connection)).await?;
    Ok(connection)
}

async fn begin(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("begin isolation level repeatable read read only").execute(&mut *connection).await?;
    // All of a cursor is fetched: its first rows need not come fast. Times as text are those of all sessions here.
    sqlx::query(
        "select set_config('statement_timeout', $1, true), set_config('cursor_tuple_fraction', '1', true),
                set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true)",
    )
    .bind(limits::PULL_TIMEOUT_MS.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// Waits as long as a statement may take and a little more: a connection may be dead without anybody saying so.
///
/// # Errors
/// Those of `work`, and that there is no answer.
pub async fn patience<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = Duration::from_millis(limits::PULL_TIMEOUT_MS) + GRACE;
    timeout(limit, work).await.unwrap_or_else(|_| Err(Error::wait("the source's database does not answer any more")))
}

fn away(name: &str, error: sqlx::Error) -> Error {
    let error = Error::from(error);
    let message = match error.kind {
        Kind::Settings => format!("the database of the source '{name}' refused the connection"),
        _ => format!("the database of the source '{name}' cannot be reached"),
    };
    Error::new(error.kind, message).help("Check `database` of the source.").because(error)
}
