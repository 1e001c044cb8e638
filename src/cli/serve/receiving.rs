//! Are live messages taken in as the configuration asks for?

use std::sync::Arc;

use sqlx::PgPool;

use crate::{
    Result,
    clock::Clock,
    config,
    config::{Config, Identity},
    http::tracking::Tracking,
    profile::rules::Rules,
};

/// The tracking API, as long as it is configured.
pub struct Receiving {
    pool: PgPool,
    clock: Clock,
    running: Option<Tracking>,
    by: Option<config::Tracking>,
    identity: Identity,
}

impl Receiving {
    /// Begins to take messages in.
    ///
    /// # Errors
    /// If the address that is configured cannot be had.
    pub async fn start(
        pool: PgPool,
        clock: Clock,
        config: Option<&config::Tracking>,
        identity: &Identity,
    ) -> Result<Receiving> {
        let running = match config {
            Some(config) => {
                let rules = Arc::new(Rules::of(identity)?);
                Some(Tracking::start(pool.clone(), clock.clone(), config, rules).await?)
            }
            None => None,
        };
        Ok(Receiving { pool, clock, running, by: config.cloned(), identity: identity.clone() })
    }

    /// Takes them in by another configuration from here on: other write keys at once, at another address after the requests
    /// under way.
    ///
    /// # Errors
    /// As [`Receiving::start`]; nothing is taken in then.
    pub async fn follow(&mut self, config: &Config) -> Result<()> {
        let wanted = config.tracking.as_ref();
        let address = |by: Option<&config::Tracking>| by.map(config::Tracking::address);
        match (&self.running, wanted) {
            (Some(running), Some(wanted))
                if address(self.by.as_ref()) == address(Some(wanted)) && self.identity == config.identity =>
            {
                running.follow(wanted)
            }
            (None, None) => {}
            _ => {
                self.stop().await;
                *self = Receiving::start(self.pool.clone(), self.clock.clone(), wanted, &config.identity).await?;
            }
        }
        self.by = wanted.cloned();
        Ok(())
    }

    /// Lets the requests under way be answered.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}
