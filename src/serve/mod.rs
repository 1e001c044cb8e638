//! How are audiences kept in sync without a person? A ticker that seals what is due, and one task a destination that tells it.
//!
//! ```text
//!  configuration ──► Plan ──► ticker: due → fire → seal, under the lease of this instance ──► log
//!    (SIGHUP)          └────► telling, one a destination, under the destination's lease ◄──────┘ grows
//! ```
//!
//! Any number of instances work on one database. Nothing here makes a change sealed or told once: [`crate::runs::fire`],
//! the seal's transaction and the fencing of producers do. So every task may be dropped at any moment, and is.

mod forgetting;
mod plan;
mod pulling;
pub mod streaming;
mod telling;
mod ticker;
mod upkeep;

use std::{collections::BTreeMap, error::Error as _, sync::Arc, time::Duration};

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tracing::{Instrument as _, error_span};
use uuid::Uuid;

use crate::{
    Error, Result,
    clock::Clock,
    config,
    config::Config,
    lease::Instance,
    limits,
    telemetry::{CONTEXT, Heartbeat, metrics},
};
use plan::Plan;
use telling::Telling;
use ticker::Ticker;

/// A running ticker with its destinations.
pub struct Server {
    instance: Instance,
    heartbeat: Heartbeat,
    plan: watch::Sender<Arc<Plan>>,
    sealed: watch::Sender<()>,
    ticker: Task,
    upkeep: Task,
    forgetting: Task,
    pulling: Task,
    telling: BTreeMap<String, (config::Destination, Task)>,
}

impl Server {
    /// Starts to work by a configuration. What is wrong with an audience or a destination is logged, and stops that one.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn start(pool: PgPool, clock: Clock, config: Config) -> Result<Server> {
        let instance = Instance::new(pool, clock).await?;
        let first = Arc::new(Plan::read(config));
        first.wrong().for_each(|(name, error)| log(error, name, "not computed or told until it is mended"));
        if first.scheduled.is_empty() {
            tracing::warn!("no enabled audience has a schedule");
        }
        let (plan, plans) = watch::channel(first);
        let (sealed, _) = watch::channel(());
        let heartbeat = Heartbeat::new(instance.clock.clone());
        let upkeep = Task::start(|stop| upkeep::run(instance.clone(), plans.clone(), stop));
        let pulling = Task::start(|stop| pulling::run(instance.clone(), plans.clone(), stop));
        let ticker = Ticker::new(instance.clone(), plans, sealed.clone(), heartbeat.clone());
        let ticker = Task::start(|stop| ticker.run(stop));
        let forgetting = Task::start(|stop| forgetting::run(instance.clone(), sealed.clone(), stop));
        let telling = BTreeMap::new();
        let mut server = Server { instance, heartbeat, plan, sealed, ticker, upkeep, forgetting, pulling, telling };
        server.follow();
        tracing::info!(instance = %server.instance.id, destinations = server.telling.len(), "serving");
        Ok(server)
    }

    /// Works by another configuration from here on. What did not change goes on undisturbed; a destination that did is told
    /// by a new session once the old one has ended its page.
    ///
    /// # Errors
    /// If an audience or a destination is wrong that is not wrong already: then nothing changes.
    pub fn reload(&mut self, config: Config) -> Result<()> {
        let (new, old) = (Plan::read(config), self.plan.borrow().clone());
        let worse: Vec<_> = new.wrong().filter(|(name, _)| !old.wrong().any(|(known, _)| known == *name)).collect();
        worse.iter().for_each(|(name, error)| log(error, name, "wrong in the new configuration"));
        if let Some((name, error)) = worse.first() {
            return Err(Error::new(error.kind, format!("{name} is wrong in the new configuration: {error}")));
        }
        self.plan.send_replace(Arc::new(new));
        self.follow();
        tracing::info!(destinations = self.telling.len(), "works by the new configuration");
        Ok(())
    }

    /// The holder of its leases.
    pub fn instance(&self) -> Uuid {
        self.instance.id
    }

    /// Whether its ticker goes round.
    pub fn ticker(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Makes the tasks of destinations those of the plan.
    fn follow(&mut self) {
        let plan = self.plan.borrow().clone();
        let mut before = std::mem::take(&mut self.telling);
        for (name, target) in &plan.targets {
            let (Ok(target), Some(wanted)) = (target, plan.config.destinations.get(name)) else { continue };
            let old = match before.remove(name) {
                Some((known, task)) if known == *wanted && task.space_id == target.space_id => {
                    self.telling.insert(name.clone(), (known, task));
                    continue;
                }
                old => old,
            };
            metrics::expect_destination(name);
            // At the level of errors, so that every line that is logged at all carries it.
            let about = error_span!(target: CONTEXT, "destination", destination = name);
            let telling = Telling::new(self.instance.clone(), target.clone(), self.sealed.subscribe());
            let mut task = Task::start(|stop| async move {
                if let Some((_, old)) = old {
                    old.end().await;
                }
                telling.run(stop).instrument(about).await;
            });
            task.space_id.clone_from(&target.space_id);
            self.telling.insert(name.clone(), (wanted.clone(), task));
        }
        for (name, (_, task)) in before {
            tracing::info!(destination = name, "no longer told");
            tokio::spawn(task.end());
        }
    }

    /// Waits for an end that nobody asked for, which is a defect.
    pub async fn ended(&mut self) -> Error {
        let ended = (&mut self.ticker.handle).await;
        let error = Error::internal("the ticker ended");
        match ended {
            Ok(()) => error,
            Err(panic) => error.because(panic),
        }
    }

    /// Ends all work within ten seconds: what is under way is finished or abandoned, and the leases are given back.
    pub async fn stop(self) {
        let tasks: Vec<Task> = self
            .telling
            .into_values()
            .map(|(_, task)| task)
            .chain([self.ticker, self.upkeep, self.forgetting, self.pulling])
            .collect();
        join_all(tasks.into_iter().map(Task::end)).await;
        // Also those of tasks that were abandoned.
        let released = timeout(Duration::from_secs(1), self.instance.release_all()).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("the leases could not be given back; they end by themselves");
        }
        tracing::info!("stopped");
    }
}

/// A task that can be told to stop; dropped, it is abandoned.
struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
    /// Of a destination's task: told in each event, so another one makes another task.
    space_id: String,
}

impl Task {
    fn start<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(Stop) -> F) -> Task {
        let (stop, asked) = watch::channel(false);
        Task { stop, handle: tokio::spawn(work(Stop(asked))), space_id: String::new() }
    }

    /// Asks it to stop, and abandons it if that takes too long.
    async fn end(mut self) {
        self.stop.send_replace(true);
        timeout(Duration::from_secs(limits::STOP_SECONDS), &mut self.handle).await.ok();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Whether a task is to stop.
#[derive(Debug, Clone)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked to.
    async fn asked(&mut self) {
        // Nobody left to ask is the same as being asked.
        self.0.wait_for(|stop| *stop).await.ok();
    }
}

/// The pause after so many failures in a row: 1 s, 2 s, 4 s, … up to the longest.
fn doubled(failures: u32, longest: Duration) -> Duration {
    Duration::from_secs(1 << (failures.clamp(1, 20) - 1)).min(longest)
}

/// Logs an error that `what` met, with all that a person needs to mend it.
pub fn log(error: &Error, what: &str, meaning: &str) {
    for text in error.problems.iter() {
        for problem in &text.problems {
            let ((line, column), help) = (text.position(problem), problem.help.as_deref().unwrap_or_default());
            tracing::error!(about = what, file = text.name, line, column, help, "{}", problem.message);
        }
    }
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let help = error.help.as_deref().unwrap_or_default();
    tracing::error!(about = what, %error, cause, help, "{meaning}");
}
