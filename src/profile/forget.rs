//! How does somebody vanish from the store? Asked for, told, erased; and who is to be left alone without that.
//!
//! ```text
//!  requested ──► sealed ──► told ──► erased
//!      │            │         │        └ every row is gone; a salted digest of each identifier keeps them from coming back
//!      │            │         └ every destination was told as far as the log went then
//!      │            └ `false` stands in the log for every audience that was told `true` (runs::leave)
//!      └ nothing more is taken in
//! ```
//!
//! Each step is one transaction, so that whoever goes on after a crash finds it done or not begun. Identifiers are kept until
//! everybody was told, since it is under them that they are told. Nothing is erased before, unless a person says so.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::{
    lookup::{self, Identifier},
    people, suppression,
};
use crate::{
    Error, Kind, Result,
    fault::{self, Point},
    ids::ProfileId,
};

/// What was asked of one identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Their profile will be forgotten, by this request.
    Requested(i64),
    /// Nobody has it; should it come, it is dropped.
    Unknown,
}

/// A request in a list.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Request {
    pub id: i64,
    /// `requested`, `sealed`, `told` or `erased`.
    pub state: String,
    pub tombstone: bool,
    pub requested_at: DateTime<Utc>,
    pub erased_at: Option<DateTime<Utc>>,
    /// Destinations that were not told far enough yet.
    pub waits_for: Vec<String>,
    pub report: Option<serde_json::Value>,
}

/// Rows of one table about somebody, and how many of them are left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    pub before: i64,
    pub after: i64,
}

/// Proof of one erasing: of all that were erased in it together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub requests: Vec<i64>,
    pub tables: BTreeMap<String, Rows>,
    /// Rows in which one of their identifiers still stands, by table, after a search of every column of text: those of others
    /// who mention them. Empty, if the program died between erasing and searching: then nobody has searched.
    pub mentioned: BTreeMap<String, i64>,
}

/// The profile with an identifier, if there is one.
async fn find(connection: &mut PgConnection, identifier: &Identifier<'_>) -> Result<Option<ProfileId>> {
    match lookup::find(connection, identifier).await {
        Ok(profile) => Ok(Some(profile)),
        Err(error) if error.kind == Kind::Settings => Ok(None),
        Err(error) => Err(error),
    }
}

/// Suppresses all identifiers of somebody; returns whose they are.
async fn leave_alone(connection: &mut PgConnection, identifier: &Identifier<'_>) -> Result<Option<ProfileId>> {
    let Some(profile) = find(connection, identifier).await? else {
        suppression::add(connection, &identifier.keys(), None).await?;
        return Ok(None);
    };
    let id = i64::from(profile.0);
    let all = identifiers(connection, &[id]).await?;
    let keys: Vec<_> = all.iter().map(|(kind, value)| (kind.as_str(), value.as_str())).collect();
    suppression::add(connection, &keys, Some(id)).await?;
    Ok(Some(profile))
}

async fn identifiers(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<(String, String)>> {
    Ok(sqlx::query_as("select type, value from identifiers where profile_id = any($1) order by type, value")
        .bind(ids)
        .fetch_all(connection)
        .await?)
}

/// Asks that somebody be forgotten: from now on nothing of them is taken in. Asked again, it is the same request.
///
/// # Errors
/// The database's own.
pub async fn request(pool: &PgPool, identifier: &Identifier<'_>, tombstone: bool) -> Result<Asked> {
    let mut tx = pool.begin().await?;
    // No batch is under way that has looked them up and not yet stored what it has.
    people::lock(&mut tx).await?;
    let asked = match leave_alone(&mut tx, identifier).await? {
        None => Asked::Unknown,
        Some(profile) => Asked::Requested(
            sqlx::query_scalar(
                "insert into forgets (profile_id, tombstone) values ($1, $2)
                 on conflict (profile_id) where state <> 'erased'
                 do update set tombstone = forgets.tombstone or excluded.tombstone returning id",
            )
            .bind(i64::from(profile.0))
            .bind(tombstone)
            .fetch_one(&mut *tx)
            .await?,
        ),
    };
    tx.commit().await?;
    Ok(asked)
}

/// Takes in nothing more of somebody, and tells nothing more of them; what is known stays. False if nobody has the identifier:
/// it is suppressed all the same.
///
/// # Errors
/// The database's own.
pub async fn suppress(pool: &PgPool, identifier: &Identifier<'_>) -> Result<bool> {
    let mut tx = pool.begin().await?;
    people::lock(&mut tx).await?;
    let known = leave_alone(&mut tx, identifier).await?.is_some();
    tx.commit().await?;
    Ok(known)
}

/// Takes in again what was suppressed, also of somebody forgotten who comes back as a new person.
///
/// # Errors
/// [`Kind::Settings`] if the identifier is not suppressed, or its profile is being forgotten; the database's own.
pub async fn unsuppress(pool: &PgPool, identifier: &Identifier<'_>) -> Result<()> {
    let mut tx = pool.begin().await?;
    people::lock(&mut tx).await?;
    let profile = find(&mut tx, identifier).await?.map(|profile| i64::from(profile.0));
    let leaving: bool =
        sqlx::query_scalar("select exists (select from forgets where profile_id = $1 and state <> 'erased')")
            .bind(profile)
            .fetch_one(&mut *tx)
            .await?;
    if leaving {
        return Err(
            Error::settings("that person is being forgotten").help("`rollcall forget --list` says how far it is.")
        );
    }
    let all = match profile {
        Some(id) => identifiers(&mut tx, &[id]).await?,
        None => Vec::new(),
    };
    let mut keys: Vec<_> = all.iter().map(|(kind, value)| (kind.as_str(), value.as_str())).collect();
    keys.extend(identifier.keys());
    if suppression::remove(&mut tx, &keys).await? == 0 {
        return Err(Error::settings("that identifier is not suppressed")
            .help("Give a user_id, or another identifier with its type, as email:ann@example.com."));
    }
    tx.commit().await?;
    Ok(())
}

/// All requests, the latest first.
///
/// # Errors
/// The database's own.
pub async fn list(pool: &PgPool) -> Result<Vec<Request>> {
    Ok(sqlx::query_as(
        "select f.id, f.state, f.tombstone, f.requested_at, f.erased_at, f.report, array(
             select distinct d.name from forget_positions p join destinations d on d.id = p.destination_id
             left join deliveries v on v.destination_id = d.id
             where p.forget_id = f.id and f.state = 'sealed' and coalesce(v.cursor_position, 0) < p.position
             order by d.name) as waits_for
         from forgets f order by f.id desc",
    )
    .fetch_all(pool)
    .await?)
}

/// Notes of which requests every destination was told. The cursor's mirror is at most behind: it never says too much.
///
/// # Errors
/// The database's own.
pub async fn note_told(pool: &PgPool) -> Result<()> {
    sqlx::query(
        "update forgets f set state = 'told' where state = 'sealed' and not exists (
             select from forget_positions p left join deliveries v on v.destination_id = p.destination_id
             where p.forget_id = f.id and coalesce(v.cursor_position, 0) < p.position)",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Does not wait until everybody was told: whoever was not keeps what they know.
///
/// # Errors
/// The database's own.
pub async fn do_not_wait(pool: &PgPool) -> Result<()> {
    sqlx::query("update forgets set state = 'told' where state = 'sealed'").execute(pool).await?;
    Ok(())
}

/// Erases everybody of whom all was told, in one transaction; none, if there is nobody.
///
/// # Errors
/// The database's own: then nothing is erased.
pub async fn erase(pool: &PgPool) -> Result<Option<Report>> {
    let mut connection = pool.acquire().await?;
    let mut tx = connection.begin().await?;
    people::lock(&mut tx).await?;
    let told: Vec<(i64, i64)> =
        sqlx::query_as("select id, profile_id from forgets where state = 'told' order by id for update")
            .fetch_all(&mut *tx)
            .await?;
    if told.is_empty() {
        return Ok(None);
    }
    let (requests, profiles): (Vec<i64>, Vec<i64>) = told.into_iter().unzip();
    // Also what still stands under the ids that were merged into theirs.
    let ids: Vec<i64> = sqlx::query_scalar(
        "with recursive ids (id) as (
             select * from unnest($1::bigint[]) union select m.from_id from ids join merges m on m.into_id = ids.id)
         select id from ids",
    )
    .bind(&profiles)
    .fetch_all(&mut *tx)
    .await?;
    let values: Vec<String> = identifiers(&mut tx, &ids).await?.into_iter().map(|(_, value)| value).collect();
    let mut report = Report { requests, ..Report::default() };
    for (table, column) in tables(&mut tx).await? {
        // Names from the catalog, quoted by it.
        let delete = format!("delete from {table} where {column} = any($1)");
        let before = sqlx::query(AssertSqlSafe(delete)).bind(&ids).execute(&mut *tx).await?.rows_affected();
        let left = format!("select count(*) from {table} where {column} = any($1)");
        let after = sqlx::query_scalar(AssertSqlSafe(left)).bind(&ids).fetch_one(&mut *tx).await?;
        report.tables.insert(table, Rows { before: before.cast_signed(), after });
    }
    erase_by_identifier(&mut tx, &values, &mut report).await?;
    for sql in [
        "update suppressions set profile_id = null where profile_id = any($1)",
        "update merges set into_id = null, reason = 'forgotten', from_types = '{}', into_types = '{}' where into_id = any($1)",
    ] {
        sqlx::query(sql).bind(&ids).execute(&mut *tx).await?;
    }
    sqlx::query("insert into merges (from_id, reason) select id, 'forgotten' from unnest($1::bigint[]) id")
        .bind(&profiles)
        .execute(&mut *tx)
        .await?;
    set_report(&mut tx, &report).await?;
    sqlx::query("delete from forget_positions where forget_id = any($1)")
        .bind(&report.requests)
        .execute(&mut *tx)
        .await?;
    fault::point(Point::BeforeErased);
    tx.commit().await?;
    fault::point(Point::AfterErased);
    // After the deed, and outside of the lock: the whole store is read.
    report.mentioned = mentions(&mut connection, &values).await?;
    set_report(&mut connection, &report).await?;
    Ok(Some(report))
}

/// Erases what names people by their identifiers, not by the ids of their profiles.
async fn erase_by_identifier(tx: &mut PgConnection, values: &[String], report: &mut Report) -> Result<()> {
    let aliases = sqlx::query("delete from aliases where previous_id = any($1) or user_id = any($1)")
        .bind(values)
        .execute(&mut *tx)
        .await?;
    report.tables.insert("aliases".into(), Rows { before: aliases.rows_affected().cast_signed(), after: 0 });
    // What SQL sources said of them last.
    let rows = sqlx::query("delete from source_rows where key = any($1)").bind(values).execute(&mut *tx).await?;
    report.tables.insert("source_rows".into(), Rows { before: rows.rows_affected().cast_signed(), after: 0 });
    Ok(())
}

async fn set_report(connection: &mut PgConnection, report: &Report) -> Result<()> {
    let text =
        serde_json::to_value(report).map_err(|error| Error::internal("a report cannot be written").because(error))?;
    sqlx::query(
        "update forgets set state = 'erased', erased_at = coalesce(erased_at, now()), report = $2 where id = any($1)",
    )
    .bind(&report.requests)
    .bind(text)
    .execute(connection)
    .await?;
    Ok(())
}

/// Every table that holds something of a profile, also those that are made after this was written, and the column of its id.
async fn tables(connection: &mut PgConnection) -> Result<Vec<(String, String)>> {
    Ok(sqlx::query_as(
        "select format('%I', c.relname), format('%I', a.attname) from pg_class c
         join pg_attribute a on a.attrelid = c.oid and not a.attisdropped and a.attnum > 0
         where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
           and (a.attname = 'profile_id' and c.relname not in ('forgets', 'suppressions')
                or c.relname = 'profiles' and a.attname = 'id')
         order by 1",
    )
    .fetch_all(connection)
    .await?)
}

/// A value this long is looked for within texts as well; a shorter one would be found by chance.
const TELLING_CHARS: usize = 8;

/// Rows in which any of the values stands, by table: in a column of text as the whole, in JSON as a string, and long ones within
/// either.
async fn mentions(connection: &mut PgConnection, values: &[String]) -> Result<BTreeMap<String, i64>> {
    let columns: Vec<(String, String, bool)> = sqlx::query_as(
        "select format('%I', c.relname), format('%I', a.attname), t.typname in ('jsonb', '_text') from pg_class c
         join pg_attribute a on a.attrelid = c.oid and not a.attisdropped and a.attnum > 0
         join pg_type t on t.oid = a.atttypid
         where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
           and t.typname in ('text', 'jsonb', '_text') order by 1, 2",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut conditions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column, composed) in columns {
        let whole = match composed {
            true => format!("exists (select from unnest($2::text[]) token where strpos({column}::text, token) > 0)"),
            false => format!("{column} = any($1::text[])"),
        };
        let within = format!("exists (select from unnest($3::text[]) long where strpos({column}::text, long) > 0)");
        conditions.entry(table).or_default().push(format!("{whole} or {within}"));
    }
    let tokens: Vec<String> = values.iter().map(|value| serde_json::Value::from(value.as_str()).to_string()).collect();
    let long: Vec<&String> = values.iter().filter(|value| value.chars().count() >= TELLING_CHARS).collect();
    let mut mentions = BTreeMap::new();
    for (table, conditions) in conditions {
        // Names from the catalog, quoted by it.
        let sql = format!("select count(*) from {table} where {}", conditions.join(" or "));
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(values)
            .bind(&tokens)
            .bind(&long)
            .fetch_one(&mut *connection)
            .await?;
        mentions.insert(table, count);
    }
    Ok(mentions)
}
