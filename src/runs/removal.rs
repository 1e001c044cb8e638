//! How does an audience end? Its row stays, so that its key is not taken again by accident; nobody is told unless it says so.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row};

use super::{forecast, held, seal};
use crate::{
    Result,
    audience::Class,
    delta::{log, renamed::Came},
    ids::{AudienceId, RunId},
    membership::{
        diff::{self, Change},
        run::{Run, RunState},
    },
    registry::register::{self, Listener, Terms},
};

/// Deletes the audience with this key. With `exit` each destination that was told of it is told `false` for whom it holds to be
/// in: a last run of the same log, in the caller's transaction, which must be alone in writing it.
///
/// What was told stays known. So if the key is taken again, its first run tells the difference, and nobody keeps a value that
/// is not true.
///
/// # Errors
/// The database's own.
pub async fn remove(
    tx: &mut PgConnection,
    key: &str,
    exit: bool,
    t: DateTime<Utc>,
    terms: &HashMap<String, Terms>,
) -> Result<Option<RunId>> {
    let row = sqlx::query(
        "select a.id, a.class, m.members, (select max(version) from definitions where audience_id = a.id) as version
         from audiences a left join memberships m on m.audience_id = a.id where a.key = $1",
    )
    .bind(key)
    .fetch_one(&mut *tx)
    .await?;
    let audience = AudienceId(row.try_get("id")?);
    held::close(tx, audience, RunState::Discarded).await?;
    let members = row.try_get::<Option<&[u8]>, _>("members")?.map(diff::decode).transpose()?;
    let last = match (members, row.try_get::<Option<i32>, _>("version")?) {
        (Some(members), Some(version)) if exit => {
            let destinations: Vec<String> = forecast::told(tx, key).await?.into_keys().collect();
            let class = Class::of(row.try_get("class")?);
            let destinations = register::listeners(tx, &destinations, terms).await?;
            // A farewell waits for no turn, so it has no rate.
            let of = log::Of { id: audience, class, rate_limit: None };
            Some(farewell(tx, of, key, version, &destinations, &members, t).await?)
        }
        _ => None,
    };
    for sql in [
        "update audiences set state = 'deleted', deleted_at = clock_timestamp() where id = $1",
        // What still runs for it finds no tick, and cannot seal.
        "delete from schedules where audience_id = $1",
        "delete from confirmations where audience_id = $1",
    ] {
        sqlx::query(sql).bind(audience).execute(&mut *tx).await?;
    }
    Ok(last)
}

/// A run after which nobody is in.
async fn farewell(
    tx: &mut PgConnection,
    of: log::Of,
    key: &str,
    version: i32,
    destinations: &[Listener],
    members: &RoaringBitmap,
    t: DateTime<Utc>,
) -> Result<RunId> {
    let nobody = RoaringBitmap::new();
    let change = Change::between(members, &nobody);
    let snapshot = seal::snapshot(tx).await?;
    let id: RunId = sqlx::query_scalar(
        "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count,
                           exited_count, entered, exited, evaluate_ms)
         values ($1, $2, $3, $4, 0, 0, $5, $6, $7, 0) returning id",
    )
    .bind(of.id)
    .bind(version)
    .bind(t)
    .bind(snapshot)
    .bind(change.exited.len() as i64)
    .bind(diff::encode(&change.entered))
    .bind(diff::encode(&change.exited))
    .fetch_one(&mut *tx)
    .await?;
    let run = Run {
        run: Some(id),
        key: key.to_owned(),
        evaluated_at: t,
        members: 0,
        entered: 0,
        exited: change.exited.len(),
        evaluate_ms: 0,
        state: RunState::Sealed,
        held_because: None,
        passed_over: None,
    };
    held::accept(tx, of.id, id, &nobody).await?;
    sqlx::query("delete from trait_values where audience_id = $1").bind(of.id).execute(&mut *tx).await?;
    for destination in destinations {
        log::tell(tx, destination, of, &run, &change, &nobody, &mut Came::default()).await?;
    }
    Ok(id)
}
