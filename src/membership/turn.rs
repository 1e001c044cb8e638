//! Whose turn is it to seal? One at a time, so that nobody's work is wasted; safety does not depend on it.
//!
//! A turn is an advisory lock of a session of its own, in which the seal's transaction runs as well: it ends with the
//! session, however that ends. Whatever decides what is to be sealed is looked up within the turn, so that audiences due
//! together are sealed together, by one instance.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};

use crate::{
    Result, limits,
    schedule::held::{self, Held},
};

/// How often to ask again while another instance has the turn.
const BREATH: Duration = Duration::from_millis(100);
/// Tries in vain after which the waiting is told.
const A_WHILE: usize = 10;

/// The right to seal, for as long as it lives.
#[derive(Debug)]
pub struct Turn {
    pub(super) conn: PgConnection,
}

impl Turn {
    /// Takes the turn, for what may take long in the name of an instance's lease. None while another instance has it.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn take(pool: &PgPool, held: Option<&Held>) -> Result<Option<Turn>> {
        // A connection of its own: the lock dies with it, however this turn ends.
        let mut conn = pool.acquire().await?.detach();
        // The name of the lease tells others whether this session is to be respected. An instance that was stopped in the
        // middle must not hold them up for longer than its lease; one stopped while rows are on their way is not idle.
        let timeout = format!("{}s", limits::LEASE_SECONDS);
        let name = held.map_or_else(|| "rollcall".to_owned(), |held| held.lease().name);
        for (setting, value) in [
            ("application_name", &name),
            ("idle_session_timeout", &timeout),
            ("idle_in_transaction_session_timeout", &timeout),
        ] {
            sqlx::query("select set_config($1, $2, false)").bind(setting).bind(value).execute(&mut conn).await?;
        }
        let taken = sqlx::query_scalar("select pg_try_advisory_lock(hashtext('rollcall.seal'))");
        let taken = taken.fetch_one(&mut conn).await?;
        if taken {
            return Ok(Some(Turn { conn }));
        }
        end_sessions_of_the_dead(&mut conn).await?;
        Ok(None)
    }

    /// The session, for what must not happen while somebody seals.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Whether its session has ended.
    pub async fn is_lost(&mut self) -> bool {
        self.conn.ping().await.is_err()
    }

    /// Waits for the turn, and says so if it takes a while.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn wait(pool: &PgPool, held: Option<&Held>) -> Result<Turn> {
        let mut tries = 0;
        loop {
            if let Some(turn) = Turn::take(pool, held).await? {
                return Ok(turn);
            }
            // A turn that has just ended has its lock until its session is gone: that is nothing to speak of.
            tries += 1;
            if tries == A_WHILE {
                tracing::warn!("another instance is computing; waiting until it has sealed");
            }
            tokio::time::sleep(BREATH).await;
        }
    }
}

/// Ends sessions that work under a lease that has ended: nothing else ends one whose client is stopped while its answer
/// is on the way, and it would keep its turn for as long. Their transactions are rolled back.
async fn end_sessions_of_the_dead(conn: &mut PgConnection) -> Result<()> {
    let ended: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(a.pid) from pg_stat_activity a
         where a.datname = current_database() and a.usename = current_user and a.pid <> pg_backend_pid()
           and starts_with(a.application_name, $1)
           and not exists (select from leases l where l.name = a.application_name and l.expires_at > clock_timestamp())",
    )
    .bind(held::PREFIX)
    .fetch_all(conn)
    .await?;
    if !ended.is_empty() {
        tracing::warn!(sessions = ended.len(), "ended the sessions of an instance that is dead or stopped");
    }
    Ok(())
}
