//! What does a statement yield for one person? Asked anew, wherever it runs.
//!
//! Must never read more than this person's rows out of the database that is asked.

use sqlx::{AssertSqlSafe, Decode, PgConnection, Postgres, Type};

use super::{
    elsewhere,
    people::{self, Wanted},
    traits,
};
use crate::{
    Result,
    audience::statement::Statement,
    database::{self, statement::one},
    ids::ProfileId,
    pull::session::patience,
};

/// Whether a statement yields this profile, by any of its user ids.
///
/// # Errors
/// What is wrong with the statement, or with its database.
pub async fn member(conn: &mut PgConnection, of: &Statement, profile: ProfileId) -> Result<bool> {
    let select = |text: &str, id: &str| format!("select true from ({text}\n) r (user_id) where {id} = any($1) limit 1");
    Ok(ask::<bool>(conn, of, profile, Wanted::Users, select).await?.is_some())
}

/// The values that a statement yields for this profile, as JSON; none if it has no row, or nothing but null in it.
///
/// # Errors
/// What is wrong with the statement, or with its database.
pub async fn values(conn: &mut PgConnection, of: &Statement, profile: ProfileId) -> Result<Option<String>> {
    // As in a run: the row of the latest user, and of several the first as text.
    let select = |text: &str, id: &str| {
        format!(
            "select (to_jsonb(r) - 'user_id')::text from ({text}\n) r where {id} = any($1) \
             order by array_position($1, {id}), to_jsonb(r)::text collate \"C\" limit 1"
        )
    };
    let row: Option<String> = ask(conn, of, profile, Wanted::Values, select).await?;
    row.map_or(Ok(None), |row| traits::object(&row))
}

async fn ask<T>(
    conn: &mut PgConnection,
    of: &Statement,
    profile: ProfileId,
    wanted: Wanted,
    select: impl FnOnce(&str, &str) -> String,
) -> Result<Option<T>>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin,
{
    let users: Vec<String> = sqlx::query_scalar(
        "select value from identifiers where type = 'user_id' and profile_id = $1 order by added_at desc, value desc",
    )
    .bind(i64::from(profile.0))
    .fetch_all(&mut *conn)
    .await?;
    let text = one(&of.text);
    if let Some(there) = &of.elsewhere {
        database::may_idle(conn).await?;
        let mut session = elsewhere::open(there).await?;
        return patience(first(&mut session, text, wanted, select, &users)).await;
    }
    people::begin(conn).await?;
    let found = first(conn, text, wanted, select, &users).await;
    people::end(conn).await?;
    found
}

async fn first<T>(
    session: &mut PgConnection,
    text: &str,
    wanted: Wanted,
    select: impl FnOnce(&str, &str) -> String,
    users: &[String],
) -> Result<Option<T>>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + Send + Unpin,
{
    let select = select(text, &wanted.check(session, text).await?.user_id);
    let query = sqlx::query_scalar(AssertSqlSafe(select.as_str())).bind(users).persistent(false);
    query.fetch_optional(session).await.map_err(people::failed(text, &select))
}
