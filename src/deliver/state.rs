//! What does Postgres know of each delivery? Lists for people; nothing is written here.
//!
//! Under exactly_once all of it is advisory or evidence: it can stop a delivery, it can never move one. Who writes it is in
//! [`super::claim`].

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    Result,
    delta::lane::Lane,
    ids::{DestinationId, Position},
};

/// Why a delivery halted; `None` if it may go on.
///
/// # Errors
/// If the database cannot be asked.
pub async fn halt(pool: &PgPool, destination: DestinationId) -> Result<Option<String>> {
    let halt = sqlx::query_scalar(
        "select concat_ws(': ', halt_reason, halt_detail) from deliveries where destination_id = $1 and state = 'halted'",
    );
    Ok(halt.bind(destination).fetch_optional(pool).await?)
}

/// A lane of a destination in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct DestinationRow {
    pub name: String,
    pub lane: Lane,
    /// `live` or `halted`.
    pub state: String,
    pub halt_reason: Option<String>,
    pub halt_detail: Option<String>,
    /// The mirror of the committed cursor.
    pub cursor: Position,
    /// The end of the log.
    pub end: Position,
    /// Records in quarantine that are told to nobody.
    pub quarantined: i64,
    pub updated_at: Option<DateTime<Utc>>,
}

/// Every destination that has a log: its live lane, and its bulk lane once that was needed.
///
/// # Errors
/// The database's own.
pub async fn destinations(pool: &PgPool) -> Result<Vec<DestinationRow>> {
    Ok(sqlx::query_as(
        "select d.name, d.lane, coalesce(v.state, 'live') as state, v.halt_reason, v.halt_detail,
                coalesce(v.cursor_position, 0) as cursor, d.next_position as \"end\", v.updated_at,
                (select count(*) from quarantine q where q.destination_id = d.id and q.state = 'open') as quarantined
         from destinations d left join deliveries v on v.destination_id = d.id order by d.name, d.lane desc",
    )
    .fetch_all(pool)
    .await?)
}

/// The streams of the destination called `name`, the live lane's first; none before its first sync.
///
/// # Errors
/// The database's own, also where the schema is not set up yet.
pub async fn streams(connection: &mut PgConnection, name: &str) -> Result<Vec<Uuid>> {
    let streams = sqlx::query_scalar("select stream from destinations where name = $1 order by lane desc").bind(name);
    Ok(streams.fetch_all(connection).await?)
}
