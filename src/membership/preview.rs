//! Who would be in? A formula evaluated on one snapshot, storing nothing.

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::PgPool;

use super::{Due, Settings, Universe, evaluate, seal};
use crate::{
    Error, Result,
    audience::{
        Class,
        ast::Expr,
        conditions::{self, Formula},
    },
};

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

/// Splits a definition by what the store knows: a trait may be a membership, or computed.
///
/// # Errors
/// The database's own, or what the definition may not say.
pub async fn formula(pool: &PgPool, definition: &Expr) -> Result<Formula> {
    let known: Vec<(String, String)> =
        sqlx::query_as("select key, class from audiences where state <> 'deleted'").fetch_all(pool).await?;
    let of = |class| known.iter().filter(move |(_, is)| Class::of(is) == class).map(|(key, _)| key.clone()).collect();
    conditions::formula(definition, &of(Class::Audience))?.with_values(&of(Class::Trait))
}
