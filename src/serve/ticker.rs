//! Who seals what is due? Each instance looks, fires what nobody else has fired, and seals all of it on one snapshot.
//!
//! Whatever cannot be brought to an end is let go with the instance's lease: the tick is then abandoned, and the next look,
//! here or elsewhere, takes it over. So no way out needs to clean up.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tracing::{Instrument as _, error_span};

use super::{Stop, log, plan::Plan};
use crate::{
    Error, Result,
    delta::turn::Turn,
    fault::{self, Point},
    ids::AudienceId,
    lease::{self, Held, Instance, Lease},
    limits,
    membership::run::Run,
    profile::promote::promote,
    registry::{
        register::{self, Registered},
        seen,
    },
    runs::{
        failed, fire,
        seal::{self, Tick},
    },
    schedule::{Agenda, Candidate, Diary, Firing, Schedule, State, retry_at},
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
    /// What was last said to look like a mistake.
    warned: Vec<(String, String)>,
    /// What it knows of it, in the order of reference.
    scheduled: Vec<Scheduled>,
    diary: Diary,
}

/// An audience with its schedule.
struct Scheduled {
    of: Registered,
    schedule: Schedule,
    /// Those that it refers to and that are scheduled too.
    references: Vec<AudienceId>,
}

impl Ticker {
    pub fn new(
        instance: Instance,
        plans: watch::Receiver<Arc<Plan>>,
        sealed: watch::Sender<()>,
        heartbeat: Heartbeat,
    ) -> Ticker {
        Ticker {
            instance,
            plans,
            sealed,
            heartbeat,
            known: None,
            warned: Vec::new(),
            scheduled: Vec::new(),
            diary: Diary::default(),
        }
    }

    /// Works until it is asked to stop.
    pub async fn run(mut self, mut stop: Stop) {
        while !stop.is_asked() {
            self.heartbeat.beat();
            if let Err(error) = self.turn(&stop).await {
                log(&error, "ticker", "nothing is computed; to be tried again");
                tokio::select! {
                    () = self.instance.clock.sleep(BREATH) => {}
                    () = stop.asked() => {}
                }
            }
        }
    }

    /// As long as all goes well and the lease holds.
    async fn turn(&mut self, stop: &Stop) -> Result<()> {
        lease::sweep(&self.instance.pool).await?;
        let held = self.instance.lease().await?;
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
                () = self.instance.clock.sleep(pause) => {}
                _ = self.plans.changed() => {}
                () = stop.asked() => {}
            }
        }
        Ok(())
    }

    /// Says what looks like a mistake, once: again only when a reload makes it something else.
    fn warn(&mut self, warnings: Vec<(String, String)>) {
        if self.warned != warnings {
            for (audience, warning) in &warnings {
                tracing::warn!(audience, "perhaps a mistake: {warning}");
            }
            self.warned = warnings;
        }
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
        let mut known = sync::known(pool, &plan.config).await?;
        seen::names(&mut *pool.acquire().await?, &plan.config, &mut known).await?;
        let settled = Plan::knowing(plan.config.clone(), &known);
        for (name, error) in settled.wrong().filter(|(name, _)| !plan.wrong().any(|(known, _)| known == *name)) {
            log(error, name, "not computed until it is mended");
        }
        let (audiences, schedules): (Vec<_>, Vec<_>) = settled.scheduled.into_iter().unzip();
        let terms = sync::terms(&plan.targets);
        let registered = register::register(pool, plan.config.space_id(), &audiences, &terms).await?;
        sync::note(pool, &plan.config, &settled.audiences).await?;
        tracing::info!(audiences = registered.len(), "scheduled");
        let ids: HashMap<&str, AudienceId> = registered.iter().map(|of| (of.audience.key.as_str(), of.id)).collect();
        let references = |of: &Registered| {
            of.audience.references.iter().filter_map(|key| ids.get(key.as_str()).copied()).collect::<Vec<_>>()
        };
        let scheduled = registered.iter().zip(schedules);
        self.scheduled = scheduled
            .map(|(of, schedule)| Scheduled { of: of.clone(), schedule, references: references(of) })
            .collect();
        self.diary = Diary::default();
        registered.iter().for_each(|of| metrics::expect_audience(&of.audience.key));
        self.warn(settled.warnings);
        self.known = Some(plan);
        Ok(())
    }

    /// Fires and seals all that is due now; how long to sleep after it.
    async fn tick(&mut self, held: &Held) -> Result<Duration> {
        let now = self.instance.clock.now();
        let agenda = self.agenda(now).await?;
        if agenda.now.is_empty() {
            let pause = agenda.wake_at.and_then(|at| (at - now).to_std().ok());
            return Ok(pause.map_or(LOOK, |pause| pause.min(LOOK)));
        }
        let Some(mut turn) = Turn::take(&self.instance.pool, Some(held)).await? else { return Ok(BREATH) };
        // Others have had their turns since. What is due now is fired by nobody else until this turn ends, so that it is
        // sealed together, and whoever refers to another after it.
        let lease = held.lease();
        let mut fired = Vec::new();
        let before: HashMap<_, _> = fire::last(&self.instance.pool).await?.into_iter().collect();
        for firing in self.agenda(now).await?.now {
            if fire::fire(&self.instance.pool, &firing, &lease).await? {
                let last = before.get(&firing.audience);
                metrics::fired(match last.map(|last| last.state) {
                    Some(State::Failed { .. }) => "retried",
                    Some(State::Abandoned) => "taken_over",
                    _ => "fired",
                });
                if let Some(last) = last.filter(|last| last.state == State::Abandoned) {
                    let pool = &self.instance.pool;
                    failed::note_abandoned(pool, firing.audience, last.scheduled_for, last.attempt).await?;
                }
                fired.push(firing);
            }
        }
        if fired.is_empty() {
            return Ok(BREATH);
        }
        fault::point(Point::AfterFire);
        self.heartbeat.at_work();
        let about = error_span!("tick", ticks = fired.len());
        self.seal(&mut turn, &fired, &lease, now).instrument(about).await?;
        Ok(Duration::ZERO)
    }

    async fn agenda(&mut self, now: DateTime<Utc>) -> Result<Agenda> {
        let last: HashMap<_, _> = fire::last(&self.instance.pool).await?.into_iter().collect();
        let candidates = self.scheduled.iter().map(|scheduled| Candidate {
            audience: scheduled.of.id,
            key: &scheduled.of.audience.key,
            schedule: &scheduled.schedule,
            references: &scheduled.references,
            last: last.get(&scheduled.of.id).copied(),
        });
        Ok(self.diary.due(candidates, now))
    }

    /// Seals what has fired, on one snapshot. Only what has failed several times is sealed by itself, after the others: if
    /// it takes the whole transaction down each time, it takes nobody else with it.
    async fn seal(&self, turn: &mut Turn, fired: &[Firing], lease: &Lease, now: DateTime<Utc>) -> Result<()> {
        let (together, alone): (Vec<Firing>, Vec<Firing>) =
            fired.iter().partition(|firing| firing.attempt <= limits::ATTEMPTS_TOGETHER);
        let mut failed = HashSet::new();
        self.seal_together(turn, &together, lease, now, &mut failed).await?;
        for of in self.scheduled.iter().map(|scheduled| &scheduled.of) {
            let Some(firing) = alone.iter().find(|firing| firing.audience == of.id) else { continue };
            self.seal_together(turn, &[*firing], lease, now, &mut failed).await?;
        }
        Ok(())
    }

    /// Each audience is noted as done within the transaction, or as failed after it.
    async fn seal_together(
        &self,
        turn: &mut Turn,
        fired: &[Firing],
        lease: &Lease,
        now: DateTime<Utc>,
        failed: &mut HashSet<String>,
    ) -> Result<()> {
        let firing = |of: &Registered| fired.iter().find(|firing| firing.audience == of.id);
        // In the order of the plan, in which whoever refers to another comes after it.
        let mut audiences: Vec<Registered> = Vec::new();
        for of in self.scheduled.iter().map(|scheduled| &scheduled.of) {
            let Some(firing) = firing(of) else { continue };
            match of.audience.references.iter().find(|key| failed.contains(*key)) {
                Some(key) => {
                    let error = Error::wait(format!("it refers to `{key}`, which failed"));
                    self.fail(of, firing, lease, now, &error).await?;
                    failed.insert(of.audience.key.clone());
                }
                None => audiences.push(of.clone()),
            }
        }
        if audiences.is_empty() {
            return Ok(());
        }
        let tick = Tick { audiences: &audiences, t: now, dry_run: false, fired: Some((fired, lease)) };
        let sealed = seal::in_turn(turn, tick).await;
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
            let nothing_said = || Error::internal("the seal says nothing of this audience");
            let error = match (runs.get(&of.audience.key), &error) {
                (Some(Ok(run)), _) => {
                    tell(run, firing);
                    continue;
                }
                (Some(Err(error)), _) | (None, Some(error)) => error,
                (None, None) => &nothing_said(),
            };
            failed.insert(of.audience.key.clone());
            let about = error_span!(target: CONTEXT, "run", audience = of.audience.key);
            self.fail(of, firing, lease, now, error).instrument(about).await?;
        }
        // A turn whose session is lost ends here, with what has not been sealed: it is abandoned.
        match error {
            Some(error) if turn.is_lost().await => Err(error),
            _ => Ok(()),
        }
    }

    async fn fail(
        &self,
        of: &Registered,
        firing: &Firing,
        lease: &Lease,
        now: DateTime<Utc>,
        error: &Error,
    ) -> Result<()> {
        let retry_at = retry_at(firing.attempt, now);
        // False if the run is another instance's by now, which says itself what becomes of it.
        if fire::fail(&self.instance.pool, firing, lease, retry_at, &error.message).await? {
            failed::keep_latest(&self.instance.pool, &[of.id]).await?;
            metrics::not_sealed(&of.audience.key, "failed");
            log(error, &format!("audience '{}'", of.audience.key), "not computed; to be tried again");
            let (audience, attempt) = (&of.audience.key, firing.attempt);
            tracing::warn!(audience, attempt, %retry_at, "the run failed");
        }
        Ok(())
    }
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
