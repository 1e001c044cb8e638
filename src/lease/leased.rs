//! How does a session that holds what others wait for lose it, when its process is stopped? By the name of a lease, which then ends.
//!
//! A session that idles in a transaction is ended by Postgres itself. One that is stopped amid rows on their way is not idle: only others
//! can end it, and they know by the lease that they may.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::{runtime::Handle, time::timeout};

use super::{Held, Instance};
use crate::{Result, clock::Clock, database};

/// How long giving a lease back may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session in the name of a lease. Dropped, it is closed, and what it had begun is rolled back.
#[derive(Debug)]
pub struct Leased {
    // Dropped first: nobody is to see a session whose lease is given back.
    connection: PgConnection,
    own: Option<Own>,
}

impl Leased {
    /// Opens a session in the name of a lease of its own, which lasts as long as it does.
    ///
    /// # Errors
    /// If the database does not let us in.
    pub async fn open(pool: &PgPool) -> Result<Leased> {
        // Real time, whatever time it is for those who compute: it is about what Postgres sees of this process.
        let instance = Instance::new(pool.clone(), Clock::system()).await?;
        let held = instance.lease().await?;
        let connection = open(pool, &held).await?;
        Ok(Leased { connection, own: Some(Own(Some(held))) })
    }

    /// Opens a session in the name of a lease that somebody keeps.
    ///
    /// # Errors
    /// If the database does not let us in.
    pub async fn under(pool: &PgPool, held: &Held) -> Result<Leased> {
        Ok(Leased { connection: open(pool, held).await?, own: None })
    }

    /// Ends it, with its lease, before this returns: a program that ends next leaves nothing behind.
    pub async fn close(self) {
        let Leased { connection, own } = self;
        drop(connection);
        if let Some(held) = own.and_then(|mut own| own.0.take()) {
            timeout(PATIENCE, held.release()).await.ok();
        }
    }

    /// Whether others still respect it. One that they do not is to be dropped.
    pub fn is_trusted(&self) -> bool {
        self.own.as_ref().is_none_or(|own| own.0.as_ref().is_some_and(Held::is_trusted))
    }
}

async fn open(pool: &PgPool, held: &Held) -> Result<PgConnection> {
    let mut connection = database::connect(&pool.connect_options()).await?;
    // A name of our own making: no character of it means anything in SQL.
    let name = format!("set application_name = '{}'", held.lease().name);
    sqlx::raw_sql(AssertSqlSafe(name)).execute(&mut connection).await?;
    Ok(connection)
}

impl Deref for Leased {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Leased {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A lease that is given back when dropped, so that dead ones do not pile up.
#[derive(Debug)]
struct Own(Option<Held>);

impl Drop for Own {
    fn drop(&mut self) {
        if let (Some(held), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, held.release()));
        }
    }
}
