//! Whom does a statement of somebody's own yield? It runs on the caller's snapshot, where it can write nothing.
//!
//! Must never let a statement fail more than what it stands for: it runs within a savepoint.

use futures_util::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgConnection, Row as _, Statement as _, TypeInfo as _,
    postgres::PgColumn,
};

use crate::{Error, Kind, Result, audience::key, error::database, evaluate::tally::Ids, limits};

/// Whom a statement yields.
#[derive(Debug, Default)]
pub(in crate::evaluate) struct Yielded {
    pub ids: RoaringBitmap,
    /// Rows with a user id that no profile has. Null is none.
    pub unknown: u64,
}

/// Runs a statement of one column of user ids, within the time limit of the transaction.
///
/// The outer error means that the transaction cannot go on.
pub(in crate::evaluate) async fn members(conn: &mut PgConnection, statement: &str) -> Result<Result<Yielded>> {
    begin(conn).await?;
    let yielded = read(conn, one(statement)).await;
    end(conn).await?;
    Ok(yielded)
}

/// From here on the transaction can write nothing, until [`end`].
pub(in crate::evaluate) async fn begin(conn: &mut PgConnection) -> Result<()> {
    // What is set within a savepoint ends with it. Postgres does not let the statement set it back: it has a snapshot already.
    sqlx::raw_sql("savepoint statement; set local transaction_read_only = on").execute(conn).await?;
    Ok(())
}

/// The transaction is as it was before [`begin`], also if the statement failed.
pub(in crate::evaluate) async fn end(conn: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("rollback to savepoint statement; release savepoint statement").execute(conn).await?;
    Ok(())
}

/// A statement without what may end it. In parentheses, and prepared, it is one statement, whatever stands in it.
pub(in crate::evaluate) fn one(statement: &str) -> &str {
    statement.trim().trim_end_matches(';')
}

/// The error of a statement, of which `sent` was sent.
pub(in crate::evaluate) fn failed<'s>(statement: &'s str, sent: &'s str) -> impl Fn(sqlx::Error) -> Error + use<'s> {
    move |error| database::of_statement(Kind::Definition, statement, sent, error)
}

/// What is wanted of a statement.
#[derive(Clone, Copy)]
pub(in crate::evaluate) enum Wanted {
    /// The users of its one column.
    Users,
    /// The columns beside `user_id`, which are values.
    Values,
}

impl Wanted {
    /// Refuses a statement that cannot be that; returns the keys of the values.
    pub async fn check(self, conn: &mut PgConnection, statement: &str) -> Result<Vec<String>> {
        match self {
            Wanted::Users => check(conn, statement).await.map(|()| Vec::new()),
            Wanted::Values => keys(conn, statement).await,
        }
    }
}

/// Refuses a statement that does not yield one column of ids.
async fn check(conn: &mut PgConnection, statement: &str) -> Result<()> {
    match &columns(conn, statement).await?[..] {
        [column] => check_ids(column),
        columns => {
            let message = format!("the statement yields {} columns, and one is wanted", columns.len());
            Err(Error::definition(message).help("Select the user id alone."))
        }
    }
}

/// The keys of the values that a statement yields beside `user_id`; refuses one whose columns cannot be that.
async fn keys(conn: &mut PgConnection, statement: &str) -> Result<Vec<String>> {
    let (ids, values): (Vec<_>, Vec<_>) =
        columns(conn, statement).await?.into_iter().partition(|column| column.name() == "user_id");
    let [ids] = &ids[..] else {
        let message = format!("the statement yields {} columns `user_id`, and one is wanted", ids.len());
        return Err(Error::definition(message).help("Name the column of user ids by `as user_id`."));
    };
    check_ids(ids)?;
    if values.is_empty() || values.len() > limits::COLUMNS {
        return Err(Error::definition(format!("the statement yields {} columns beside user_id", values.len()))
            .help(format!("Between 1 and {} are possible.", limits::COLUMNS)));
    }
    let mut keys: Vec<String> = values.iter().map(|column| column.name().to_owned()).collect();
    keys.sort();
    if let Some(key) = keys.iter().find(|key| !key::is_valid(key)) {
        return Err(Error::definition(format!("the column `{key}` has a name that is no key"))
            .help("Name it by `as`: a lower-case letter, then lower-case letters, digits and `_`."));
    }
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::definition(format!("the statement yields two columns `{}`", pair[0]))
            .help("Name one of them by `as`.")),
        None => Ok(keys),
    }
}

/// What Postgres says of a statement's columns, before any row.
async fn columns(conn: &mut PgConnection, statement: &str) -> Result<Vec<PgColumn>> {
    let text = format!("select * from ({statement}\n) r");
    let prepared = (&mut *conn).prepare(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text.as_str()))).await;
    let prepared = prepared.map_err(failed(statement, &text))?;
    Ok(prepared.columns().to_vec())
}

fn check_ids(column: &PgColumn) -> Result<()> {
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
    Wanted::Users.check(conn, statement).await?;
    let text = format!(
        "select i.profile_id from ({statement}\n) r (user_id) left join identifiers i \
         on i.type = 'user_id' and i.value = r.user_id::text where r.user_id is not null"
    );
    let mut rows = sqlx::query(AssertSqlSafe(text.as_str())).persistent(false).fetch(conn);
    let (mut ids, mut yielded, mut count) = (Ids::default(), Yielded::default(), 0);
    while let Some(row) = rows.try_next().await.map_err(failed(statement, &text))? {
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
