//! What was refused of late? Counted here, and every few seconds logged and kept, so that a source that sends nonsense costs a
//! line and a row, not one for each message.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    profile::{
        Refusal,
        refused::{self, Cause},
    },
    telemetry::metrics::INTAKE_MESSAGES,
};

/// How often it is told.
const PERIOD: Duration = Duration::from_secs(5);

/// Counts of refusals by cause; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<Cause, i64>>>);

/// Tells what was counted.
#[derive(Debug)]
pub struct Keeper {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Tally {
    /// A tally that is told to the log and the database.
    pub fn start(pool: PgPool) -> (Tally, Keeper) {
        let (stop, mut asked) = oneshot::channel();
        let tally = Tally::default();
        let told = tally.clone();
        let task = tokio::spawn(async move {
            loop {
                let stops = timeout(PERIOD, &mut asked).await.is_ok();
                told.tell(&pool).await;
                if stops {
                    return;
                }
            }
        });
        (tally, Keeper { stop, task })
    }

    pub fn add(&self, source: Option<&str>, refusals: &[Refusal]) {
        if refusals.is_empty() {
            return;
        }
        metrics::counter!(INTAKE_MESSAGES, "outcome" => "refused").increment(refusals.len() as u64);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for refusal in refusals {
            *counts.entry(refused::cause(source, refusal)).or_default() += 1;
        }
    }

    /// Counts messages that were stored as of their arrival, since the time that they name cannot be read.
    pub fn add_misdated(&self, source: Option<&str>, messages: i64) {
        if messages > 0 {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(refused::misdated(source)).or_default() += messages;
        }
    }

    async fn tell(&self, pool: &PgPool) {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if counts.is_empty() {
            return;
        }
        let counts: Vec<(Cause, i64)> = counts.into_iter().collect();
        for ((source, field, reason), messages) in &counts {
            tracing::warn!(
                source,
                field,
                reason,
                messages,
                "messages were refused, or stored with another time than they name"
            );
        }
        if let Err(error) = refused::add(pool, &counts).await {
            tracing::warn!(%error, "what was refused is not kept");
        }
    }
}

impl Keeper {
    /// Tells the rest.
    pub async fn end(self) {
        self.stop.send(()).ok();
        timeout(Duration::from_secs(1), self.task).await.ok();
    }
}
