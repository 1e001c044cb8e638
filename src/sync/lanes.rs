//! How is one destination told all that is sealed for it? Both lanes at once, until neither has anything left.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sqlx::PgPool;

use crate::{
    Result,
    deliver::{Bulk, Delivered, Session, Target},
};

/// How soon to look again where a lane waits: for the other one, or for its turn under a rate limit.
const BREATH: Duration = Duration::from_millis(100);

/// Looks in a row that came to nothing, after which the rest is left to the next sync: half a minute.
const LOOKS: u32 = 300;

/// Tells the live lane, and the bulk lane with all backfills that go on. What a person has paused is left.
///
/// `may` says whether the lease is still ours. One lane that fails ends the other's waiting for it, not its telling.
pub async fn tell(
    pool: &PgPool,
    target: &Target,
    progress: &(dyn Fn(&Delivered) + Sync),
    may: &(dyn Fn() -> bool + Sync),
) -> Vec<Result<Delivered>> {
    let go_on = |told: &Delivered| {
        progress(told);
        may()
    };
    let failed = AtomicBool::new(false);
    let note = |failure: bool| failed.fetch_or(failure, Ordering::Relaxed);
    let live = async {
        let told = live(pool, target, &go_on, &|| !may() || failed.load(Ordering::Relaxed)).await;
        note(told.is_err());
        told
    };
    let bulk = async {
        let told = bulk(pool, target, &go_on, &|| !may() || failed.load(Ordering::Relaxed)).await;
        note(told.is_err());
        told
    };
    let (live, bulk) = tokio::join!(live, bulk);
    [Some(live), bulk.transpose()].into_iter().flatten().collect()
}

type GoOn<'a> = &'a (dyn Fn(&Delivered) -> bool + Sync);
/// Whether waiting for the other lane has become vain.
type Vain<'a> = &'a (dyn Fn() -> bool + Sync);

async fn live(pool: &PgPool, target: &Target, go_on: GoOn<'_>, vain: Vain<'_>) -> Result<Delivered> {
    let mut session = Session::start(pool.clone(), target.clone()).await?;
    let (mut sum, mut idle) = (None::<Delivered>, 0);
    loop {
        let told = session.deliver(go_on).await?;
        let sum = sum.insert(add(sum, told));
        idle = if told.to > told.from { 0 } else { idle + 1 };
        if told.to >= told.end || vain() || idle > LOOKS {
            return Ok(*sum);
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// `None` if the lane had nothing to tell.
async fn bulk(pool: &PgPool, target: &Target, go_on: GoOn<'_>, vain: Vain<'_>) -> Result<Option<Delivered>> {
    let mut bulk = Bulk::new(pool.clone(), target);
    let (mut sum, mut idle) = (None::<Delivered>, 0);
    loop {
        let step = bulk.step(go_on).await?;
        if let Some(told) = step.told {
            sum = Some(add(sum, told));
        }
        let all = step.topped.running == 0 && step.told.is_none_or(|told| told.to >= told.end);
        idle = if step.got_on() { 0 } else { idle + 1 };
        if !step.got_on() && (all || vain() || idle > LOOKS) {
            return Ok(sum.filter(|told| told.to > told.from));
        }
        if !step.got_on() {
            tokio::time::sleep(BREATH).await;
        }
    }
}

fn add(sum: Option<Delivered>, told: Delivered) -> Delivered {
    let Some(sum) = sum else { return told };
    let (records, quarantined) = (sum.records + told.records, sum.quarantined + told.quarantined);
    Delivered { from: sum.from, records, quarantined, ..told }
}
