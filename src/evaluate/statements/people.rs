//! Whom does a statement of somebody's own yield, and which of its rows are nobody? It runs on the caller's snapshot, where it can write
//! nothing.
//!
//! Must never let a statement fail more than what it stands for: it runs within a savepoint.

use futures_util::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::{
    AssertSqlSafe, Column as _, Executor as _, PgConnection, Row as _, Statement as _, TypeInfo as _,
    postgres::PgColumn,
};

use crate::{
    Error, Kind, Result,
    audience::key,
    database::statement::{self, one},
    error::database,
    evaluate::tally::Ids,
    limits,
    membership::PassedOver,
};

/// Whom a statement yields.
#[derive(Debug, Default)]
pub(in crate::evaluate) struct Yielded {
    pub ids: RoaringBitmap,
    pub passed_over: PassedOver,
}

impl Yielded {
    /// Whom so many rows yield, of which some are null or of users that nobody here is.
    pub fn of(ids: &Ids, rows: u64, null: u64, unknown: u64) -> Yielded {
        let ids = ids.to_bitmap();
        let repeated = (rows - null - unknown).saturating_sub(ids.len());
        Yielded { ids, passed_over: PassedOver { null, repeated, unknown } }
    }
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
    /// Refuses a statement that cannot be that.
    pub async fn check(self, conn: &mut PgConnection, statement: &str) -> Result<Columns> {
        let columns = columns(conn, statement).await?;
        match self {
            Wanted::Users => users(&columns),
            Wanted::Values => values(columns),
        }
    }
}

/// The columns of a statement, looked at.
pub(in crate::evaluate) struct Columns {
    /// The SQL of a row's user id as text, of the statement as `r` with the column `user_id`.
    pub user_id: String,
    /// The names of the columns beside it, where they are wanted.
    pub keys: Vec<String>,
}

impl Columns {
    /// Refuses a column of what cannot be an id.
    fn of(ids: &PgColumn, keys: Vec<String>) -> Result<Columns> {
        let kind = ids.type_info().name().to_ascii_lowercase();
        check_ids(ids.name(), &kind)?;
        Ok(Columns { user_id: statement::id("r.user_id", &kind), keys })
    }
}

/// Refuses a statement that does not yield one column of ids.
fn users(columns: &[PgColumn]) -> Result<Columns> {
    match columns {
        [column] => Columns::of(column, Vec::new()),
        columns => {
            let message = format!("the statement yields {} columns, and one is wanted", columns.len());
            Err(Error::definition(message).help("Select the user id alone."))
        }
    }
}

/// The keys of the values that a statement yields beside `user_id`; refuses one whose columns cannot be that.
fn values(columns: Vec<PgColumn>) -> Result<Columns> {
    let (ids, values): (Vec<_>, Vec<_>) = columns.into_iter().partition(|column| column.name() == "user_id");
    let [ids] = &ids[..] else {
        let message = format!("the statement yields {} columns `user_id`, and one is wanted", ids.len());
        return Err(Error::definition(message).help("Name the column of user ids by `as user_id`."));
    };
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
    Columns::of(ids, keys)
}

/// What Postgres says of a statement's columns, before any row. Of two with one name, one would be lost.
async fn columns(conn: &mut PgConnection, statement: &str) -> Result<Vec<PgColumn>> {
    let text = format!("select * from ({statement}\n) r");
    let prepared = (&mut *conn).prepare(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(text.as_str()))).await;
    let prepared = prepared.map_err(failed(statement, &text))?;
    let names: Vec<&str> = prepared.columns().iter().map(|column| column.name()).collect();
    if let Some((name, first, second)) = statement::twice(&names) {
        let message = format!("the statement yields `{name}` twice: as columns {first} and {second}");
        return Err(Error::definition(message).help("Name one of them by `as`, or leave it out."));
    }
    Ok(prepared.columns().to_vec())
}

fn check_ids(name: &str, kind: &str) -> Result<()> {
    if ["json", "jsonb", "bool", "bytea", "record", "void", "date"].contains(&kind)
        || ["time", "interval", "float"].iter().any(|kinds| kind.starts_with(kinds))
        || kind.ends_with("[]")
    {
        let message = format!("the statement yields `{name}` of the type {kind}, which is no user id");
        return Err(Error::definition(message).help("Select the user id as text, or as a whole number."));
    }
    Ok(())
}

async fn read(conn: &mut PgConnection, statement: &str) -> Result<Yielded> {
    let Columns { user_id, .. } = Wanted::Users.check(conn, statement).await?;
    let text = format!(
        "select i.profile_id, r.user_id is null from ({statement}\n) r (user_id) left join identifiers i \
         on i.type = 'user_id' and i.value = {user_id}"
    );
    let mut rows = sqlx::query(AssertSqlSafe(text.as_str())).persistent(false).fetch(conn);
    let (mut ids, mut count, mut null, mut unknown) = (Ids::default(), 0, 0, 0);
    while let Some(row) = rows.try_next().await.map_err(failed(statement, &text))? {
        count += 1;
        if count > limits::SQL_ROWS {
            return Err(Error::definition(format!("the statement yields more than {} users", limits::SQL_ROWS)));
        }
        match row.try_get::<Option<i64>, _>(0)? {
            Some(id) => ids.insert(u32::try_from(id).unwrap_or_default()),
            None if row.try_get(1)? => null += 1,
            None => unknown += 1,
        }
    }
    Ok(Yielded::of(&ids, count, null, unknown))
}
