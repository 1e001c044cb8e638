//! How are people forgotten without a person at hand? Every few seconds each request goes on as far as it can.

use std::time::Duration;

use tokio::sync::watch;

use super::{Stop, log};
use crate::{forget, lease::Instance};

/// How often to look for requests. Any number of instances may: each step is one transaction that rechecks.
const LOOK: Duration = Duration::from_secs(2);

/// Works until it is asked to stop; `sealed` wakes those who tell.
pub async fn run(instance: Instance, sealed: watch::Sender<()>, mut stop: Stop) {
    while !stop.is_asked() {
        match forget::step(&instance.pool, instance.clock.now()).await {
            Ok(step) => {
                if step.sealed > 0 {
                    tracing::info!(requests = step.sealed, "those to be forgotten have left their audiences");
                    sealed.send_replace(());
                }
                if let Some(report) = step.report {
                    tracing::info!(requests = report.requests.len(), "forgotten");
                }
            }
            Err(error) => log(&error, "forgetting", "nobody is forgotten meanwhile; to be tried again"),
        }
        tokio::select! {
            () = instance.clock.sleep(LOOK) => {}
            () = stop.asked() => {}
        }
    }
}
