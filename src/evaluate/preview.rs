//! Who would be in? A formula evaluated on one snapshot, storing nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::PgPool;

use super::{
    Due, DueValue, Settings, Universe, evaluate, evaluate_all,
    gaps::{self, Asked},
};
use crate::{
    Error, Result,
    audience::{
        Class, Computed,
        conditions::{Formula, Keys},
        missing::Missing,
    },
    membership::{PassedOver, stored},
    values::{settle::Settled, table},
};

/// Who would be in, and what is to be known of it.
pub struct Found {
    pub members: RoaringBitmap,
    /// Which rows of a statement put nobody in.
    pub passed_over: Option<PassedOver>,
    /// Whom comparisons decide about since they lack a trait.
    pub missing: Vec<Missing>,
}

/// The members that a formula would have as of `t`. Audiences it refers to count as last computed.
///
/// # Errors
/// If the database cannot be asked, or a condition cannot be evaluated.
pub async fn members(pool: &PgPool, formula: &Formula, universe: &Universe, t: DateTime<Utc>) -> Result<Found> {
    let mut tx = table::begin_read_only(pool, [formula]).await?;
    let stored = stored::memberships(&mut tx).await?;
    let due = Due { key: "the previewed definition", formula, universe };
    let settings = Settings { remember: false, ..Settings::default() };
    let asked = gaps::asked(&[due]);
    let all: Vec<Due> = [due].into_iter().chain(asked.iter().map(Asked::due)).collect();
    let mut evaluation = evaluate(&mut tx, t, &all, &stored, &settings).await?;
    let missing = gaps::missing(&asked, &evaluation.audiences).remove(due.key).unwrap_or_default();
    let (_, members) = evaluation
        .audiences
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("an evaluated audience has no answer"))?;
    Ok(Found { members: members?, passed_over: evaluation.passed_over.remove(due.key), missing })
}

/// Everybody's value that a computed trait would have as of `t`.
///
/// # Errors
/// If the database cannot be asked, or the trait cannot be evaluated.
pub async fn values(pool: &PgPool, computed: &Computed, universe: &Universe, t: DateTime<Utc>) -> Result<Settled> {
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    // No trait has this key, so no value is held against a stored one.
    let due = DueValue { key: "", computed, universe };
    let settings = Settings { remember: false, ..Settings::default() };
    let evaluation = evaluate_all(&mut tx, t, &[], &[due], &HashMap::new(), &settings).await?;
    let value = evaluation.values.into_iter().next();
    value.ok_or_else(|| Error::internal("an evaluated trait has no answer"))?.1
}

/// What is computed, as far as the store knows.
///
/// # Errors
/// The database's own.
pub async fn keys(pool: &PgPool) -> Result<Keys> {
    let known: Vec<(String, String, Option<Vec<String>>)> =
        sqlx::query_as("select key, class, columns from audiences where state <> 'deleted'").fetch_all(pool).await?;
    let mut keys = Keys::default();
    for (key, class, columns) in known {
        match Class::of(&class) {
            Class::Audience => drop(keys.audiences.insert(key)),
            Class::Trait => {
                keys.traits.extend(columns.into_iter().flatten().map(|column| (column, key.clone())));
                keys.traits.insert(key.clone(), key);
            }
        }
    }
    Ok(keys)
}
