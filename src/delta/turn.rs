//! Whose turn is it to seal? One at a time, so that nobody's work is wasted; safety does not depend on it.
//!
//! A turn is an advisory lock of a session of its own, in which the seal's transaction runs as well: it ends with the
//! session, however that ends. Whatever decides what is to be sealed is looked up within the turn, so that audiences due
//! together are sealed together, by one instance.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};

use crate::{
    Result,
    lease::{self, Held, Leased},
};

/// How often to ask again while another instance has the turn.
const BREATH: Duration = Duration::from_millis(100);
/// Tries in vain after which the waiting is told.
const A_WHILE: usize = 10;

/// The right to seal, for as long as it lives.
#[derive(Debug)]
pub struct Turn {
    pub(crate) conn: Leased,
}

impl Turn {
    /// Takes the turn, for what may take long, in the name of this lease or of one of its own. None while another instance has it.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn take(pool: &PgPool, held: Option<&Held>) -> Result<Option<Turn>> {
        let mut conn = open(pool, held).await?;
        Ok(try_lock(&mut conn).await?.then_some(Turn { conn }))
    }

    /// The session, for what must not happen while somebody seals.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Whether its session has ended.
    pub async fn is_lost(&mut self) -> bool {
        self.conn.ping().await.is_err()
    }

    /// Waits for the turn in one session, and says so if it takes a while.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn wait(pool: &PgPool, held: Option<&Held>) -> Result<Turn> {
        let mut conn = open(pool, held).await?;
        let mut tries = 0;
        while !try_lock(&mut conn).await? {
            // A turn that has just ended has its lock until its session is gone: that is nothing to speak of.
            tries += 1;
            if tries == A_WHILE {
                tracing::warn!("another instance is computing; waiting until it has sealed");
            }
            tokio::time::sleep(BREATH).await;
        }
        Ok(Turn { conn })
    }
}

/// A session of its own: the lock dies with it, however the turn ends. An instance that is stopped in the middle holds others up for no
/// longer than its lease.
async fn open(pool: &PgPool, held: Option<&Held>) -> Result<Leased> {
    match held {
        Some(held) => Leased::under(pool, held).await,
        None => Leased::open(pool).await,
    }
}

async fn try_lock(conn: &mut PgConnection) -> Result<bool> {
    let taken: bool =
        sqlx::query_scalar("select pg_try_advisory_lock(hashtext('rollcall.seal'))").fetch_one(&mut *conn).await?;
    if !taken {
        lease::end_sessions_of_the_dead(conn).await?;
    }
    Ok(taken)
}
