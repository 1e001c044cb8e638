//! How far is each destination, and may it go on? What Postgres knows of deliveries; Kafka is not asked.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::{Result, ids::Position};

/// A destination in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct DestinationRow {
    pub name: String,
    /// `live` or `halted`.
    pub state: String,
    pub halt_reason: Option<String>,
    pub halt_detail: Option<String>,
    /// The mirror of the committed cursor.
    pub cursor: Position,
    /// The end of the log.
    pub end: Position,
    /// Records in quarantine.
    pub quarantined: i64,
    pub updated_at: Option<DateTime<Utc>>,
}

/// Every destination that has a log.
///
/// # Errors
/// The database's own.
pub async fn destinations(pool: &PgPool) -> Result<Vec<DestinationRow>> {
    Ok(sqlx::query_as(
        "select d.name, coalesce(v.state, 'live') as state, v.halt_reason, v.halt_detail,
                coalesce(v.cursor_position, 0) as cursor, d.next_position as \"end\", v.updated_at,
                (select count(*) from quarantine q where q.destination_id = d.id) as quarantined
         from destinations d left join deliveries v on v.destination_id = d.id order by d.name",
    )
    .fetch_all(pool)
    .await?)
}
