//! What did the configuration last say? Kept beside the definitions, so that `rollcall plan` can show what changed.
//!
//! What is computed and told is up to the configuration itself. Two notes alone are heeded, by the backfills, which know no
//! configuration: whether an audience is enabled, and its `rate_limit`. No secret is kept.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgExecutor, types::Json};

use crate::{
    Error, Result,
    audience::{Class, catalogue::Audience, options::Options},
    config::{Config, Delivery, Destination},
};

/// Settings as text, by their key in the configuration.
pub type Settings = BTreeMap<String, String>;

/// An audience as it was last registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    pub key: String,
    pub name: String,
    pub class: Class,
    /// `enabled`, `disabled` or `deleted`.
    pub state: String,
    /// Of its definition in force.
    pub version: i32,
    pub query: String,
    pub options: Options,
    /// None: it was registered by a version that did not keep them.
    pub settings: Option<Settings>,
}

/// Every audience that has a definition, deleted ones too.
///
/// # Errors
/// The database's own.
pub async fn audiences(conn: &mut PgConnection) -> Result<Vec<Configured>> {
    type Row = (String, String, String, String, i32, String, serde_json::Value, Option<Json<Settings>>);
    let rows: Vec<Row> = sqlx::query_as(
        "select a.key, a.name, a.class, a.state, d.version, d.query, d.options, a.settings
         from audiences a cross join lateral (
             select * from definitions where audience_id = a.id order by version desc limit 1
         ) d order by a.key",
    )
    .fetch_all(conn)
    .await?;
    let configured = rows.into_iter().map(|(key, name, class, state, version, query, options, settings)| {
        let options = serde_json::from_value(options)
            .map_err(|error| Error::halted("a stored definition's options cannot be read").because(error))?;
        let settings = settings.map(|Json(settings)| settings);
        Ok(Configured { key, name, class: Class::of(&class), state, version, query, options, settings })
    });
    configured.collect()
}

/// Every destination that was noted.
///
/// # Errors
/// The database's own.
pub async fn destinations(conn: &mut PgConnection) -> Result<BTreeMap<String, Settings>> {
    let rows: Vec<(String, Json<Settings>)> =
        sqlx::query_as("select name, settings from destination_settings").fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(name, Json(settings))| (name, settings)).collect())
}

/// Notes what the configuration says of known audiences beside their definition: name, whether it is enabled, and its
/// settings. Of those that it does not name, and of deleted ones, nothing changes.
///
/// # Errors
/// The database's own.
pub async fn note_audiences(database: impl PgExecutor<'_>, audiences: &[Audience]) -> Result<()> {
    let (mut keys, mut names, mut states, mut settings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for audience in audiences {
        keys.push(&audience.key);
        names.push(&audience.name);
        states.push(if audience.enabled { "enabled" } else { "disabled" });
        settings.push(serde_json::json!(audience.settings()));
    }
    sqlx::query(
        "update audiences a set name = n.name, state = n.state, settings = n.settings
         from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[]) as n (key, name, state, settings)
         where a.key = n.key and a.state <> 'deleted'
           and (a.name, a.state, a.settings) is distinct from (n.name, n.state, n.settings)",
    )
    .bind(keys)
    .bind(names)
    .bind(states)
    .bind(settings)
    .execute(database)
    .await?;
    Ok(())
}

/// Notes the configured destinations; those that it does not name stay noted.
///
/// # Errors
/// The database's own.
pub async fn note_destinations(database: impl PgExecutor<'_>, config: &Config) -> Result<()> {
    let (names, settings): (Vec<_>, Vec<_>) =
        config.destinations.iter().map(|(name, of)| (name, serde_json::json!(settings(of)))).unzip();
    sqlx::query(
        "insert into destination_settings as s (name, settings) select * from unnest($1::text[], $2::jsonb[])
         on conflict (name) do update set settings = excluded.settings where s.settings <> excluded.settings",
    )
    .bind(names)
    .bind(settings)
    .execute(database)
    .await?;
    Ok(())
}

/// Forgets what was said of destinations that the configuration does not name.
///
/// # Errors
/// The database's own.
pub async fn forget_destinations(database: impl PgExecutor<'_>, config: &Config) -> Result<()> {
    let names: Vec<&String> = config.destinations.keys().collect();
    sqlx::query("delete from destination_settings where name <> all($1)").bind(names).execute(database).await?;
    Ok(())
}

/// What may be kept of a destination: of its connection the brokers alone, of each mapping a digest.
pub fn settings(destination: &Destination) -> Settings {
    let mut settings = Settings::from([
        ("delivery".to_owned(), word(destination.delivery).to_owned()),
        ("cursor_topic".to_owned(), destination.cursor_topic.clone()),
    ]);
    if !destination.enabled {
        settings.insert("enabled".into(), "false".into());
    }
    if let Some(brokers) = destination.settings.get("brokers").and_then(|brokers| brokers.as_str()) {
        settings.insert("brokers".into(), brokers.to_owned());
    }
    for mapping in &destination.mappings {
        let text = format!("{:?}", (mapping.enabled, &mapping.subscribe, &mapping.mapping, mapping.on_exit));
        let digest: String = Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        settings.insert(format!("mapping '{}'", mapping.name), digest);
    }
    settings
}

fn word(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::ExactlyOnce => "exactly_once",
        Delivery::AtLeastOnce => "at_least_once",
    }
}
