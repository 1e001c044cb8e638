//! One run, start to end: what is true now, what changed, and telling it.
//!
//! ```text
//!  configuration ──► audiences ──► register ──► seal (evaluate, diff, record) ──► deliver, each destination on its own
//! ```
//!
//! One bad audience, and one destination that is down or halted, stops only itself.

mod lanes;
mod tell;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sqlx::PgPool;
use tracing::{Instrument as _, error_span};

use crate::{
    Result,
    audience::{
        catalogue::{Audience, Catalogue},
        check::Known,
    },
    config::Config,
    deliver::{Delivered, Target},
    delta::{backfill, turn::Turn},
    lease::Instance,
    membership::run::Run,
    profile::promote::promote,
    registry::{
        configured,
        register::{self, Terms},
        seen,
    },
    runs::{
        failed,
        seal::{self, Tick},
    },
    telemetry::CONTEXT,
};
pub use tell::Told;

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
    /// By destination; twice, where its bulk lane had something to tell.
    pub deliveries: Vec<(String, Result<Told>)>,
}

/// Told of each destination how far it is, after each transaction.
pub type Progress<'p> = &'p (dyn Fn(&str, &Delivered) + Sync);

/// Syncs audiences as of `t`, and tells every destination all that is sealed for it.
///
/// # Errors
/// If nothing could be done at all; what stopped a single audience or destination is in the report.
pub async fn sync(
    instance: &Instance,
    config: &Config,
    request: &Request,
    t: DateTime<Utc>,
    progress: Progress<'_>,
) -> Result<Report> {
    let pool = &instance.pool;
    let known = known(pool, config).await?;
    let catalogue = Catalogue::of(config, &known);
    let all = catalogue.audiences.clone();
    let catalogue = catalogue.select(&request.keys)?;
    let targets = targets(config);
    let audiences = if request.dry_run {
        register::pretend(&catalogue.audiences)
    } else {
        promote(pool, &config.store.promote, |_, _| {}).await?;
        let registered = register::register(pool, config.space_id(), &catalogue.audiences, &terms(&targets)).await?;
        note(pool, config, &all).await?;
        registered
    };

    let tick = Tick { audiences: &audiences, t, dry_run: request.dry_run, fired: None };
    let mut runs: Vec<_> = catalogue.refused.into_iter().map(|(key, error)| (key, Err(error))).collect();
    let held = instance.lease().await?;
    let began = instance.clock.monotonic();
    let sealed = seal::in_turn(&mut Turn::wait(pool, Some(&held)).await?, tick).await;
    held.release().await;
    let took = instance.clock.monotonic() - began;
    if !request.dry_run {
        let failed: Vec<(&str, &str)> = match &sealed {
            Ok(sealed) => failures(runs.iter().chain(sealed)).collect(),
            Err(error) => audiences.iter().map(|of| (of.audience.key.as_str(), error.message.as_str())).collect(),
        };
        failed::note(pool, t, took.as_millis() as i64, &failed).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what failed is not noted");
        });
    }
    runs.extend(sealed?);

    let deliveries = if request.dry_run { Vec::new() } else { tell(instance, targets, progress).await };
    Ok(Report { runs, deliveries })
}

/// Notes what the configuration says of audiences and destinations, for the next `plan`; backfills to destinations that are no
/// longer an audience's end are withdrawn.
///
/// # Errors
/// The database's own.
pub async fn note(pool: &PgPool, config: &Config, audiences: &[Audience]) -> Result<()> {
    configured::note_audiences(pool, audiences).await?;
    backfill::withdraw(pool, audiences).await?;
    configured::note_destinations(pool, config).await
}

/// Of each audience that failed, why.
fn failures<'r>(runs: impl Iterator<Item = &'r (String, Result<Run>)>) -> impl Iterator<Item = (&'r str, &'r str)> {
    runs.filter_map(|(key, run)| Some((key.as_str(), run.as_ref().err()?.message.as_str())))
}

/// What the store knows of audiences. Those that the configuration does not name are left as they are, not deleted: the file
/// may be half written.
///
/// # Errors
/// The database's own.
pub async fn known(pool: &PgPool, config: &Config) -> Result<Known> {
    let mut known = register::known(pool).await?;
    seen::carried(&mut *pool.acquire().await?, config, &mut known).await?;
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

/// What sealing goes by for each destination, by name.
pub fn terms(targets: &[(String, Result<Target>)]) -> HashMap<String, Terms> {
    let checked = targets.iter().filter_map(|(name, target)| Some((name, target.as_ref().ok()?)));
    checked.map(|(name, target)| (name.clone(), target.terms())).collect()
}

/// Tells these destinations what is sealed for them, backfills included, and computes nothing.
pub async fn tell_again(instance: &Instance, config: &Config, names: &[String]) -> Vec<(String, Result<Told>)> {
    let mut targets = targets(config);
    targets.retain(|(name, _)| names.contains(name));
    tell(instance, targets, &|_, _| {}).await
}

/// Brings these destinations to the end of their logs, all at once.
pub async fn tell(
    instance: &Instance,
    targets: Vec<(String, Result<Target>)>,
    progress: Progress<'_>,
) -> Vec<(String, Result<Told>)> {
    let told = join_all(targets.into_iter().map(async |(name, target)| {
        let told = match target {
            Ok(target) => {
                let span = error_span!(target: CONTEXT, "destination", destination = name);
                tell::tell(instance, &target, &|told| progress(&name, told)).instrument(span).await
            }
            Err(error) => vec![Err(error)],
        };
        told.into_iter().map(move |told| (name.clone(), told)).collect::<Vec<_>>()
    }));
    told.await.into_iter().flatten().collect()
}
