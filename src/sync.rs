//! One run, start to end: what is true now, what changed, and telling it.
//!
//! ```text
//!  configuration ──► audiences ──► register ──► seal (evaluate, diff, record) ──► deliver, each destination on its own
//! ```
//!
//! One bad audience, and one destination that is down or halted, stops only itself.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sqlx::PgPool;
use tracing::{Instrument as _, error_span};

use crate::{
    Result,
    audience::{catalogue::Catalogue, check::Known},
    config::Config,
    deliver::{Delivered, Session, Target},
    membership::{
        configured, register,
        seal::{self, Run, Tick},
    },
    profile::promote::promote,
    telemetry::CONTEXT,
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

/// Told of each destination how far it is, after each transaction.
pub type Progress<'p> = &'p (dyn Fn(&str, &Delivered) + Sync);

/// Syncs audiences as of `t`, and tells every destination all that is sealed for it.
///
/// # Errors
/// If nothing could be done at all; what stopped a single audience or destination is in the report.
pub async fn sync(
    pool: &PgPool,
    config: &Config,
    request: &Request,
    t: DateTime<Utc>,
    progress: Progress<'_>,
) -> Result<Report> {
    let known = known(pool, config).await?;
    let catalogue = Catalogue::of(config, &known);
    let all = catalogue.audiences.clone();
    let catalogue = catalogue.select(&request.keys)?;
    let targets = targets(config);
    let audiences = if request.dry_run {
        register::pretend(&catalogue.audiences)
    } else {
        promote(pool, &config.store.promote, |_, _| {}).await?;
        let registered = register::register(pool, config.space_id(), &catalogue.audiences, &versions(&targets)).await?;
        configured::note(pool, config, &all).await?;
        registered
    };

    let tick = Tick { audiences: &audiences, t, dry_run: request.dry_run, fired: None };
    let mut runs: Vec<_> = catalogue.refused.into_iter().map(|(key, error)| (key, Err(error))).collect();
    runs.extend(seal::seal(pool, tick).await?);

    let deliveries = if request.dry_run { Vec::new() } else { tell(pool, targets, progress).await };
    Ok(Report { runs, deliveries })
}

/// What the store knows of audiences. Those that the configuration does not name are left as they are, not deleted: the file
/// may be half written.
///
/// # Errors
/// The database's own.
pub async fn known(pool: &PgPool, config: &Config) -> Result<Known> {
    let known = register::known(pool).await?;
    let configured: BTreeSet<String> = config.computations().map(|(key, ..)| key).collect();
    let present = known.audiences.iter().filter(|known| !known.deleted).map(|known| &known.key);
    for audience in present.chain(known.computed.keys()).filter(|key| !configured.contains(*key)) {
        tracing::warn!(audience, "not configured, so not computed any more; `rollcall apply` deletes it");
    }
    Ok(known)
}

/// The enabled destinations, checked. One that is wrong is sealed for all the same, and told when it is mended.
pub fn targets(config: &Config) -> Vec<(String, Result<Target>)> {
    let enabled = config.destinations.iter().filter(|(_, destination)| destination.enabled);
    enabled.map(|(name, _)| (name.clone(), Target::of(config, name))).collect()
}

/// The fingerprint of each destination's mappings, by name.
pub fn versions(targets: &[(String, Result<Target>)]) -> HashMap<String, String> {
    let checked = targets.iter().filter_map(|(name, target)| Some((name, target.as_ref().ok()?)));
    checked.map(|(name, target)| (name.clone(), target.mapping_version())).collect()
}

/// Brings these destinations to the end of their logs, all at once.
pub async fn tell(
    pool: &PgPool,
    targets: Vec<(String, Result<Target>)>,
    progress: Progress<'_>,
) -> Vec<(String, Result<Delivered>)> {
    join_all(targets.into_iter().map(async |(name, target)| {
        let delivered = async {
            let mut session = Session::start(pool.clone(), target?).await?;
            let go_on = |told: &Delivered| {
                progress(&name, told);
                true
            };
            session.deliver(&go_on).await
        };
        let delivered = delivered.instrument(error_span!(target: CONTEXT, "destination", destination = name)).await;
        (name, delivered)
    }))
    .await
}
