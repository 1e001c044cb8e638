//! How does forgetting go on? Each call brings every request as far as it can be brought now; none of its steps is repeated.
//!
//! It tells nobody itself: what it seals is told like every other change, by whoever tells the destinations.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::{
    Result,
    profile::forget::{self, Report},
    runs::leave,
};

/// What a call did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Requests whose exits stand in the log now.
    pub sealed: u64,
    /// Of those who were erased.
    pub report: Option<Report>,
}

/// Seals what was asked since, and erases whoever was told of.
///
/// # Errors
/// The database's own; what was done stays done.
pub async fn step(pool: &PgPool, t: DateTime<Utc>) -> Result<Step> {
    let sealed = leave::seal(pool, t).await?;
    forget::note_told(pool).await?;
    leave::scrub(pool).await?;
    Ok(Step { sealed, report: forget::erase(pool).await? })
}
