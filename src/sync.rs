//! One run, start to end: what is true now, what changed, and telling it.
//!
//! ```text
//!  configuration ──► audiences ──► register ──► seal (evaluate, diff, record) ──► deliver, each destination on its own
//! ```
//!
//! One bad audience, and one destination that is down or halted, stops only itself.

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sqlx::PgPool;

use crate::{
    Error, Result,
    audience::{catalogue::Catalogue, check::Known},
    config::Config,
    deliver::{self, Delivered},
    membership::{
        register,
        seal::{self, Run, Tick},
    },
};

/// What is to be synced.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Keys of audiences; all enabled ones when empty.
    pub keys: Vec<String>,
    /// Evaluate and diff, but record and tell nothing.
    pub dry_run: bool,
}

/// What became of each audience and each destination.
#[derive(Debug, Default)]
pub struct Report {
    pub runs: Vec<(String, Result<Run>)>,
    pub deliveries: Vec<(String, Result<Delivered>)>,
}

/// Syncs audiences as of `t`, and tells every destination all that is sealed for it.
///
/// # Errors
/// If nothing could be done at all; what stopped a single audience or destination is in the report.
pub async fn sync(pool: &PgPool, config: &Config, request: &Request, t: DateTime<Utc>) -> Result<Report> {
    let catalogue = Catalogue::of(config, &Known::default()).select(&request.keys)?;
    let mut report = Report::default();
    report.runs.extend(catalogue.refused.into_iter().map(|(key, error)| (key, Err(error))));

    let audiences = register::register(pool, config.space_id(), &catalogue.audiences).await?;
    let tick = Tick { audiences: &audiences, t, dry_run: request.dry_run };
    report.runs.extend(seal::seal(pool, tick).await?);

    if !request.dry_run {
        report.deliveries = tell(pool, config).await;
    }
    Ok(report)
}

/// Brings every enabled destination to the end of its log, all at once.
pub async fn tell(pool: &PgPool, config: &Config) -> Vec<(String, Result<Delivered>)> {
    let enabled = config.destinations.iter().filter(|(_, destination)| destination.enabled);
    join_all(enabled.map(async |(name, destination)| {
        let delivered = deliver::deliver(pool, config, name, destination).await;
        (name.clone(), delivered)
    }))
    .await
}

impl Report {
    /// The error to end with, if anything failed: the one that most needs a person.
    pub fn failure(&self) -> Option<&Error> {
        let runs = self.runs.iter().filter_map(|(_, run)| run.as_ref().err());
        let deliveries = self.deliveries.iter().filter_map(|(_, delivered)| delivered.as_ref().err());
        runs.chain(deliveries).max_by_key(|error| error.kind.exit_code())
    }
}
