//! Which names of definitions does the store hold? Events, traits, and who carries a trait that an audience would hide. Reads only.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::{Result, audience::check::Known, config::Config};

/// Profiles whose traits are looked at for names that may be meant.
const SAMPLE: i64 = 20_000;

/// Notes how many profiles carry imported traits whose names are keys: of what is configured and not yet known, and of what was
/// deleted and is still mentioned. Asks nothing where there is no such key.
///
/// # Errors
/// The database's own.
pub async fn carried(conn: &mut PgConnection, config: &Config, known: &mut Known) -> Result<()> {
    let is_known = |key: &String| {
        known.computed.contains_key(key) || known.audiences.iter().any(|of| of.key == *key && !of.deleted)
    };
    let configured: BTreeSet<String> = config.computations().map(|(key, ..)| key).collect();
    let mentioned =
        |key: &str| config.audiences.iter().any(|of| of.query.as_ref().is_some_and(|text| text.contains(key)));
    let deleted = known.audiences.iter().filter(|of| of.deleted && !configured.contains(&of.key)).map(|of| &of.key);
    let names: BTreeSet<&String> =
        configured.iter().filter(|key| !is_known(key)).chain(deleted.filter(|key| mentioned(key))).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<&String> = names.into_iter().collect();
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select name, count(*) from profiles cross join unnest($1::text[]) as keys (name) where traits ? name group by name",
    )
    .bind(names)
    .fetch_all(conn)
    .await?;
    known.carried = counts.into_iter().map(|(name, count)| (name, count.unsigned_abs())).collect();
    Ok(())
}

/// Notes the names of events, and of the traits of some profiles, so that a name that nothing has can be told.
///
/// # Errors
/// The database's own.
pub async fn names(conn: &mut PgConnection, config: &Config, known: &mut Known) -> Result<()> {
    let events: Vec<String> = sqlx::query_scalar("select name from event_names").fetch_all(&mut *conn).await?;
    known.events = events.into_iter().collect();
    let traits: Vec<String> = sqlx::query_scalar(
        "select distinct jsonb_object_keys(traits) from (select traits from profiles order by id desc limit $1) as sampled",
    )
    .bind(SAMPLE)
    .fetch_all(&mut *conn)
    .await?;
    known.traits = traits.into_iter().chain(known.computed.keys().cloned()).collect();
    if known.traits.is_empty() {
        return Ok(());
    }
    // A rare one need not be among those.
    let text: String = config.audiences.iter().filter_map(|of| of.query.as_deref()).collect();
    let mentioned: BTreeSet<&str> =
        text.split(['\'', '"']).filter(|name| !name.is_empty() && !known.traits.contains(*name)).collect();
    let rare: Vec<String> = sqlx::query_scalar(
        "select name from unnest($1::text[]) as names (name) where exists (select from profiles where traits ? name)",
    )
    .bind(mentioned.into_iter().collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    known.traits.extend(rare);
    Ok(())
}
