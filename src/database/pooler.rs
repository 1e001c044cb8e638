//! Is a session ours alone? Behind a pooler that lends a server's session for one transaction it is not.
//!
//! Locks, time limits and names of sessions are what keeps two instances from sealing at a time, and a stopped one from holding others
//! up. Such a pooler gives them to whoever comes next. So it is refused, before anything is written.

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::{Error, Result};

/// Refuses a database whose sessions are lent by the transaction, as PgBouncer's `pool_mode = transaction` does.
///
/// # Errors
/// If they are, or if the database cannot be asked.
pub async fn refuse_shared_sessions(options: &PgConnectOptions) -> Result<()> {
    let mut one = super::connect(options).await?;
    let first = process(&mut one).await?;
    let mut other = super::connect(options).await?;
    // While this transaction is open no pooler can lend its session. If that is the one which has just answered, it is lent.
    sqlx::raw_sql("begin").execute(&mut other).await?;
    let is_shared = process(&mut other).await? == first || process(&mut one).await? != first;
    sqlx::raw_sql("rollback").execute(&mut other).await?;
    let (one, other) = (one.close().await, other.close().await);
    one.and(other)?;
    if is_shared {
        return Err(Error::settings("a pooler stands before the database, and lends its sessions by the transaction")
            .help("Name the server itself, or set `pool_mode = session` in PgBouncer for this database: locks belong to a session."));
    }
    Ok(())
}

/// The process on the server that answers. Not prepared: a statement's name would be another session's.
async fn process(connection: &mut PgConnection) -> Result<i32> {
    use sqlx::{Executor as _, Row as _};
    Ok(connection.fetch_one(sqlx::raw_sql("select pg_backend_pid()")).await?.try_get(0)?)
}
