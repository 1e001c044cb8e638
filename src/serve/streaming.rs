//! How are streams read without a person? A task for each, under a lease that says to the others that this instance reads too.
//!
//! Each stream has a task of its own: one whose cluster is away holds up nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::time::timeout;
use tracing::{Instrument as _, error_span};

use super::{Stop, Task, doubled, log};
use crate::{
    Error, Result,
    clock::Clock,
    config,
    config::{Config, Identity},
    lease::{Held, Instance},
    limits,
    profile::rules::Rules,
    stream::{Memory, Stream},
    telemetry::{CONTEXT, metrics},
};

/// The pause after a session that ended because something changed.
const BREATH: Duration = Duration::from_millis(200);

/// The streams of a configuration, as long as they are wanted.
pub struct Streaming {
    instance: Instance,
    identity: Identity,
    tasks: BTreeMap<String, (config::Stream, Task)>,
    /// Those that are not read until they are mended.
    wrong: BTreeSet<String>,
}

impl Streaming {
    /// Begins to read. What is wrong with a stream is logged, and stops that one.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn start(pool: PgPool, clock: Clock, config: &Config) -> Result<Streaming> {
        let instance = Instance::new(pool, clock).await?;
        let (identity, tasks, wrong) = (config.identity.clone(), BTreeMap::new(), BTreeSet::new());
        let mut streaming = Streaming { instance, identity, tasks, wrong };
        streaming.follow(config);
        Ok(streaming)
    }

    /// Whether another configuration may be followed.
    ///
    /// # Errors
    /// If a stream is wrong that is not wrong already.
    pub fn check(&self, config: &Config) -> Result<()> {
        for (name, _, checked) in checked(config) {
            if let (false, Err(error)) = (self.wrong.contains(&name), checked) {
                let message = format!("stream '{name}' is wrong in the new configuration: {error}");
                return Err(Error::new(error.kind, message));
            }
        }
        Ok(())
    }

    /// Reads by another configuration from here on. A stream that did not change goes on undisturbed; what is wrong with one is logged,
    /// and stops that one.
    pub fn follow(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.tasks);
        self.wrong.clear();
        let is_same_identity = self.identity == config.identity;
        self.identity = config.identity.clone();
        for (name, wanted, checked) in checked(config) {
            let stream = match checked {
                Ok(stream) => stream,
                Err(error) => {
                    log(&error, &format!("stream '{name}'"), "not read until it is mended");
                    self.wrong.insert(name);
                    continue;
                }
            };
            let old = match before.remove(&name) {
                Some((known, task)) if known == wanted && is_same_identity => {
                    self.tasks.insert(name, (known, task));
                    continue;
                }
                old => old,
            };
            metrics::expect_stream(&name);
            let about = error_span!(target: CONTEXT, "stream", stream = name);
            let reading = Reading { instance: self.instance.clone(), stream: Arc::new(stream) };
            let task = Task::start(|stop| async move {
                if let Some((_, old)) = old {
                    old.end().await;
                }
                reading.run(stop).instrument(about).await;
            });
            self.tasks.insert(name, (wanted, task));
        }
        for (name, (_, task)) in before {
            tracing::info!(stream = name, "no longer read");
            tokio::spawn(task.end());
        }
    }

    /// Ends all reading; what is under way is read again by whoever is next.
    pub async fn stop(self) {
        join_all(self.tasks.into_values().map(|(_, task)| task.end())).await;
        timeout(Duration::from_secs(1), self.instance.release_all()).await.ok();
    }
}

/// The enabled streams, checked.
fn checked(config: &Config) -> Vec<(String, config::Stream, Result<Stream>)> {
    let rules = Rules::of(&config.identity).map(Arc::new);
    let check = |(name, stream): (&String, &config::Stream)| {
        let checked = match &rules {
            Ok(rules) => Stream::of(name, stream, rules),
            Err(error) => Err(Error::new(error.kind, error.message.clone())),
        };
        (name.clone(), stream.clone(), checked)
    };
    config.streams.iter().filter(|(_, stream)| stream.enabled).map(check).collect()
}

/// The reading of one stream.
struct Reading {
    instance: Instance,
    stream: Arc<Stream>,
}

impl Reading {
    /// Works until it is asked to stop.
    async fn run(self, mut stop: Stop) {
        let (mut failures, mut memory) = (0, Memory::default());
        while !stop.is_asked() {
            let pause = match self.turn(&mut stop, &mut memory).await {
                Ok(()) => {
                    failures = 0;
                    BREATH
                }
                Err(error) => {
                    failures += 1;
                    log(&error, &format!("stream '{}'", self.stream.name), "not read; to be tried again");
                    doubled(failures, Duration::from_secs(limits::STREAM_RETRY_SECONDS))
                }
            };
            tokio::select! {
                () = self.instance.clock.sleep(pause) => {}
                () = stop.asked() => {}
            }
        }
    }

    /// Sessions as long as all goes well.
    async fn turn(&self, stop: &mut Stop, memory: &mut Memory) -> Result<()> {
        let name = format!("{}{}", self.stream.lease_prefix(), self.instance.id);
        let Some(held) = Held::acquire(&self.instance, &name).await? else { return Ok(()) };
        let go_on = || held.is_trusted();
        let taken = loop {
            let taken = tokio::select! {
                taken = self.stream.take_in(&self.instance, memory, &go_on) => taken,
                () = stop.asked() => break Ok(()),
            };
            if taken.is_err() || !go_on() {
                break taken;
            }
            self.instance.clock.sleep(BREATH).await;
        };
        held.release().await;
        taken
    }
}
