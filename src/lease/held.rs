//! Is the lease still ours? Renewed in the background as long as it is held.
//!
//! Whoever has one also ends the sessions of those who have lost theirs, so that nobody waits for the locks of a stopped process.

use std::time::Duration;

use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Lease, PREFIX};
use crate::{
    Error, Result,
    clock::Clock,
    fault::{self, Point},
    lease, limits,
};

/// How often to look whether a lease that was asked for is free, and how long the asking is heard: longer than a holder takes to
/// renew, and no longer than that after whoever asked has gone.
const BREATH: Duration = Duration::from_millis(100);
const ASKED: Duration = Duration::from_secs(limits::LEASE_SECONDS);

/// This process among all that work on the database: who asks for leases.
#[derive(Debug, Clone)]
pub struct Instance {
    pub pool: PgPool,
    pub clock: Clock,
    /// The holder of its leases.
    pub id: Uuid,
}

impl Instance {
    /// Nobody's name but this one's.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn new(pool: PgPool, clock: Clock) -> Result<Instance> {
        let id = unique(&pool).await?;
        Ok(Instance { pool, clock, id })
    }

    /// Takes a lease for computing under a name that nobody had before, so that what was fired under an earlier one is
    /// abandoned for good.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn lease(&self) -> Result<Held> {
        let name = format!("{PREFIX}{}", unique(&self.pool).await?);
        Held::acquire(self, &name).await?.ok_or_else(|| Error::internal("another instance has a lease of this one's"))
    }

    /// Gives all its leases back: what it does when it ends.
    ///
    /// # Errors
    /// If the database cannot be asked; then they end by themselves.
    pub async fn release_all(&self) -> Result<()> {
        lease::release_all(&self.pool, self.id).await
    }
}

async fn unique(pool: &PgPool) -> Result<Uuid> {
    Ok(sqlx::query_scalar("select gen_random_uuid()").fetch_one(pool).await?)
}

/// A lease that is kept. Dropped, it is no longer renewed and ends by itself.
#[derive(Debug)]
pub struct Held {
    instance: Instance,
    lease: watch::Receiver<Lease>,
    keeper: JoinHandle<()>,
}

impl Held {
    /// Asks for the lease called `name`. None if another instance has it.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn acquire(instance: &Instance, name: &str) -> Result<Option<Held>> {
        let ttl = Duration::from_secs(limits::LEASE_SECONDS);
        let Instance { pool, clock, id } = instance.clone();
        fault::point(Point::BeforeLease);
        let Some(mut lease) = lease::acquire(&pool, &clock, name, id, ttl).await? else { return Ok(None) };
        fault::point(Point::AfterLease);
        let (renewed, kept) = watch::channel(lease.clone());
        let keep = async move {
            loop {
                clock.sleep(lease.renew_every()).await;
                match lease::renew(&pool, &clock, &mut lease).await {
                    Ok(true) => drop(renewed.send_replace(lease.clone())),
                    Ok(false) => return tracing::warn!(lease = lease.name, "the lease has ended"),
                    // Trust ends by itself, unless a later attempt comes through before.
                    Err(error) => tracing::warn!(lease = lease.name, %error, "the lease is not renewed"),
                }
                if let Err(error) = lease::end_sessions_of_the_dead(&pool).await {
                    tracing::debug!(%error, "nobody looked for sessions of the dead");
                }
            }
        };
        let keeper = tokio::spawn(keep.in_current_span());
        Ok(Some(Held { instance: instance.clone(), lease: kept, keeper }))
    }

    /// Waits for the lease called `name`, and asks its holder to give it back. None if it has not after `patience`.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn ask(instance: &Instance, name: &str, patience: Duration) -> Result<Option<Held>> {
        let until = instance.clock.monotonic() + patience;
        loop {
            if let Some(held) = Held::acquire(instance, name).await? {
                return Ok(Some(held));
            }
            if instance.clock.monotonic() >= until {
                return Ok(None);
            }
            lease::ask(&instance.pool, name, ASKED).await?;
            instance.clock.sleep(BREATH).await;
        }
    }

    /// The lease as it was last renewed.
    pub fn lease(&self) -> Lease {
        self.lease.borrow().clone()
    }

    /// Whether it may still be acted on.
    pub fn is_trusted(&self) -> bool {
        self.lease.borrow().is_trusted(&self.instance.clock)
    }

    /// Whether to go on with one thing after the other: it may be acted on, and nobody waits for it.
    pub fn is_kept(&self) -> bool {
        self.is_trusted() && !self.lease.borrow().is_asked()
    }

    /// Gives it back, so that others need not wait for its end.
    pub async fn release(self) {
        self.keeper.abort();
        let lease = self.lease();
        if let Err(error) = lease::release(&self.instance.pool, lease).await {
            tracing::debug!(%error, "a lease could not be given back; it ends by itself");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
