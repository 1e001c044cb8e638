//! Are live messages taken in as the configuration asks for?

use std::sync::Arc;

use sqlx::PgPool;

use crate::{
    Result,
    clock::Clock,
    config,
    config::{Config, Identity},
    http::{Listener, tracking::Tracking},
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

/// What another configuration asks for.
pub enum Next {
    /// That nothing is taken in.
    Nothing,
    /// The same address and rules.
    Same,
    /// An address that is had already, and rules.
    Other(Listener, Arc<Rules>),
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

    /// Has all that another configuration needs, and changes nothing yet.
    ///
    /// # Errors
    /// As [`Receiving::start`].
    pub async fn prepare(&self, config: &Config) -> Result<Next> {
        let wanted = config.tracking.as_ref();
        let is_same_address = self.by.as_ref().map(config::Tracking::address) == wanted.map(config::Tracking::address);
        let Some(wanted) = wanted else { return Ok(Next::Nothing) };
        if self.running.is_some() && is_same_address && self.identity == config.identity {
            return Ok(Next::Same);
        }
        let rules = Arc::new(Rules::of(&config.identity)?);
        let had = self.running.as_ref().filter(|_| is_same_address).and_then(Tracking::hand_over);
        Ok(Next::Other(
            match had {
                Some(listener) => listener,
                None => Tracking::bind(wanted).await?,
            },
            rules,
        ))
    }

    /// Takes them in by another configuration, which `next` was prepared for, from here on: other write keys at once, at another
    /// address after the requests under way.
    pub async fn follow(&mut self, config: &Config, next: Next) {
        match (next, &config.tracking) {
            (Next::Same, Some(wanted)) => {
                if let Some(running) = &self.running {
                    running.follow(wanted);
                }
            }
            (Next::Other(listener, rules), Some(wanted)) => {
                self.stop().await;
                let (pool, clock) = (self.pool.clone(), self.clock.clone());
                self.running = Some(Tracking::start_on(listener, pool, clock, wanted, rules));
            }
            _ => self.stop().await,
        }
        self.by.clone_from(&config.tracking);
        self.identity.clone_from(&config.identity);
    }

    /// Lets the requests under way be answered.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}
