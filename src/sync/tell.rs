//! Who brings a destination to the end of its log? Whoever has its lease: this program, or a `serve` that it waits for.
//!
//! Two that tell one destination would fence each other, again and again. What is told once does not depend on it.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::lanes;
use crate::{
    Error, Result,
    deliver::{Delivered, Target, state},
    delta::{self, Head, lane::Lane},
    lease::{Held, Instance},
    limits,
};

/// How often to look how far the other instance is.
const LOOK: Duration = Duration::from_millis(200);

/// What became of one lane of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Told {
    #[serde(flatten)]
    pub delivered: Delivered,
    /// Whether another instance told it. Then records and quarantine are not counted, only changes.
    pub by_another: bool,
}

/// Brings both lanes of a destination to their ends, or waits until another instance has.
///
/// Each lane fails by itself, as in [`lanes::tell`]; [`crate::Kind::Wait`] if another instance has the lease and gets nowhere.
pub async fn tell(instance: &Instance, target: &Target, progress: &(dyn Fn(&Delivered) + Sync)) -> Vec<Result<Told>> {
    match held_or_told(instance, target, progress).await {
        Ok(Outcome::Told(told)) => told.into_iter().map(|delivered| Ok(Told { delivered, by_another: true })).collect(),
        Ok(Outcome::Held(held)) => {
            let told = lanes::tell(&instance.pool, target, progress, &|| held.is_kept()).await;
            held.release().await;
            told.into_iter().map(|told| Ok(Told { delivered: told?, by_another: false })).collect()
        }
        Err(error) => vec![Err(error)],
    }
}

enum Outcome {
    /// The lease is ours.
    Held(Held),
    /// Another instance has told everything, or there was never anything to tell.
    Told(Vec<Delivered>),
}

async fn held_or_told(instance: &Instance, target: &Target, progress: &(dyn Fn(&Delivered) + Sync)) -> Result<Outcome> {
    let lease = format!("destination:{}", target.name);
    let first = [Lane::Live, Lane::Bulk].map(|lane| delta::find(&instance.pool, &target.name, lane));
    let [live, bulk] = first;
    let first = [live.await?, bulk.await?];
    if first.iter().all(Option::is_none) {
        // Nothing was ever sealed for it.
        return Ok(Outcome::Told(Vec::new()));
    }
    let from = |lane: usize| first[lane].as_ref().map_or(crate::ids::Position(0), |head: &Head| head.mirror);
    let mut waiting = None::<Waiting>;
    loop {
        if let Some(held) = Held::acquire(instance, &lease).await? {
            return Ok(Outcome::Held(held));
        }
        let (mut all, mut told) = (Vec::new(), Vec::new());
        for (nth, lane) in [Lane::Live, Lane::Bulk].into_iter().enumerate() {
            let Some(head) = delta::find(&instance.pool, &target.name, lane).await? else { continue };
            let (from, to, end) = (from(nth), head.mirror, head.end);
            let delivered = Delivered { lane, from, to, end, records: 0, quarantined: 0 };
            progress(&delivered);
            all.push(head);
            told.push(delivered);
        }
        // What this sync has sealed is part of a log, or waits for its slice.
        if told.iter().all(|told| told.to >= told.end) && !is_backfilled(instance, &target.name).await? {
            told.retain(|told| told.lane == Lane::Live || told.to > told.from);
            return Ok(Outcome::Told(told));
        }
        waiting.get_or_insert_with(|| Waiting::start(&target.name, instance)).look(instance, &all).await?;
        instance.clock.sleep(LOOK).await;
    }
}

async fn is_backfilled(instance: &Instance, destination: &str) -> Result<bool> {
    let running = sqlx::query_scalar(
        "select exists (select from backfills b join destinations d on d.id = b.destination_id
                        where d.name = $1 and b.state = 'running')",
    );
    Ok(running.bind(destination).fetch_one(&instance.pool).await?)
}

/// For another instance, as long as it gets on.
struct Waiting {
    name: String,
    /// Changes told by both lanes.
    told: i64,
    since: Instant,
}

impl Waiting {
    fn start(name: &str, instance: &Instance) -> Waiting {
        tracing::warn!(
            destination = name,
            "another instance tells this destination; waiting until it has told this too"
        );
        Waiting { name: name.to_owned(), told: 0, since: instance.clock.monotonic() }
    }

    async fn look(&mut self, instance: &Instance, lanes: &[Head]) -> Result<()> {
        let (now, told) = (instance.clock.monotonic(), lanes.iter().map(|lane| lane.mirror.0).sum());
        if told > self.told {
            (self.told, self.since) = (told, now);
        }
        let name = &self.name;
        for lane in lanes {
            if let Some(halt) = state::halt(&instance.pool, lane.destination).await? {
                return Err(Error::halted(format!("destination '{name}' halted: {halt}")).help(
                    "`rollcall status` says more; once put right, the instance that tells it goes on by itself.",
                ));
            }
        }
        if now - self.since < Duration::from_secs(limits::ANOTHER_SECONDS) {
            return Ok(());
        }
        let (left, seconds) =
            (lanes.iter().map(|lane| lane.end.0 - lane.mirror.0).sum::<i64>(), limits::ANOTHER_SECONDS);
        Err(Error::wait(format!(
            "another instance has the lease on destination '{name}', and has told nothing for {seconds} s; {left} changes are left"
        ))
        .help("They are sealed, and told as soon as the destination can be reached: its log says what is in the way."))
    }
}
