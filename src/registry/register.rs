//! Which audiences and destinations does the store know? Makes those of a configuration known, each with its version.
//!
//! Definitions are never changed: another query or option is the next version. Nothing is evaluated or told here.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgExecutor, PgPool, Row};

use crate::{
    Error, Result,
    audience::{Class, catalogue::Audience, check::Known, key::Taken},
    ids::{AudienceId, DestinationId},
    ksuid, limits,
};

/// An audience that the store knows.
#[derive(Debug, Clone)]
pub struct Registered {
    pub id: AudienceId,
    pub version: i32,
    pub audience: Audience,
    pub destinations: Vec<Listener>,
}

/// A destination that is told of an audience.
#[derive(Debug, Clone)]
pub struct Listener {
    pub id: DestinationId,
    /// Fingerprint of its mappings, kept with the log.
    pub mapping_version: String,
    /// More changes of one audience than this, entered or exited, are left to a backfill.
    pub backfill_above: u32,
}

/// What sealing goes by, of a destination's configuration.
#[derive(Debug, Clone)]
pub struct Terms {
    /// See [`Listener`].
    pub mapping_version: String,
    /// See [`Listener`].
    pub backfill_above: u32,
}

/// Those of a destination whose configuration is wrong: it is told when it is mended.
impl Default for Terms {
    fn default() -> Self {
        Terms { mapping_version: String::new(), backfill_above: limits::BACKFILL_ABOVE }
    }
}

/// As [`register`] would, but writing nothing: for a dry run, which uses neither ids nor versions.
pub fn pretend(audiences: &[Audience]) -> Vec<Registered> {
    let nobody = |audience: &Audience| Registered {
        id: AudienceId(0),
        version: 0,
        audience: audience.clone(),
        destinations: Vec::new(),
    };
    audiences.iter().map(nobody).collect()
}

/// Makes audiences and their destinations known, in the order given. `terms` is by destination.
///
/// # Errors
/// If the database cannot be asked, or a key belongs to a deleted audience ([`crate::Kind::Settings`]).
pub async fn register(
    pool: &PgPool,
    space_id: &str,
    audiences: &[Audience],
    terms: &HashMap<String, Terms>,
) -> Result<Vec<Registered>> {
    let mut tx = pool.begin().await?;
    let registered = register_in(&mut tx, space_id, audiences, terms).await?;
    tx.commit().await?;
    Ok(registered)
}

/// The same within the caller's transaction.
pub async fn register_in(
    tx: &mut PgConnection,
    space_id: &str,
    audiences: &[Audience],
    terms: &HashMap<String, Terms>,
) -> Result<Vec<Registered>> {
    let mut registered = Vec::with_capacity(audiences.len());
    for audience in audiences {
        let id = audience_id(tx, space_id, audience).await?;
        let version = version(tx, id, audience).await?;
        let destinations = listeners(tx, &audience.destinations, terms).await?;
        registered.push(Registered { id, version, audience: audience.clone(), destinations });
    }
    Ok(registered)
}

/// Every audience and computed trait that was ever registered, deleted ones too.
///
/// # Errors
/// The database's own.
pub async fn known(database: impl PgExecutor<'_>) -> Result<Known> {
    let rows: Vec<(String, String, bool, String)> =
        sqlx::query_as("select key, name, state = 'deleted', class from audiences order by key")
            .fetch_all(database)
            .await?;
    let mut known = Known::default();
    for (key, name, deleted, class) in rows {
        match Class::of(&class) {
            Class::Trait if !deleted => drop(known.computed.insert(key, name)),
            _ => known.audiences.push(Taken { key, name, deleted }),
        }
    }
    Ok(known)
}

/// Which of these were deleted since they were registered.
pub(crate) async fn deleted(conn: &mut PgConnection, audiences: &[Registered]) -> Result<Vec<AudienceId>> {
    let ids: Vec<i64> = audiences.iter().map(|of| of.id.0).collect();
    Ok(sqlx::query_scalar("select id from audiences where id = any($1) and state = 'deleted'")
        .bind(ids)
        .fetch_all(conn)
        .await?)
}

async fn audience_id(conn: &mut PgConnection, space_id: &str, audience: &Audience) -> Result<AudienceId> {
    let class = audience.computed.class();
    let known = sqlx::query("select id, state, name, class from audiences where key = $1")
        .bind(&audience.key)
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(known) = known {
        let id = AudienceId(known.try_get("id")?);
        let stored = Class::of(known.try_get("class")?);
        if stored != class {
            return Err(Error::settings(format!("the key '{}' is that of {}", audience.key, stored.with_article()))
                .help(format!("Give {} a `key` of its own.", class.with_article())));
        }
        if known.try_get::<&str, _>("state")? == "deleted" && audience.reuse_deleted_key {
            sqlx::query("update audiences set state = 'enabled', deleted_at = null where id = $1")
                .bind(id)
                .execute(&mut *conn)
                .await?;
        } else if known.try_get::<&str, _>("state")? == "deleted" {
            let name: String = known.try_get("name")?;
            return Err(Error::settings(format!(
                "the key '{}' belongs to the deleted audience '{name}'",
                audience.key
            ))
            .help("Give the new one a `key` of its own, or set `reuse_deleted_key: true`."));
        }
        if known.try_get::<&str, _>("name")? != audience.name {
            sqlx::query("update audiences set name = $2 where id = $1")
                .bind(id)
                .bind(&audience.name)
                .execute(&mut *conn)
                .await?;
        }
        return Ok(id);
    }
    // Two instances may meet a new audience at once: the key is unique, and whoever comes second finds it.
    let created = sqlx::query_scalar("select now()").fetch_one(&mut *conn).await?;
    Ok(sqlx::query_scalar(
        "insert into audiences (key, name, computation_id, created_at, class) values ($1, $2, $3, $4, $5)
         on conflict (key) do update set name = excluded.name returning id",
    )
    .bind(&audience.key)
    .bind(&audience.name)
    .bind(computation_id(class, space_id, &audience.key, created))
    .bind(created)
    .bind(class.as_str())
    .fetch_one(conn)
    .await?)
}

/// `aud_` or `tra_` and a KSUID, as the peer names them; a function of space and key.
fn computation_id(class: Class, space_id: &str, key: &str, created: DateTime<Utc>) -> String {
    let mut hash = Sha256::new();
    hash.update((space_id.len() as u64).to_be_bytes());
    hash.update(space_id);
    hash.update(key);
    let prefix = match class {
        Class::Audience => "aud",
        Class::Trait => "tra",
    };
    format!("{prefix}_{}", ksuid::of(created, hash))
}

async fn version(conn: &mut PgConnection, id: AudienceId, audience: &Audience) -> Result<i32> {
    let options = serde_json::to_value(&audience.options)
        .map_err(|error| Error::internal("options cannot be written").because(error))?;
    let latest = sqlx::query(
        "select version, query = $2 and options = $3 as same from definitions
         where audience_id = $1 order by version desc limit 1",
    )
    .bind(id)
    .bind(&audience.query)
    .bind(&options)
    .fetch_optional(&mut *conn)
    .await?;
    let next = match latest {
        Some(latest) if latest.try_get("same")? => return Ok(latest.try_get("version")?),
        Some(latest) => latest.try_get::<i32, _>("version")? + 1,
        None => 1,
    };
    sqlx::query("insert into definitions (audience_id, version, query, options) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(next)
        .bind(&audience.query)
        .bind(&options)
        .execute(conn)
        .await?;
    Ok(next)
}

/// Makes destinations known, as those that are told of an audience.
pub(crate) async fn listeners(
    conn: &mut PgConnection,
    names: &[String],
    terms: &HashMap<String, Terms>,
) -> Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(names.len());
    for name in names {
        let Terms { mapping_version, backfill_above } = terms.get(name).cloned().unwrap_or_default();
        listeners.push(Listener { id: destination(conn, name).await?, mapping_version, backfill_above });
    }
    Ok(listeners)
}

/// Makes a destination known by its name, if it is not yet.
///
/// # Errors
/// If the database cannot be asked.
pub async fn destination(conn: &mut PgConnection, name: &str) -> Result<DestinationId> {
    let known = sqlx::query_scalar("select id from destinations where name = $1 and lane = 'live'")
        .bind(name)
        .fetch_optional(&mut *conn)
        .await?;
    match known {
        Some(id) => Ok(id),
        None => Ok(sqlx::query_scalar(
            "insert into destinations (name) values ($1) on conflict (name, lane) do update set name = excluded.name
             returning id",
        )
        .bind(name)
        .fetch_one(conn)
        .await?),
    }
}
