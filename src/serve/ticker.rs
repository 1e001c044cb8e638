//! Who seals what is due? Each instance looks, fires what nobody else has fired, and seals all of it on one snapshot.
//!
//! Whatever cannot be brought to an end is let go with the instance's lease: the tick is then abandoned, and the next look,
//! here or elsewhere, takes it over. So no way out needs to clean up.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::watch, time::sleep};
use tracing::{Instrument as _, error_span};
use uuid::Uuid;

use super::{Instance, Stop, held::Held, log, plan::Plan};
use crate::{
    Error, Result,
    ids::AudienceId,
    membership::{
        configured,
        register::{self, Registered},
        seal::{self, Run, Tick},
    },
    profile::promote::promote,
    schedule::{
        Candidate, Firing, Last, Schedule, State, due, fire,
        lease::{self, Lease},
        retry_at,
    },
    sync,
    telemetry::{CONTEXT, Heartbeat, metrics},
};

/// The longest sleep: what other instances leave behind is found within it.
const LOOK: Duration = Duration::from_secs(2);
/// The sleep when others were faster, or the database is away.
const BREATH: Duration = Duration::from_secs(1);

/// The sealing of what is due, by one instance.
pub struct Ticker {
    instance: Instance,
    plans: watch::Receiver<Arc<Plan>>,
    sealed: watch::Sender<()>,
    heartbeat: Heartbeat,
    /// The plan that the store knows.
    known: Option<Arc<Plan>>,
    /// What it knows of it.
    scheduled: Vec<(Registered, Schedule)>,
}

impl Ticker {
    pub fn new(
        instance: Instance,
        plans: watch::Receiver<Arc<Plan>>,
        sealed: watch::Sender<()>,
        heartbeat: Heartbeat,
    ) -> Ticker {
        Ticker { instance, plans, sealed, heartbeat, known: None, scheduled: Vec::new() }
    }

    /// Works until it is asked to stop.
    pub async fn run(mut self, mut stop: Stop) {
        while !stop.is_asked() {
            self.heartbeat.beat();
            if let Err(error) = self.turn(&stop).await {
                log(&error, "ticker", "nothing is computed; to be tried again");
                tokio::select! {
                    () = sleep(BREATH) => {}
                    () = stop.asked() => {}
                }
            }
        }
    }

    /// As long as all goes well and the lease holds. The lease has a new name each time, so that what was fired under an
    /// earlier one is abandoned for good.
    async fn turn(&mut self, stop: &Stop) -> Result<()> {
        let pool = &self.instance.pool;
        lease::sweep(pool).await?;
        let name: Uuid = sqlx::query_scalar("select gen_random_uuid()").fetch_one(pool).await?;
        let Some(held) = Held::acquire(&self.instance, &format!("instance:{name}")).await? else { return Ok(()) };
        let worked = self.work(&held, stop.clone()).await;
        held.release().await;
        worked
    }

    async fn work(&mut self, held: &Held, mut stop: Stop) -> Result<()> {
        while held.is_trusted() && !stop.is_asked() {
            self.learn().await?;
            let pause = self.tick(held).await?;
            self.heartbeat.beat();
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.plans.changed() => {}
                () = stop.asked() => {}
            }
        }
        Ok(())
    }

    /// Makes the latest plan known to the store.
    async fn learn(&mut self) -> Result<()> {
        let plan = self.plans.borrow_and_update().clone();
        if self.known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &plan)) {
            return Ok(());
        }
        self.heartbeat.at_work();
        let pool = &self.instance.pool;
        promote(pool, &plan.config.store.promote, |_, _| {}).await?;
        // Only the store knows which keys belong to deleted audiences.
        let settled = Plan::knowing(plan.config.clone(), &sync::known(pool, &plan.config).await?);
        for (name, error) in settled.wrong().filter(|(name, _)| !plan.wrong().any(|(known, _)| known == *name)) {
            log(error, name, "not computed until it is mended");
        }
        let (audiences, schedules): (Vec<_>, Vec<_>) = settled.scheduled.into_iter().unzip();
        let terms = sync::terms(&plan.targets);
        let registered = register::register(pool, plan.config.space_id(), &audiences, &terms).await?;
        configured::note(pool, &plan.config, &settled.audiences).await?;
        tracing::info!(audiences = registered.len(), "scheduled");
        registered.iter().for_each(|of| metrics::expect_audience(&of.audience.key));
        self.scheduled = registered.into_iter().zip(schedules).collect();
        self.known = Some(plan);
        Ok(())
    }

    /// Fires and seals all that is due now; how long to sleep after it.
    async fn tick(&self, held: &Held) -> Result<Duration> {
        let Instance { pool, clock, .. } = &self.instance;
        let last: HashMap<_, _> = fire::last(pool).await?.into_iter().collect();
        let now = clock.now();
        let agenda = due(self.scheduled.iter().map(|(of, schedule)| candidate(of, schedule, &last)), now);

        let lease = held.lease();
        let mut fired = Vec::new();
        for firing in &agenda.now {
            if fire::fire(pool, firing, &lease).await? {
                metrics::fired(match last.get(&firing.audience).map(|last| last.state) {
                    Some(State::Failed { .. }) => "retried",
                    Some(State::Abandoned) => "taken_over",
                    _ => "fired",
                });
                fired.push(*firing);
            }
        }
        if !fired.is_empty() {
            self.seal(&fired, &lease, now).instrument(error_span!("tick", ticks = fired.len())).await?;
            return Ok(Duration::ZERO);
        }
        if !agenda.now.is_empty() {
            return Ok(BREATH);
        }
        Ok(agenda.wake_at.and_then(|at| (at - clock.now()).to_std().ok()).map_or(LOOK, |pause| pause.min(LOOK)))
    }

    /// Seals what has fired on one snapshot. Each audience is noted as done within it, or as failed after it.
    async fn seal(&self, fired: &[Firing], lease: &Lease, now: DateTime<Utc>) -> Result<()> {
        let firing = |of: &Registered| fired.iter().find(|firing| firing.audience == of.id);
        // In the order of the plan, in which whoever refers to another comes after it.
        let audiences: Vec<Registered> =
            self.scheduled.iter().map(|(of, _)| of).filter(|of| firing(of).is_some()).cloned().collect();
        self.heartbeat.at_work();
        let tick = Tick { audiences: &audiences, t: now, dry_run: false, fired: Some((fired, lease)) };
        let sealed = seal::seal(&self.instance.pool, tick).await;
        self.sealed.send_replace(());
        let (runs, error) = match sealed {
            Ok(runs) => (runs.into_iter().collect::<HashMap<_, _>>(), None),
            Err(error) => (HashMap::new(), Some(error)),
        };
        if let Some(run) = runs.values().find_map(|run| run.as_ref().ok()) {
            metrics::evaluated(Duration::from_millis(run.evaluate_ms as u64));
        }
        for of in &audiences {
            let Some(firing) = firing(of) else { continue };
            match (runs.get(&of.audience.key), &error) {
                (Some(Ok(run)), _) => tell(run, firing),
                (Some(Err(error)), _) | (None, Some(error)) => {
                    let about = error_span!(target: CONTEXT, "run", audience = of.audience.key);
                    self.fail(of, firing, lease, error).instrument(about).await?;
                }
                (None, None) => {
                    self.fail(of, firing, lease, &Error::internal("the seal says nothing of this audience")).await?;
                }
            }
        }
        Ok(())
    }

    async fn fail(&self, of: &Registered, firing: &Firing, lease: &Lease, error: &Error) -> Result<()> {
        let retry_at = retry_at(firing.attempt, self.instance.clock.now());
        // False if the run is another instance's by now, which says itself what becomes of it.
        if fire::fail(&self.instance.pool, firing, lease, retry_at, &error.message).await? {
            metrics::not_sealed(&of.audience.key, "failed");
            log(error, &format!("audience '{}'", of.audience.key), "not computed; to be tried again");
            let (audience, attempt) = (&of.audience.key, firing.attempt);
            tracing::warn!(audience, attempt, %retry_at, "the run failed");
        }
        Ok(())
    }
}

fn candidate<'a>(of: &'a Registered, schedule: &'a Schedule, last: &HashMap<AudienceId, Last>) -> Candidate<'a> {
    Candidate { audience: of.id, key: &of.audience.key, schedule, last: last.get(&of.id).copied() }
}

fn tell(run: &Run, firing: &Firing) {
    let Run { key: audience, members, entered, exited, evaluate_ms, .. } = run;
    let (id, scheduled_for) = (run.run.map(|run| run.0), firing.scheduled_for);
    if let Some(why) = &run.held_because {
        metrics::not_sealed(audience, "held");
        return tracing::warn!(run = id, audience, members, entered, exited, %scheduled_for, why, "held: a person must decide");
    }
    metrics::sealed(audience, *entered, *exited);
    tracing::info!(run = id, audience, members, entered, exited, evaluate_ms, %scheduled_for, "sealed");
}
