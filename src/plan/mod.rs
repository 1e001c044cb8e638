//! What would applying this configuration do? And doing exactly that.
//!
//! ```text
//!  configuration ─┐
//!                 ├─ compare (pure) ──► changes ──► forecast (one read-only snapshot) ──► Plan ──► shown to a person
//!  store ─────────┘                                                                        │
//!                                       apply: the same comparison once more, in one transaction, alone
//! ```
//!
//! A plan stores nothing and sends nothing. What is applied is what was shown: the digest of the changes says so.

mod apply;
mod compare;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use crate::{
    Error, Result,
    audience::{
        Class,
        catalogue::{Audience, Catalogue},
        key::Taken,
    },
    config::{self, Config, OnDelete},
    membership::guard::Counts,
    profile::lookup::Name,
    registry::{configured, register, seen},
    runs::forecast::{self, Forecast},
};
pub use apply::{Applied, apply, stale};

/// What applying a configuration would do. As JSON it is the document that `apply --plan` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Of the changes and of the state of the store that they start from; not of the numbers, which change by the minute.
    pub digest: String,
    /// As of when the numbers are.
    pub evaluated_at: DateTime<Utc>,
    /// Those that change, and those that refer to them.
    pub audiences: Vec<AudienceChange>,
    pub destinations: Vec<DestinationChange>,
    /// By key, why an audience cannot be computed. Nothing is applied as long as there is one.
    pub refused: BTreeMap<String, String>,
}

/// What becomes of an audience or a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Add,
    Change,
    Remove,
    /// Nothing changes of itself, but what it refers to does.
    Follow,
}

/// A setting before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its key in the configuration.
    pub field: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What becomes of one audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudienceChange {
    pub key: String,
    pub name: String,
    pub class: Class,
    pub action: Action,
    pub fields: Vec<Field>,
    /// The definition version that it starts from.
    pub version: Option<i32>,
    /// Whether it is to be computed for the change to come true.
    pub needs_sync: bool,
    /// What a sync would find, or what the farewell of a removed one would tell; none where nobody is told anything.
    pub effect: Option<Effect>,
    /// Why the effect could not be told.
    pub failed: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Who would enter and leave, and what is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// None before the first run.
    pub members_before: Option<u64>,
    pub members: u64,
    pub entered: u64,
    pub exited: u64,
    /// By destination, Identify events with `true` and with `false`.
    pub identifies: BTreeMap<String, Counts>,
    /// Whether one change may be several Identify events, so that there are at least so many (ID Sync with `strategy: all`).
    pub at_least: bool,
    /// Why the guard holds such a run, unless a person confirms it.
    pub held_because: Option<String>,
    /// A few who would enter and leave; only where they were asked for, since they are personal data.
    #[serde(skip_serializing_if = "Samples::is_empty", default)]
    pub samples: Samples,
}

/// Identifiers of some people, as `explain` takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    pub entered: Vec<String>,
    pub exited: Vec<String>,
}

impl Samples {
    fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.exited.is_empty()
    }
}

/// What becomes of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationChange {
    pub name: String,
    pub action: Action,
    pub fields: Vec<Field>,
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.audiences.is_empty() && self.destinations.is_empty()
    }

    /// How many audiences are added, changed and removed.
    pub fn counts(&self) -> [usize; 3] {
        [Action::Add, Action::Change, Action::Remove]
            .map(|action| self.audiences.iter().filter(|of| of.action == action).count())
    }

    /// Identify events over all audiences and destinations, and whether there may be more.
    pub fn identifies(&self) -> (u64, bool) {
        let effects = || self.audiences.iter().filter_map(|of| of.effect.as_ref());
        let sum = effects().flat_map(|effect| effect.identifies.values()).map(|told| told.changes()).sum();
        (sum, effects().any(|effect| effect.at_least))
    }

    /// The keys that a sync is to compute.
    pub fn to_sync(&self) -> Vec<String> {
        self.audiences.iter().filter(|of| of.needs_sync).map(|of| of.key.clone()).collect()
    }
}

/// The changes, without their effect.
struct Changes {
    catalogue: Catalogue,
    audiences: Vec<AudienceChange>,
    destinations: Vec<DestinationChange>,
    digest: String,
}

/// Compares the configuration with what the store knows.
async fn changes(conn: &mut PgConnection, config: &Config) -> Result<Changes> {
    let configured: BTreeSet<String> = config.computations().map(|(key, ..)| key).collect();
    // Applied, what is not configured is deleted; so whoever refers to it is refused now.
    let mut known = register::known(&mut *conn).await?;
    known.audiences.iter_mut().for_each(|of| of.deleted |= !configured.contains(&of.key));
    let gone = known.computed.extract_if(.., |key, _| !configured.contains(key));
    known.audiences.extend(gone.map(|(key, name)| Taken { key, name, deleted: true }));
    seen::carried(&mut *conn, config, &mut known).await?;
    seen::names(&mut *conn, config, &mut known).await?;
    let stored = configured::audiences(&mut *conn).await?;
    let catalogue = Catalogue::of(config, &known);
    let mut audiences = compare::audiences(&catalogue.audiences, &configured, &stored);
    let destinations = compare::destinations(config, &configured::destinations(conn).await?);
    let digest = digest(&audiences, &destinations)?;
    // What is seen changes by itself: it is no part of what is applied.
    for (key, warning) in &catalogue.warnings {
        audiences.iter_mut().filter(|of| of.key == *key).for_each(|of| of.notes.push(warning.clone()));
    }
    Ok(Changes { catalogue, audiences, destinations, digest })
}

/// Of what is changed, from which state: whoever applies it does the same.
fn digest(audiences: &[AudienceChange], destinations: &[DestinationChange]) -> Result<String> {
    let text = serde_json::to_vec(&(audiences, destinations))
        .map_err(|error| Error::internal("a plan cannot be written").because(error))?;
    Ok(Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// What applying the configuration would do, as of `t`, with so many samples of people a direction.
///
/// # Errors
/// The database's own. What is wrong with single audiences is in the plan.
pub async fn plan(pool: &PgPool, config: &Config, t: DateTime<Utc>, samples: usize) -> Result<Plan> {
    let mut conn = pool.acquire().await?;
    let Changes { catalogue, mut audiences, destinations, digest } = changes(&mut conn, config).await?;
    // In the order in which they are computed, so that each finds what it refers to.
    let due: Vec<Audience> = catalogue
        .audiences
        .iter()
        .filter(|of| audiences.iter().any(|change| change.key == of.key && change.needs_sync))
        .cloned()
        .collect();
    let forecasts = if due.is_empty() { Vec::new() } else { forecast::forecast(pool, &due, t, samples).await? };
    for (of, (key, forecast)) in due.iter().zip(forecasts) {
        let Some(change) = audiences.iter_mut().find(|change| change.key == key) else { continue };
        match forecast {
            Ok(forecast) => {
                change.notes.extend(forecast.missing.iter().map(ToString::to_string));
                change.effect = Some(effect(of, forecast));
            }
            Err(error) => change.failed = Some(error.message),
        }
    }
    for change in audiences.iter_mut().filter(|change| change.action == Action::Remove) {
        if compare::on_delete(change) == OnDelete::Exit {
            let told = forecast::told(&mut conn, &change.key).await?;
            change.effect = Some(farewell(&told.into_iter().map(|(name, members)| (name, members.len())).collect()));
        }
    }
    // Whoever only follows and stays as it was is not worth a word.
    audiences.retain(|change| {
        // Where nobody is told, who enters and leaves still changes.
        let quiet = change.effect.as_ref().is_some_and(|effect| {
            effect.entered + effect.exited == 0 && effect.identifies.values().all(|n| n.changes() == 0)
        });
        change.action != Action::Follow || !quiet
    });
    let refused = catalogue.refused.iter().map(|(key, error)| (key.clone(), error.message.clone())).collect();
    Ok(Plan { digest, evaluated_at: t, audiences, destinations, refused })
}

fn effect(of: &Audience, forecast: Forecast) -> Effect {
    let names = |names: Vec<Name>| names.iter().map(Name::to_string).collect();
    Effect {
        members_before: forecast.before,
        members: forecast.members,
        entered: forecast.change.entered,
        exited: forecast.change.exited,
        identifies: forecast.told,
        at_least: of.options.id_sync.iter().any(|sync| sync.strategy == config::Strategy::All),
        held_because: forecast.held.map(|held| held.to_string()),
        samples: Samples { entered: names(forecast.entered), exited: names(forecast.exited) },
    }
}

/// Of a removed audience, whose members are told to be out.
fn farewell(told: &BTreeMap<String, u64>) -> Effect {
    let members = told.values().copied().max().unwrap_or(0);
    Effect {
        members_before: Some(members),
        members: 0,
        entered: 0,
        exited: members,
        identifies: told.iter().map(|(name, exited)| (name.clone(), Counts { entered: 0, exited: *exited })).collect(),
        at_least: false,
        held_because: None,
        samples: Samples::default(),
    }
}
