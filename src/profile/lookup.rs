//! Who is meant, and how is a profile called? Finds profiles by identifier and names them by their identifiers.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::Serialize;
use sqlx::{PgConnection, Row};

use super::{merges, rules::Rules};
use crate::{Error, Result, ids::ProfileId};

/// How a profile is shown in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Name {
    /// The latest user_id.
    pub user_id: Option<String>,
    /// The latest anonymous_id.
    pub anonymous_id: Option<String>,
    #[serde(skip)]
    pub profile: ProfileId,
}

impl fmt::Display for Name {
    /// As `find` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user_id, &self.anonymous_id) {
            (Some(user_id), _) => f.write_str(user_id),
            (None, Some(anonymous_id)) => write!(f, "anonymous_id:{anonymous_id}"),
            (None, None) => f.write_str("(no user_id)"),
        }
    }
}

/// An identifier as a person writes it: `42` is a user_id, `email:a@b.c` any other type, and `fb:42` may be either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier<'a> {
    whole: &'a str,
    /// Type and value, the value as it is stored.
    typed: Option<(&'a str, Cow<'a, str>)>,
}

impl<'a> Identifier<'a> {
    /// Reads what a person wrote, by the rules under which identifiers are stored.
    pub fn of(text: &'a str, rules: &Rules) -> Identifier<'a> {
        let typed = text.split_once(':').filter(|(kind, value)| !kind.is_empty() && !value.is_empty());
        Identifier { whole: text, typed: typed.map(|(kind, value)| (kind, rules.normalized(kind, value))) }
    }

    /// All that it may be, as (type, value): where nobody has it yet, nobody knows which one it is.
    pub fn keys(&self) -> Vec<(&str, &str)> {
        let typed = self.typed.as_ref().map(|(kind, value)| (*kind, &**value));
        typed.into_iter().chain([("user_id", self.whole)]).collect()
    }
}

/// The profile with an identifier.
///
/// A user_id that itself contains a colon is found first, so no value is out of reach.
///
/// # Errors
/// [`crate::Kind::Settings`] if no profile has it, or the database's own.
pub async fn find(conn: &mut PgConnection, identifier: &Identifier<'_>) -> Result<ProfileId> {
    let Identifier { whole, typed } = identifier;
    let id: Option<i64> = sqlx::query_scalar(
        "select profile_id from identifiers where (type = 'user_id' and value = $1) or (type = $2 and value = $3)
         order by type = 'user_id' and value = $1 desc limit 1",
    )
    .bind(whole)
    .bind(typed.as_ref().map(|(kind, _)| kind))
    .bind(typed.as_ref().map(|(_, value)| &**value))
    .fetch_optional(conn)
    .await?;
    id.map(profile_id).transpose()?.ok_or_else(|| {
        Error::settings("no profile has that identifier")
            .help("Give a user_id, or another identifier with its type, as email:ann@example.com.")
    })
}

/// The identifier types that a profile has.
///
/// # Errors
/// The database's own.
pub async fn identifier_types(conn: &mut PgConnection, profile: ProfileId) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar("select distinct type from identifiers where profile_id = $1")
        .bind(i64::from(profile.0))
        .fetch_all(conn)
        .await?)
}

/// The identifiers of these types that profiles have, oldest first; with `as_of`, a snapshot's text, only those that somebody had
/// then. One from beyond the present is of another cluster, whose dump was restored here: it counts as had.
///
/// # Errors
/// The database's own.
pub async fn identifiers<T: AsRef<str> + Sync>(
    conn: &mut PgConnection,
    profiles: &[i64],
    types: &[T],
    as_of: Option<&str>,
) -> Result<HashMap<ProfileId, Vec<(String, String)>>> {
    let rows: Vec<(i64, String, String)> = sqlx::query_as(
        "select profile_id, type, value from identifiers where profile_id = any($1) and type = any($2)
             and ($3::text is null or pg_visible_in_snapshot(xid, $3::text::pg_snapshot)
                  or not pg_visible_in_snapshot(xid, pg_current_snapshot()))
         order by profile_id, type, added_at, value",
    )
    .bind(profiles)
    .bind(types.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    .bind(as_of)
    .fetch_all(conn)
    .await?;
    let mut found: HashMap<ProfileId, Vec<(String, String)>> = HashMap::new();
    for (id, kind, value) in rows {
        found.entry(profile_id(id)?).or_default().push((kind, value));
    }
    Ok(found)
}

/// The names of profiles, in the order given.
///
/// # Errors
/// The database's own.
pub async fn names(conn: &mut PgConnection, profiles: &[ProfileId]) -> Result<Vec<Name>> {
    let ids: Vec<i64> = profiles.iter().map(|profile| profile.0.into()).collect();
    // A membership of long ago holds profiles that were merged since: they are named as who they are now.
    let survivors = merges::survivors(&mut *conn, &ids).await?;
    let who = |profile: &ProfileId| survivors.get(profile).copied().unwrap_or(*profile);
    let ids: Vec<i64> = profiles.iter().map(|profile| who(profile).0.into()).collect();
    let rows = sqlx::query(
        "select profile_id, type, value from identifiers
         where profile_id = any($1) and type in ('user_id', 'anonymous_id') order by added_at, value",
    )
    .bind(&ids)
    .fetch_all(conn)
    .await?;
    let mut latest: HashMap<(u32, bool), String> = HashMap::new();
    for row in &rows {
        let known = row.try_get::<&str, _>("type")? == "user_id";
        latest.insert((profile_id(row.try_get("profile_id")?)?.0, known), row.try_get("value")?);
    }
    let name = |profile: &ProfileId| Name {
        user_id: latest.get(&(who(profile).0, true)).cloned(),
        anonymous_id: latest.get(&(who(profile).0, false)).cloned(),
        profile: *profile,
    };
    Ok(profiles.iter().map(name).collect())
}

fn profile_id(id: i64) -> Result<ProfileId> {
    // The table's CHECK bounds it.
    u32::try_from(id).map(ProfileId).map_err(|error| Error::halted("a profile id is out of range").because(error))
}
