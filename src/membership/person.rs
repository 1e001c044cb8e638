//! What is stored of one person? Their history as the interpreter reads it, for `explain`. Reads only.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{PgConnection, Row};

use crate::{
    Result,
    audience::interpret::{Event, Profile},
    ids::ProfileId,
};

/// Loads a profile's traits and events. `memberships` says for each audience whether they are in.
///
/// # Errors
/// The database's own.
pub async fn history(
    conn: &mut PgConnection,
    profile: ProfileId,
    memberships: BTreeMap<String, bool>,
) -> Result<Profile> {
    let traits: Value = sqlx::query_scalar("select traits from profiles where id = $1")
        .bind(i64::from(profile.0))
        .fetch_one(&mut *conn)
        .await?;
    let rows = sqlx::query(
        "select n.name, e.occurred_at, e.message_id, e.source_id, e.properties, e.context
         from events e join event_names n on n.id = e.name_id where e.profile_id = $1",
    )
    .bind(i64::from(profile.0))
    .fetch_all(conn)
    .await?;
    let event = |row: &sqlx::postgres::PgRow| {
        Ok(Event {
            name: row.try_get("name")?,
            occurred_at: row.try_get("occurred_at")?,
            message_id: row.try_get("message_id")?,
            source_id: row.try_get("source_id")?,
            properties: row.try_get("properties")?,
            context: row.try_get("context")?,
        })
    };
    let events = rows.iter().map(event).collect::<Result<_>>()?;
    Ok(Profile { traits, events, memberships })
}
