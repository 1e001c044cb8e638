//! Which columns has each user, as a statement says? Reads only: the statement runs in a transaction that cannot write.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde_json::{Value, value::RawValue};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{Values, columns::member};
use crate::{Error, Result, audience::Sql, js, limits, membership::statement};

/// Runs the statement on the caller's snapshot and within its time limit. After an error the transaction goes on.
pub(in crate::membership) async fn values(conn: &mut PgConnection, sql: &Sql) -> Result<Values> {
    statement::begin(conn).await?;
    let values = read(conn, statement::one(&sql.statement)).await;
    statement::end(conn).await?;
    values
}

async fn read(conn: &mut PgConnection, statement: &str) -> Result<Values> {
    // A profile with several users has its latest one's.
    let text = format!(
        "select distinct on (i.profile_id) i.profile_id, (to_jsonb(r) - 'user_id')::text from ({statement}\n) r \
         join identifiers i on i.type = 'user_id' and i.value = r.user_id::text \
         order by i.profile_id, i.added_at desc, i.value desc, to_jsonb(r)::text collate \"C\""
    );
    let mut rows = sqlx::query(AssertSqlSafe(text)).persistent(false).fetch(conn);
    let (mut values, mut count) = (Values::default(), 0);
    while let Some(row) = rows.try_next().await.map_err(statement::failed)? {
        count += 1;
        if count > limits::SQL_ROWS {
            return Err(Error::definition(format!("the statement yields more than {} users", limits::SQL_ROWS)));
        }
        let id: i64 = row.try_get(0)?;
        let columns: BTreeMap<String, &RawValue> = serde_json::from_str(row.try_get(1)?)
            .map_err(|error| Error::internal("the database sent a row that is no object").because(error))?;
        if values.columns.is_empty() {
            values.columns = named(columns.keys())?;
        }
        let mut object = String::new();
        for (key, value) in &columns {
            if let Some(value) = canonical(value.get()) {
                member(&mut object, key, &value);
            }
        }
        if object.is_empty() {
            continue;
        }
        object.push('}');
        if object.len() > limits::COLUMNS_BYTES {
            return Err(Error::definition(format!("a row has more than {} bytes", limits::COLUMNS_BYTES))
                .help("Select shorter columns."));
        }
        values.push(u32::try_from(id).unwrap_or_default(), &object);
    }
    values.close();
    Ok(values)
}

/// The keys of the columns, which must be keys.
fn named<'k>(columns: impl Iterator<Item = &'k String>) -> Result<Vec<String>> {
    let columns: Vec<String> = columns.cloned().collect();
    if columns.is_empty() || columns.len() > limits::COLUMNS {
        return Err(Error::definition(format!("the statement yields {} columns beside user_id", columns.len()))
            .help(format!("Between 1 and {} are possible.", limits::COLUMNS)));
    }
    match columns.iter().find(|column| !crate::audience::key::is_valid(column)) {
        Some(column) => Err(Error::definition(format!("the column `{column}` has a name that is no key"))
            .help("Name it by `as`: a lower-case letter, then lower-case letters, digits and `_`.")),
        None => Ok(columns),
    }
}

/// The JSON of a column in one form; none for null.
fn canonical(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'n' => None,
        b'0'..=b'9' | b'-' if json.contains('.') => Some(json.trim_end_matches('0').trim_end_matches('.').to_owned()),
        b'"' | b'[' | b'{' => {
            let value: Value = serde_json::from_str(json).ok()?;
            let mut text = String::new();
            js::push_value(&mut text, &value);
            Some(text)
        }
        _ => Some(json.to_owned()),
    }
}
