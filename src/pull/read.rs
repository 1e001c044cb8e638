//! How are rows read? On one snapshot that cannot write, a page at a time, so that memory stays flat.

use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Executor as _, PgConnection, Row as _, SqlSafeStr as _,
    Statement as _, TypeInfo as _, postgres::PgConnectOptions,
};
use tokio::time::timeout;

use super::{
    cursor::{self, Moment, quoted},
    row::Rows,
    session::{self, PATIENCE, patience},
};
use crate::{
    Error, Kind, Result, config,
    database::statement,
    error::database,
    limits,
    profile::pulled::{Kept, Place},
};

/// One row: what it is ordered by, as text, and all its columns; none if they are longer than any message.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub key: Option<String>,
    pub json: Option<String>,
}

/// The rows of a statement, from the first to the last.
pub(super) struct Reader {
    /// Its own: dropped, the transaction ends.
    connection: PgConnection,
    columns: Vec<String>,
    /// The type of the cursor column and whether it is a time.
    column: Option<(String, bool)>,
    position: Option<String>,
}

impl Reader {
    /// Begins to read. What it returns beside is to be kept once all is read.
    pub async fn open(
        options: PgConnectOptions,
        name: &str,
        source: &config::Source,
        rows: &Rows<'_>,
        place: &Place,
    ) -> Result<(Reader, Kept)> {
        let mut connection = session::open(name, options).await?;
        let (asked, columns, kept) = patience(declare(&mut connection, source, rows, place)).await?;
        let reader = Reader { connection, columns, column: asked.column, position: place.position.clone() };
        Ok((reader, kept))
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The next rows; none when all are read.
    pub async fn page(&mut self) -> Result<Vec<Row>> {
        let fetch = format!("fetch {} from pulled", limits::PULL_ROWS);
        let rows = sqlx::query_as(AssertSqlSafe(fetch.as_str())).persistent(false).fetch_all(&mut self.connection);
        patience(async { rows.await.map_err(failed("", &fetch)) }).await
    }

    /// The position after a page that ends with the value `last`; none without a cursor column.
    pub async fn position(&mut self, last: Option<&str>) -> Result<Option<String>> {
        let Some((kind, is_time)) = &self.column else { return Ok(None) };
        // Never back, where a page was read again; nor into the future, where one mistyped year would end all reading.
        let bound =
            if *is_time { format!("least($1::text::{kind}, now()::{kind})") } else { format!("$1::text::{kind}") };
        let furthest = format!("select greatest({bound}, $2::text::{kind})::text");
        let query =
            sqlx::query_scalar(AssertSqlSafe(furthest.as_str())).bind(last).bind(&self.position).persistent(false);
        self.position = query.fetch_one(&mut self.connection).await.map_err(failed("", &furthest))?;
        Ok(self.position.clone())
    }

    pub async fn close(self) {
        // Everything is read: how the connection ends does not matter.
        timeout(PATIENCE, self.connection.close()).await.ok();
    }
}

async fn declare(
    connection: &mut PgConnection,
    source: &config::Source,
    rows: &Rows<'_>,
    place: &Place,
) -> Result<(cursor::Asked, Vec<String>, Kept)> {
    let statement = statement::one(&source.query);
    let text = format!("select * from ({statement}\n) r");
    let prepared = (&mut *connection).prepare(AssertSqlSafe(text.as_str()).into_sql_str()).await;
    let prepared = prepared.map_err(failed(statement, &text))?;
    let columns: Vec<String> = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    if let Some((name, first, second)) = statement::twice(&names) {
        let message = format!("the statement yields `{name}` twice: as columns {first} and {second}");
        return Err(
            Error::settings(message).help("Only one of them would count: name the other by `as`, or leave it out.")
        );
    }
    if let Some(needed) = rows.needed().into_iter().find(|needed| !names.contains(needed)) {
        let help = format!("It yields {}. Name one by `as`.", columns.join(", "));
        return Err(Error::settings(format!("the statement yields no column `{needed}`")).help(help));
    }
    let kind = |name: &str| {
        let column = prepared.columns().iter().find(|column| column.name() == name);
        column.map(|column| column.type_info().name().to_ascii_lowercase()).unwrap_or_default()
    };
    let mut kept = Kept::default();
    let asked = match &source.cursor {
        None => cursor::Asked {
            key: rows.key().map(|key| user(key, &kind(key))),
            // Byte by byte, as they are kept here, whatever the encoding there.
            order_by: rows.key().map(|key| format!("convert_to({}, 'UTF8')", user(key, &kind(key)))),
            ..cursor::Asked::default()
        },
        Some(cursor) => {
            let name = cursor.xid.as_deref().or(cursor.column.as_deref()).unwrap_or_default();
            let now = if cursor.xid.is_some() { moment(connection).await? } else { Moment::default() };
            let seen = place.xmin.filter(|_| place.cluster.as_deref() == Some(&now.cluster));
            if cursor.xid.is_some() {
                kept = Kept { xmin: Some(now.xmin), cluster: Some(now.cluster.clone()) };
            }
            cursor::ask(cursor, &kind(name), place.position.as_deref(), seen, &now)?
        }
    };
    let key = asked.key.as_ref().map_or("null::text", String::as_str);
    let order = asked.order_by.as_ref().map(|by| format!(" order by {by} nulls last")).unwrap_or_default();
    let condition = asked.condition.as_ref().map(|condition| format!(" where {condition}")).unwrap_or_default();
    // `offset 0` keeps the JSON from being made twice.
    let declare = format!(
        "declare pulled no scroll cursor for
         select {key} as key, case when octet_length(j.json) <= {} then j.json end as json
         from ({statement}\n) r cross join lateral (select to_jsonb(r)::text as json offset 0) j{condition}{order}",
        limits::MESSAGE_BYTES
    );
    let mut query = sqlx::query(AssertSqlSafe(declare.as_str())).persistent(false);
    if let Some(parameter) = &asked.parameter {
        query = query.bind(parameter);
    }
    query.execute(&mut *connection).await.map_err(failed(statement, &declare))?;
    Ok((asked, columns, kept))
}

/// The user id of a row, by the name and type of its column.
fn user(column: &str, kind: &str) -> String {
    statement::id(&format!("r.{}", quoted(column)), kind)
}

async fn moment(connection: &mut PgConnection) -> Result<Moment> {
    let row = sqlx::query(
        "select txid_snapshot_xmin(s), txid_snapshot_xmax(s), pg_is_in_recovery(),
                (select system_identifier from pg_control_system()) || '/' || (select timeline_id from pg_control_checkpoint())
         from txid_current_snapshot() s",
    )
    .fetch_one(connection)
    .await?;
    Ok(Moment { xmin: row.try_get(0)?, xmax: row.try_get(1)?, is_standby: row.try_get(2)?, cluster: row.try_get(3)? })
}

/// The error of a statement, of which `sent` was sent.
fn failed<'s>(statement: &'s str, sent: &'s str) -> impl Fn(sqlx::Error) -> Error + use<'s> {
    move |error| database::of_statement(Kind::Settings, statement, sent, error)
}
