//! How is Postgres set up for an evaluation? Until the end of the transaction only.

use sqlx::{PgConnection, Row as _};

use super::Settings;
use crate::{Result, fault::Safeguard, limits};

/// Sets the planner up for large scans; returns the caller's statement timeout.
pub(super) async fn prepare(conn: &mut PgConnection, settings: &Settings) -> Result<String> {
    let idle = match Safeguard::SealMayIdle.is_on() {
        true => limits::EVALUATION_IDLE_SECONDS,
        false => limits::LEASE_SECONDS,
    };
    let row = sqlx::query(
        "select current_setting('statement_timeout'), set_config('jit', 'off', true), \
         set_config('work_mem', $1, true), set_config('statement_timeout', $2, true), \
         set_config('idle_in_transaction_session_timeout', $3, true)",
    )
    .bind(format!("{}MB", settings.work_mem_mib))
    .bind(settings.statement_timeout_ms.to_string())
    // It idles while another database works on a statement, and while we compute.
    .bind(format!("{idle}s"))
    .fetch_one(conn)
    .await?;
    Ok(row.try_get(0)?)
}

/// Puts the caller's statement timeout back.
pub(super) async fn restore(conn: &mut PgConnection, statement_timeout: &str) -> Result<()> {
    sqlx::query("select set_config('statement_timeout', $1, true)").bind(statement_timeout).execute(conn).await?;
    Ok(())
}
