//! Is the lease still ours? Renewed in the background as long as it is held.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tracing::Instrument as _;

use super::Instance;
use crate::{
    Result, limits,
    schedule::lease::{self, Lease},
};

/// A lease that is kept. Dropped, it is no longer renewed and ends by itself.
pub struct Held {
    instance: Instance,
    lease: watch::Receiver<Lease>,
    keeper: JoinHandle<()>,
}

impl Held {
    /// Asks for the lease called `name`. None if another instance has it.
    pub async fn acquire(instance: &Instance, name: &str) -> Result<Option<Held>> {
        let ttl = Duration::from_secs(limits::LEASE_SECONDS);
        let Instance { pool, clock, id } = instance.clone();
        let Some(mut lease) = lease::acquire(&pool, &clock, name, id, ttl).await? else { return Ok(None) };
        let (renewed, kept) = watch::channel(lease.clone());
        let keep = async move {
            loop {
                sleep(lease.renew_every()).await;
                match lease::renew(&pool, &clock, &mut lease).await {
                    Ok(true) => drop(renewed.send_replace(lease.clone())),
                    Ok(false) => return tracing::warn!(lease = lease.name, "the lease has ended"),
                    // Trust ends by itself, unless a later attempt comes through before.
                    Err(error) => tracing::warn!(lease = lease.name, %error, "the lease is not renewed"),
                }
            }
        };
        let keeper = tokio::spawn(keep.in_current_span());
        Ok(Some(Held { instance: instance.clone(), lease: kept, keeper }))
    }

    /// The lease as it was last renewed.
    pub fn lease(&self) -> Lease {
        self.lease.borrow().clone()
    }

    /// Whether it may still be acted on.
    pub fn is_trusted(&self) -> bool {
        self.lease.borrow().is_trusted(&self.instance.clock)
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
