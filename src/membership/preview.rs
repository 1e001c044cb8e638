//! Who would be in? A formula evaluated on one snapshot, storing nothing.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::PgPool;

use super::{Due, Settings, Universe, evaluate, seal};
use crate::{Error, Result, audience::conditions::Formula};

/// The members that a formula would have as of `t`. Audiences it refers to count as last computed.
///
/// # Errors
/// If the database cannot be asked, or a condition cannot be evaluated.
pub async fn members(pool: &PgPool, formula: &Formula, universe: &Universe, t: DateTime<Utc>) -> Result<RoaringBitmap> {
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let stored = seal::memberships(&mut tx).await?;
    let due = Due { key: "the previewed definition", formula, universe };
    let settings = Settings { remember: false, ..Settings::default() };
    let evaluation = evaluate(&mut tx, t, &[due], &stored, &settings).await?;
    let (_, members) = evaluation
        .audiences
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("an evaluated audience has no answer"))?;
    members
}

/// The keys of all audiences that the store knows: a trait of such a name is a membership.
///
/// # Errors
/// The database's own.
pub async fn keys(pool: &PgPool) -> Result<BTreeSet<String>> {
    let keys: Vec<String> =
        sqlx::query_scalar("select key from audiences where state <> 'deleted' and class = 'audience'")
            .fetch_all(pool)
            .await?;
    Ok(keys.into_iter().collect())
}
