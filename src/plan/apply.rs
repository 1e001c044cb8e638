//! Does what a plan says, all of it or none, and only if it still is what would be done.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgPool};

use super::{Action, Changes, Effect, Plan, changes, compare};
use crate::{
    Error, Result,
    audience::catalogue::Audience,
    config::{Config, OnDelete},
    delta::{backfill, turn::Turn},
    ids::RunId,
    membership::guard::Counts,
    registry::{configured, register},
    runs::{held, removal},
    sync,
};

/// What was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// Runs by which members of removed audiences are told `false`.
    pub farewells: Vec<RunId>,
}

/// Makes the configuration that of the store. Nothing is sent by this: a sync follows, or `serve` goes on by it.
///
/// `seen` are the effects that a person has confirmed, by key: such a run is not held by the guard if it comes true as shown.
///
/// # Errors
/// [`crate::Kind::Settings`] if the configuration or the store is no longer what the plan was made from, or if an audience is
/// refused. Then nothing was applied.
pub async fn apply(
    pool: &PgPool,
    config: &Config,
    plan: &Plan,
    seen: Option<&Plan>,
    t: DateTime<Utc>,
) -> Result<Applied> {
    if let Some((key, why)) = plan.refused.iter().next() {
        return Err(Error::definition(format!("nothing is applied: audience '{key}' cannot be computed, {why}"))
            .help("Mend it, or take it out of the configuration."));
    }
    let terms = sync::terms(&sync::targets(config));
    let mut turn = Turn::wait(pool, None).await?;
    let mut tx = turn.connection().begin_with("begin isolation level repeatable read").await?;
    // Nobody else writes memberships now. What a person saw was looked at before that.
    let Changes { catalogue, audiences, digest, .. } = changes(&mut tx, config).await?;
    if digest != plan.digest {
        return Err(stale());
    }
    let mut applied = Applied::default();
    for change in &audiences {
        match change.action {
            Action::Add => applied.added.push(change.key.clone()),
            Action::Change => applied.changed.push(change.key.clone()),
            Action::Follow => {}
            Action::Remove => {
                let exit = compare::on_delete(change) == OnDelete::Exit;
                applied.farewells.extend(removal::remove(&mut tx, &change.key, exit, t, &terms).await?);
                applied.removed.push(change.key.clone());
            }
        }
    }
    let touched: Vec<Audience> =
        catalogue.audiences.iter().filter(|of| audiences.iter().any(|change| change.key == of.key)).cloned().collect();
    let registered = register::register_in(&mut tx, config.space_id(), &touched, &terms).await?;
    for of in &registered {
        let shown = seen.and_then(|seen| seen.audiences.iter().find(|change| change.key == of.audience.key));
        if let Some(Effect { entered, exited, held_because: Some(_), .. }) = shown.and_then(|of| of.effect.as_ref()) {
            held::confirm(&mut *tx, of.id, of.version, Counts { entered: *entered, exited: *exited }).await?;
        }
    }
    configured::note_audiences(&mut *tx, &catalogue.audiences).await?;
    backfill::withdraw(&mut *tx, &catalogue.audiences).await?;
    configured::note_destinations(&mut *tx, config).await?;
    configured::forget_destinations(&mut *tx, config).await?;
    tx.commit().await?;
    Ok(applied)
}

/// The plan was made from something else.
pub fn stale() -> Error {
    Error::settings("the configuration or the database has changed since the plan was made")
        .help("Nothing was applied. Look at a new `rollcall plan`.")
}
