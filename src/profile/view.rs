//! What is known of one person? Their identifiers, traits and events, for people and for the Profile API. Reads only.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use crate::{Result, ids::ProfileId};

/// An identifier, and since when the profile has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Identifier {
    #[serde(rename = "type")]
    #[sqlx(rename = "type")]
    pub kind: String,
    pub value: String,
    pub added_at: DateTime<Utc>,
}

/// An event of one person.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Event {
    pub name: String,
    pub occurred_at: DateTime<Utc>,
    pub message_id: String,
    pub source_id: Option<String>,
    pub properties: Value,
    pub context: Value,
}

/// When a profile was made, and its first and last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Metadata {
    pub created_at: DateTime<Utc>,
    pub first_message_id: Option<String>,
    pub first_source_id: Option<String>,
    pub last_message_id: Option<String>,
    pub last_source_id: Option<String>,
}

/// Who has this identifier, as it is stored.
///
/// # Errors
/// The database's own.
pub async fn profile(conn: &mut PgConnection, kind: &str, value: &str) -> Result<Option<ProfileId>> {
    let id: Option<i64> = sqlx::query_scalar("select profile_id from identifiers where type = $1 and value = $2")
        .bind(kind)
        .bind(value)
        .fetch_optional(conn)
        .await?;
    // The table's CHECK bounds it.
    Ok(id.and_then(|id| u32::try_from(id).ok()).map(ProfileId))
}

/// A profile's identifiers, oldest first.
///
/// # Errors
/// The database's own.
pub async fn identifiers(conn: &mut PgConnection, profile: ProfileId) -> Result<Vec<Identifier>> {
    Ok(sqlx::query_as(
        "select type, value, added_at from identifiers where profile_id = $1 order by added_at, type, value",
    )
    .bind(i64::from(profile.0))
    .fetch_all(conn)
    .await?)
}

/// A profile's traits.
///
/// # Errors
/// The database's own.
pub async fn traits(conn: &mut PgConnection, profile: ProfileId) -> Result<Map<String, Value>> {
    let traits: Option<Value> = sqlx::query_scalar("select traits from profiles where id = $1")
        .bind(i64::from(profile.0))
        .fetch_optional(conn)
        .await?;
    Ok(match traits {
        Some(Value::Object(traits)) => traits,
        _ => Map::new(),
    })
}

/// A profile's events after an instant, of these names or of all, the latest first: at most `limit`, after the first `skip`.
///
/// # Errors
/// The database's own.
pub async fn events(
    conn: &mut PgConnection,
    profile: ProfileId,
    after: DateTime<Utc>,
    names: Option<&[String]>,
    skip: i64,
    limit: i64,
) -> Result<Vec<Event>> {
    Ok(sqlx::query_as(
        "select n.name, e.occurred_at, e.message_id, e.source_id, e.properties, e.context
         from events e join event_names n on n.id = e.name_id where e.profile_id = $1 and e.occurred_at > $2
           and ($5::text[] is null or n.name = any($5))
         order by e.occurred_at desc, e.message_id desc offset $3 limit $4",
    )
    .bind(i64::from(profile.0))
    .bind(after)
    .bind(skip)
    .bind(limit)
    .bind(names)
    .fetch_all(conn)
    .await?)
}

/// The groups that a profile belongs to.
///
/// # Errors
/// The database's own.
pub async fn groups(conn: &mut PgConnection, profile: ProfileId) -> Result<Vec<String>> {
    Ok(sqlx::query_scalar("select group_id from group_members where profile_id = $1 order by group_id")
        .bind(i64::from(profile.0))
        .fetch_all(conn)
        .await?)
}

/// When a profile was made, and what it sent first and last.
///
/// # Errors
/// The database's own.
pub async fn metadata(conn: &mut PgConnection, profile: ProfileId) -> Result<Option<Metadata>> {
    Ok(sqlx::query_as(
        "select p.created_at, first.message_id as first_message_id, first.source_id as first_source_id,
                last.message_id as last_message_id, last.source_id as last_source_id
         from profiles p
         left join lateral (select message_id, source_id from events where profile_id = p.id
                            order by occurred_at, message_id limit 1) first on true
         left join lateral (select message_id, source_id from events where profile_id = p.id
                            order by occurred_at desc, message_id desc limit 1) last on true
         where p.id = $1",
    )
    .bind(i64::from(profile.0))
    .fetch_optional(conn)
    .await?)
}
