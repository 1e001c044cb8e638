//! When is each SQL source pulled? By its schedule, by one of all instances. One that fails or takes long holds up no other.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tracing::{Instrument as _, error_span};

use super::{Stop, log, plan::Plan};
use crate::{
    Result,
    lease::Instance,
    pull,
    telemetry::{CONTEXT, metrics},
};

/// How often to look what is due.
const LOOK: Duration = Duration::from_secs(2);

/// Works until it is asked to stop; what is being pulled then is let go, and goes on where it was stored to.
pub async fn run(instance: Instance, mut plans: watch::Receiver<Arc<Plan>>, mut stop: Stop) {
    // By name: no source is pulled twice at a time, and all of it ends with this task.
    let (mut pulls, mut running) = (JoinSet::new(), HashSet::new());
    while !stop.is_asked() {
        let plan = plans.borrow_and_update().clone();
        let expected = plan.config.sources.iter().filter(|(_, source)| source.is_pulled());
        expected.for_each(|(name, _)| metrics::expect_source(name));
        match pull::due(&instance.pool, &plan.config, instance.clock.now()).await {
            Ok(due) => {
                for name in due {
                    if running.insert(name.clone()) {
                        let about = error_span!(target: CONTEXT, "pull", source = name);
                        pulls.spawn(pulled(instance.clone(), plan.clone(), name).instrument(about));
                    }
                }
            }
            Err(error) => log(&error, "sources", "nothing is pulled; to be tried again"),
        }
        tokio::select! {
            Some(ended) = pulls.join_next() => match ended {
                Ok(name) => drop(running.remove(&name)),
                // Which one it was is not known: all may be pulled again, which their leases bound.
                Err(_) => running.clear(),
            },
            () = instance.clock.sleep(LOOK) => {}
            _ = plans.changed() => {}
            () = stop.asked() => {}
        }
    }
}

/// Pulls one source; returns its name.
async fn pulled(instance: Instance, plan: Arc<Plan>, name: String) -> String {
    let pull = async {
        let Some(held) = pull::lease(&instance, &name).await? else { return Ok(None) };
        // Another instance may have done it while this one was looking.
        let summary = match pull::due(&instance.pool, &plan.config, instance.clock.now()).await {
            Ok(due) if due.contains(&name) => pull::pull(&instance, &plan.config, &name, |_| {}).await.map(Some),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        // Also after an error, which another instance may not meet.
        held.release().await;
        summary
    };
    let summary: Result<_> = pull.await;
    match summary {
        Ok(Some(summary)) => {
            let (rows, stored, refused, vanished) = (summary.rows, summary.stored, summary.refused, summary.vanished);
            tracing::info!(rows, stored, refused, vanished, "pulled");
        }
        Ok(None) => {}
        Err(error) => log(&error, &format!("source '{name}'"), "not pulled; to be tried again"),
    }
    name
}
