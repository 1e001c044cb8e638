//! How is Postgres set up for an evaluation? Until the end of the transaction only.

use sqlx::{PgConnection, Row as _};

use super::Settings;
use crate::Result;

/// Sets the planner up for large scans; returns the caller's statement timeout.
pub(super) async fn prepare(conn: &mut PgConnection, settings: &Settings) -> Result<String> {
    let row = sqlx::query(
        "select current_setting('statement_timeout'), set_config('jit', 'off', true), \
         set_config('work_mem', $1, true), set_config('statement_timeout', $2, true)",
    )
    .bind(format!("{}MB", settings.work_mem_mib))
    .bind(settings.statement_timeout_ms.to_string())
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// Puts the caller's statement timeout back.
pub(super) async fn restore(conn: &mut PgConnection, statement_timeout: &str) -> Result<()> {
    sqlx::query("select set_config('statement_timeout', $1, true)").bind(statement_timeout).execute(conn).await?;
    Ok(())
}
