//! Which columns has each user, as a statement says? Reads only: the statement runs in a transaction that cannot write.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use futures_util::TryStreamExt;
use serde_json::{Value, value::RawValue};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{
    elsewhere::{Row, Sessions},
    people::{self, Columns, Wanted},
};
use crate::{
    Error, Result,
    audience::statement::{Elsewhere, Statement},
    database::statement::one,
    js, limits,
    values::{Values, columns::member, unordered::Unordered},
};

/// Runs the statement of the trait `key`, on the caller's snapshot and within its time limit, or elsewhere.
///
/// The outer error means that the transaction cannot go on.
pub(in crate::evaluate) async fn values<'d>(
    conn: &mut PgConnection,
    sessions: &mut Sessions<'d>,
    key: &str,
    of: &'d Statement,
) -> Result<Result<Values>> {
    if let Some(there) = &of.elsewhere {
        return read_there(conn, sessions, key, &of.text, there).await;
    }
    people::begin(conn).await?;
    let values = read(conn, one(&of.text)).await;
    people::end(conn).await?;
    Ok(values)
}

async fn read(conn: &mut PgConnection, statement: &str) -> Result<Values> {
    let Columns { user_id, keys } = Wanted::Values.check(conn, statement).await?;
    // A profile with several users has its latest one's.
    let text = format!(
        "select distinct on (i.profile_id) i.profile_id, (to_jsonb(r) - 'user_id')::text from ({statement}\n) r \
         join identifiers i on i.type = 'user_id' and i.value = {user_id} \
         order by i.profile_id, i.added_at desc, i.value desc, to_jsonb(r)::text collate \"C\""
    );
    let mut rows = sqlx::query(AssertSqlSafe(text.as_str())).persistent(false).fetch(conn);
    let (mut values, mut count) = (Values::default(), 0);
    while let Some(row) = rows.try_next().await.map_err(people::failed(statement, &text))? {
        count += 1;
        if count > limits::SQL_ROWS {
            return Err(Error::definition(format!("the statement yields more than {} users", limits::SQL_ROWS)));
        }
        let id: i64 = row.try_get(0)?;
        if let Some(object) = object(row.try_get(1)?)? {
            values.push(u32::try_from(id).unwrap_or_default(), &object);
        }
    }
    values.close();
    values.columns = keys;
    Ok(values)
}

async fn read_there<'d>(
    conn: &mut PgConnection,
    sessions: &mut Sessions<'d>,
    key: &str,
    text: &str,
    there: &'d Elsewhere,
) -> Result<Result<Values>> {
    let mut values = Unordered::within(limits::SQL_WAITING_BYTES);
    // Of each profile with several users, how many later ones it has than that whose row it has so far.
    let mut latest: HashMap<u32, i64> = HashMap::new();
    let each = |row: Row| {
        let is_latest = row.later.is_none_or(|later| match latest.entry(row.profile) {
            Entry::Occupied(known) if *known.get() <= later => false,
            known => {
                known.insert_entry(later);
                true
            }
        });
        if !is_latest {
            return Ok(());
        }
        values.put(row.profile, row.values)
    };
    let done = match sessions.rows(conn, text, there, Wanted::Values, each).await? {
        Ok(done) => done,
        Err(error) => return Ok(Err(error)),
    };
    if done.unknown > 0 {
        let unknown = done.unknown;
        tracing::warn!(key, unknown, "the statement yields users that the store does not know");
    }
    let mut values = values.finish()?;
    values.columns = done.keys;
    Ok(Ok(values))
}

/// The values of a row, in one form; none if all are null.
pub(in crate::evaluate) fn object(row: &str) -> Result<Option<String>> {
    let columns: BTreeMap<String, &RawValue> = serde_json::from_str(row)
        .map_err(|error| Error::internal("the database sent a row that is no object").because(error))?;
    let mut object = String::new();
    for (key, value) in &columns {
        if let Some(value) = canonical(value.get()) {
            member(&mut object, key, &value);
        }
    }
    if object.is_empty() {
        return Ok(None);
    }
    object.push('}');
    if object.len() > limits::COLUMNS_BYTES {
        return Err(Error::definition(format!("a row has more than {} bytes", limits::COLUMNS_BYTES))
            .help("Select shorter columns."));
    }
    Ok(Some(object))
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
