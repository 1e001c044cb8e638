//! What is dropped when nobody asks? What is past `retention`, once a day, by one of all instances.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Stop, log, plan::Plan};
use crate::{
    Result,
    lease::Instance,
    retention::{self, Bounds},
};

/// How often to look whether a day is over.
const LOOK: Duration = Duration::from_secs(600);

/// Works until it is asked to stop.
pub async fn run(instance: Instance, plans: watch::Receiver<Arc<Plan>>, mut stop: Stop) {
    while !stop.is_asked() {
        let plan = plans.borrow().clone();
        if let Err(error) = prune(&instance, &plan).await {
            log(&error, "retention", "not all that is past retention is dropped; to be tried again tomorrow");
        }
        tokio::select! {
            () = instance.clock.sleep(LOOK) => {}
            () = stop.asked() => {}
        }
    }
}

async fn prune(instance: &Instance, plan: &Plan) -> Result<()> {
    if !retention::begin_daily(&instance.pool).await? {
        return Ok(());
    }
    let bounds = Bounds::of(&plan.config, instance.clock.now());
    bounds.notes.iter().for_each(|note| tracing::warn!("retention of events: {note}"));
    for dropped in retention::prune(&instance.pool, &bounds, false).await? {
        let retention::Dropped { what, of, rows, bytes, kept } = dropped;
        tracing::info!(what, of, rows, bytes, kept, "dropped what was past retention");
    }
    Ok(())
}
