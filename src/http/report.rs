//! What is the case now? The database's answer to all that health, freshness and metrics ask, kept for some seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};
use uuid::Uuid;

use crate::{
    Result,
    clock::Clock,
    config::Config,
    database::{self, Sessions},
    deliver::state::{self, DestinationRow},
    freshness::{self, Survey},
    lease, limits,
    profile::streamed::{self, Progress},
    telemetry::{metrics, process},
};

/// The configuration in force.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub at: DateTime<Utc>,
}

/// Asks the database, at most once in [`limits::HEALTH_KEPT_SECONDS`].
#[derive(Debug)]
pub struct Reporter {
    /// Whose sessions the work is done with.
    work: PgPool,
    pool: PgPool,
    clock: Clock,
    loaded: watch::Receiver<Arc<Loaded>>,
    /// Whose leases are told.
    instance: Uuid,
    since: DateTime<Utc>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Or why the database did not answer.
    pub database: Result<Facts, String>,
    pub is_schema_current: bool,
    /// Whether the work has a session to go on with.
    pub gives_sessions: bool,
    loaded_at: DateTime<Utc>,
    since: DateTime<Utc>,
}

/// What the database says.
#[derive(Debug)]
pub struct Facts {
    pub survey: Survey,
    /// The enabled ones of the configuration.
    pub destinations: Vec<DestinationRow>,
    leases: Vec<String>,
    /// Of the enabled streams of the configuration.
    streams: Vec<Progress>,
}

impl Reporter {
    /// Reports on what `loaded` shows at the time, over one connection beside those of `pool`.
    pub fn new(pool: &PgPool, clock: Clock, loaded: watch::Receiver<Arc<Loaded>>, instance: Uuid) -> Reporter {
        let own = database::pool(pool.connect_options().as_ref().clone(), Sessions::Reads, 1);
        let since = clock.now();
        Reporter { work: pool.clone(), pool: own, clock, loaded, instance, since, last: Mutex::new(None) }
    }

    /// The latest report, or a new one. Those who ask meanwhile wait for the same.
    pub async fn report(&self) -> Arc<Report> {
        let mut last = self.last.lock().await;
        let now = self.clock.monotonic();
        match &*last {
            Some((at, report)) if now - *at < Duration::from_secs(limits::HEALTH_KEPT_SECONDS) => report.clone(),
            _ => last.insert((now, Arc::new(self.look().await))).1.clone(),
        }
    }

    async fn look(&self) -> Report {
        let loaded = self.loaded.borrow().clone();
        let patience = Duration::from_secs(limits::HEALTH_SECONDS);
        let (facts, session) =
            tokio::join!(timeout(patience, self.facts(&loaded.config)), timeout(patience, self.work.acquire()));
        let (database, is_schema_current) = match facts {
            Ok(Ok((is_current, facts))) => (Ok(facts), is_current),
            Ok(Err(error)) => (Err(error.to_string()), false),
            Err(_) => (Err("the database does not answer in time".into()), false),
        };
        Report {
            database,
            is_schema_current,
            gives_sessions: matches!(session, Ok(Ok(_))),
            loaded_at: loaded.at,
            since: self.since,
        }
    }

    async fn facts(&self, config: &Config) -> Result<(bool, Facts)> {
        let is_current = database::is_current(&self.pool).await?;
        let survey = freshness::survey(&self.pool, config, self.clock.now()).await?;
        let mut destinations = state::destinations(&self.pool).await?;
        destinations.retain(|row| config.destinations.get(&row.name).is_some_and(|destination| destination.enabled));
        let leases = lease::of(&self.pool, self.instance).await?;
        let mut streams = streamed::progress(&self.pool).await?;
        streams.retain(|of| {
            let stream = config.streams.get(&of.stream).filter(|stream| stream.enabled);
            stream.is_some_and(|stream| stream.topics.contains(&of.topic))
        });
        Ok((is_current, Facts { survey, destinations, leases, streams }))
    }
}

impl Report {
    /// Makes it known to [`metrics`].
    pub fn count(&self) {
        let set = metrics::set;
        set(metrics::DATABASE, None, if self.database.is_ok() { 1.0 } else { 0.0 });
        set(metrics::BUILD, Some(("version", env!("CARGO_PKG_VERSION"))), 1.0);
        set(metrics::LOADED, None, seconds(self.loaded_at));
        set(metrics::STARTED, None, seconds(self.since));
        if let Some(usage) = process::usage() {
            set(metrics::CPU, None, usage.cpu_seconds);
            set(metrics::MEMORY, None, usage.resident_bytes);
            set(metrics::FILES, None, usage.open_files);
        }
        // Kept by those who change it; as it is, unless it is to be taken for gone.
        ::metrics::gauge!(metrics::INTAKE_BYTES).increment(0.0);
        if let Ok(facts) = &self.database {
            facts.count();
        }
    }
}

impl Facts {
    fn count(&self) {
        let set = metrics::set;
        let mut oldest = 0.0_f64;
        for audience in &self.survey.audiences {
            let label = Some(("audience", &*audience.key));
            // Not in whole seconds: 0 says that it is fresh.
            let overdue = audience.fresh.overdue_for(self.survey.at).num_milliseconds() as f64 / 1_000.0;
            oldest = oldest.max(overdue);
            set(metrics::OVERDUE, label, overdue);
            set(metrics::HELD, label, if audience.held_run.is_some() { 1.0 } else { 0.0 });
            set(metrics::ATTEMPTS, label, audience.failed_attempts.into());
            if let Some(members) = audience.members {
                set(metrics::MEMBERS, label, members as f64);
            }
            if let (Some(as_of), Some(lag)) = (audience.true_as_of, audience.lag(self.survey.at)) {
                set(metrics::TRUE_AS_OF, label, seconds(as_of));
                set(metrics::LAG, label, lag.num_milliseconds() as f64 / 1_000.0);
            }
        }
        set(metrics::OLDEST_OVERDUE, None, oldest);
        // A destination may have several rows: what is to be told of all of them is its lag.
        let mut lag: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        let mut halted = BTreeSet::new();
        for row in &self.destinations {
            let (changes, quarantined) = lag.entry(&row.name).or_default();
            *changes += row.end.0 - row.cursor.0;
            *quarantined += row.quarantined;
            if row.state == "halted" {
                halted.insert(&*row.name);
            }
        }
        for (name, (changes, quarantined)) in lag {
            let label = Some(("destination", name));
            set(metrics::LAG_CHANGES, label, changes as f64);
            set(metrics::LAG_SECONDS, label, self.survey.untold_seconds.get(name).copied().unwrap_or(0.0));
            set(metrics::HALTED, label, if halted.contains(name) { 1.0 } else { 0.0 });
            set(metrics::IN_QUARANTINE, label, quarantined as f64);
        }
        let mut silent: BTreeMap<&str, f64> = BTreeMap::new();
        for Progress { stream, topic, partition, lag, looked_at, .. } in &self.streams {
            metrics::lag(stream, topic, *partition, *lag);
            let seconds = (self.survey.at - *looked_at).num_milliseconds() as f64 / 1_000.0;
            let longest = silent.entry(stream).or_default();
            *longest = longest.max(seconds);
        }
        for (stream, seconds) in silent {
            set(metrics::STREAM_SILENT, Some(("stream", stream)), seconds);
        }
        for lease in &self.leases {
            // The ticker's has another name in every instance, and each time it is acquired.
            let lease = if lease.starts_with("instance:") { "ticker" } else { lease };
            set(metrics::LEASES, Some(("lease", lease)), 1.0);
        }
    }
}

fn seconds(instant: DateTime<Utc>) -> f64 {
    instant.timestamp_millis() as f64 / 1_000.0
}
