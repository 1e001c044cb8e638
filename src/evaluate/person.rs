//! What is stored of one person? Their history as the interpreter reads it, for `explain`. Reads only.

use serde_json::Value;
use sqlx::{PgConnection, Row};

use crate::{
    Result,
    audience::{
        catalogue::Audience,
        interpret::{Event, Profile},
        outlook::{self, Outlook},
    },
    ids::ProfileId,
    membership::standing,
    profile::lookup,
    registry::register,
    values,
};

/// Loads what is known of a profile, for the audiences and traits of a catalogue to be held against.
///
/// # Errors
/// The database's own.
pub async fn outlook<'c>(
    conn: &mut PgConnection,
    profile: ProfileId,
    audiences: &'c [Audience],
) -> Result<Outlook<'c>> {
    let mut history = history(conn, profile).await?;
    let values = values::of_person(conn, profile).await?;
    if let Value::Object(traits) = &mut history.traits {
        // Those that are not configured any more keep their last values.
        for key in register::known(&mut *conn).await?.computed.into_keys() {
            let value = outlook::json(values.get(&key).map(String::as_str));
            traits.insert(key, value);
        }
    }
    let identifier_types = lookup::identifier_types(conn, profile).await?.into_iter().collect();
    let member_of = standing::audiences(conn, profile).await?.into_iter().collect();
    Ok(Outlook { audiences, history, identifier_types, values, member_of })
}

/// A profile's traits and events, without memberships.
async fn history(conn: &mut PgConnection, profile: ProfileId) -> Result<Profile> {
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
    Ok(Profile { traits, events, ..Profile::default() })
}
