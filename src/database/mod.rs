//! How does the program speak with Postgres? Every session of ours is made here, so that none stalls, waits for ever, or holds others
//! up for longer than it may.
//!
//! ```text
//!  connect / pool ──► no_delay (TCP) ──► bounds (server-side) ──► in use ──► back to the pool, unless amid a transaction
//! ```
//!
//! Must never hand out a session that is inside of somebody's transaction.

mod migrate;
mod no_delay;
mod pooler;
pub mod statement;

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{fault::Safeguard, limits};
pub use migrate::{is_current, migrate, newest_step, refuse_standby, standby};
pub use pooler::refuse_shared_sessions;

/// How long a session that comes back may take to say how it stands. One whose statement was abandoned is still at it.
const RETURN: Duration = Duration::from_secs(5);

/// What sessions are for, which says how long they may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// Everything that is computed, sealed, told and taken in.
    Work,
    /// What people and programs ask to see. Nobody who asks may wait for long, nor keep others from it.
    Reads,
}

/// One session of its own. Dropped amid a transaction it is closed, and so rolled back.
///
/// # Errors
/// If the database does not let us in.
pub async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let mut connection = PgConnection::connect_with(options).await?;
    prepare(&mut connection, Sessions::Work, options.get_port()).await?;
    Ok(connection)
}

/// One session with somebody else's Postgres, whose bounds are not ours to set.
///
/// # Errors
/// If that database does not let us in.
pub async fn connect_elsewhere(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let connection = PgConnection::connect_with(options).await?;
    no_delay::set(options.get_port());
    Ok(connection)
}

/// Lets the transaction under way idle for as long as what it waits for may take: a statement in another database, or our own
/// computing. That of a stopped process is ended by others, if it is in the name of a lease.
///
/// # Errors
/// The database's own.
pub async fn may_idle(connection: &mut PgConnection) -> sqlx::Result<()> {
    let idle = format!("set local idle_in_transaction_session_timeout = '{}s'", limits::EVALUATION_IDLE_SECONDS);
    sqlx::raw_sql(AssertSqlSafe(idle)).execute(connection).await?;
    Ok(())
}

/// Up to so many sessions, each opened when it is first wanted.
pub fn pool(options: PgConnectOptions, sessions: Sessions, connections: u32) -> PgPool {
    let port = options.get_port();
    let patience = match sessions {
        Sessions::Work => limits::CONNECTION_SECONDS,
        Sessions::Reads => limits::READ_SECONDS,
    };
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(patience))
        .after_connect(move |connection, _| Box::pin(prepare(connection, sessions, port)))
        .after_release(|connection, _| {
            Box::pin(async {
                // Closed, it is rolled back, and its place is free for another.
                Ok(timeout(RETURN, is_outside_of_transactions(connection)).await.unwrap_or(false))
            })
        })
        .connect_lazy_with(options)
}

/// Whether the session may be given to somebody else.
///
/// sqlx 0.9.0 counts the transactions that it knows to have begun. When the future of `begin` is dropped, BEGIN is on its way and not
/// counted (launchbadge/sqlx#4385), and the next user would work inside of a transaction that nobody commits. Its own `begin` says what
/// the server says: it fails with this error where its statement, which begins nothing, leaves the session outside of a transaction.
async fn is_outside_of_transactions(connection: &mut PgConnection) -> bool {
    if !Safeguard::ReturnsOutside.is_on() {
        return true;
    }
    matches!(connection.begin_with("select 1").await, Err(sqlx::Error::BeginFailed))
}

/// Sets a new session up. In simple statements: they also pass a pooler, which is then refused by name.
async fn prepare(connection: &mut PgConnection, sessions: Sessions, port: u16) -> sqlx::Result<()> {
    if Safeguard::SendsAtOnce.is_on() {
        no_delay::set(port);
    }
    let (lock, idle) = (limits::LOCK_SECONDS, limits::LEASE_SECONDS);
    let mut bounds = format!("set lock_timeout = '{lock}s'; set idle_in_transaction_session_timeout = '{idle}s'");
    if sessions == Sessions::Reads {
        bounds += &format!("; set statement_timeout = '{}s'", limits::READ_SECONDS);
    }
    sqlx::raw_sql(AssertSqlSafe(bounds)).execute(&mut *connection).await?;
    // A statement whose program has died ends within seconds, with its locks. Servers on systems that cannot tell refuse it.
    let watched = format!("set client_connection_check_interval = '{}s'", limits::GONE_SECONDS);
    match sqlx::raw_sql(AssertSqlSafe(watched)).execute(connection).await {
        Err(sqlx::Error::Database(_)) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}
