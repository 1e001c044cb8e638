//! Whom does a statement of somebody's own yield? It runs on the caller's snapshot, where it can write nothing.
//!
//! Must never let a statement fail more than what it stands for: it runs within a savepoint.

use futures_util::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::{AssertSqlSafe, Column as _, Executor as _, PgConnection, Row as _, Statement as _, TypeInfo as _};

use super::{elsewhere, tally::Ids};
use crate::{Error, Result, audience::computed::Statement, ids::ProfileId, limits};

/// Whom a statement yields.
#[derive(Debug, Default)]
pub(super) struct Yielded {
    pub ids: RoaringBitmap,
    /// Rows with a user id that no profile has. Null is none.
    pub unknown: u64,
}

/// Runs a statement of one column of user ids, within the time limit of the transaction.
///
/// The outer error means that the transaction cannot go on.
pub(super) async fn members(conn: &mut PgConnection, statement: &str) -> Result<Result<Yielded>> {
    begin(conn).await?;
    let yielded = read(conn, one(statement)).await;
    end(conn).await?;
    Ok(yielded)
}

/// Whether a statement yields this profile, by any of its user ids, wherever it runs.
///
/// # Errors
/// What is wrong with the statement, or the database's own.
pub async fn yields(conn: &mut PgConnection, of: &Statement, profile: ProfileId) -> Result<bool> {
    if let Some(there) = &of.elsewhere {
        let user_ids: Vec<String> =
            sqlx::query_scalar("select value from identifiers where type = 'user_id' and profile_id = $1")
                .bind(i64::from(profile.0))
                .fetch_all(conn)
                .await?;
        return elsewhere::yields(&of.text, there, &user_ids).await;
    }
    let statement = one(&of.text);
    begin(conn).await?;
    let found = async {
        check(conn, statement).await?;
        let text = format!(
            "select exists (select from ({statement}\n) r (user_id) join identifiers i \
             on i.type = 'user_id' and i.value = r.user_id::text where i.profile_id = $1)"
        );
        let query = sqlx::query_scalar(AssertSqlSafe(text)).bind(i64::from(profile.0)).persistent(false);
        query.fetch_one(&mut *conn).await.map_err(failed)
    };
    let found = found.await;
    end(conn).await?;
    found
}

/// From here on the transaction can write nothing, until [`end`].
pub(super) async fn begin(conn: &mut PgConnection) -> Result<()> {
    // What is set within a savepoint ends with it. Postgres does not let the statement set it back: it has a snapshot already.
    sqlx::raw_sql("savepoint statement; set local transaction_read_only = on").execute(conn).await?;
    Ok(())
}

/// The transaction is as it was before [`begin`], also if the statement failed.
pub(super) async fn end(conn: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("rollback to savepoint statement; release savepoint statement").execute(conn).await?;
    Ok(())
}

/// A statement without what may end it. In parentheses, and prepared, it is one statement, whatever stands in it.
pub(super) fn one(statement: &str) -> &str {
    statement.trim().trim_end_matches(';')
}

/// The error of a statement. What Postgres says of it is for whoever wrote it, and holds no person's data but by their doing.
pub(super) fn failed(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database) if database.code().as_deref() == Some("57014") => {
            Error::wait("the statement takes too long").because(error).help("It is cancelled then: make it faster.")
        }
        sqlx::Error::Database(database) => {
            let message = format!("the statement fails: {}", database.message());
            Error::definition(message).help("It must be one query that yields users, and writes nothing.")
        }
        _ => error.into(),
    }
}

/// Refuses a statement that does not yield one column of ids.
pub(super) async fn check(conn: &mut PgConnection, statement: &str) -> Result<()> {
    let text = AssertSqlSafe(format!("select * from ({statement}\n) r"));
    let prepared = (&mut *conn).prepare(sqlx::SqlSafeStr::into_sql_str(text)).await.map_err(failed)?;
    let [column] = prepared.columns() else {
        let message = format!("the statement yields {} columns, and one is wanted", prepared.columns().len());
        return Err(Error::definition(message).help("Select the user id alone."));
    };
    let kind = column.type_info().name().to_ascii_lowercase();
    if ["json", "jsonb", "bool", "bytea", "record", "void", "date"].contains(&kind.as_str())
        || ["time", "interval", "float"].iter().any(|kinds| kind.starts_with(kinds))
        || kind.ends_with("[]")
    {
        let message = format!("the statement yields `{}` of the type {kind}, which is no user id", column.name());
        return Err(Error::definition(message).help("Select the user id as text, or as a whole number."));
    }
    Ok(())
}

async fn read(conn: &mut PgConnection, statement: &str) -> Result<Yielded> {
    check(conn, statement).await?;
    let text = format!(
        "select i.profile_id from ({statement}\n) r (user_id) left join identifiers i \
         on i.type = 'user_id' and i.value = r.user_id::text where r.user_id is not null"
    );
    let mut rows = sqlx::query(AssertSqlSafe(text)).persistent(false).fetch(conn);
    let (mut ids, mut yielded, mut count) = (Ids::default(), Yielded::default(), 0);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        count += 1;
        if count > limits::SQL_ROWS {
            return Err(Error::definition(format!("the statement yields more than {} users", limits::SQL_ROWS)));
        }
        match row.try_get::<Option<i64>, _>(0)? {
            Some(id) => ids.insert(u32::try_from(id).unwrap_or_default()),
            None => yielded.unknown += 1,
        }
    }
    yielded.ids = ids.to_bitmap();
    Ok(yielded)
}
