//! Who brings a destination to the end of its log? Whoever has its lease: this program, or a `serve` that it waits for.
//!
//! Two that tell one destination would fence each other, again and again. What is told once does not depend on it.

use std::time::Duration;

use serde::Serialize;

use super::Progress;
use crate::{
    Error, Result,
    deliver::{Delivered, Session, Target, state},
    delta::{self, Head},
    limits,
    schedule::held::{Held, Instance},
};

/// How often to look how far the other instance is.
const LOOK: Duration = Duration::from_millis(200);

/// What became of one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Told {
    #[serde(flatten)]
    pub delivered: Delivered,
    /// Whether another instance told some of it. Then records and quarantine are not counted, only changes.
    pub by_another: bool,
}

/// Brings a destination to the end of its log as it is now, or waits until another instance has.
///
/// # Errors
/// As [`Session::deliver`]; [`crate::Kind::Wait`] if another instance has the lease and gets nowhere.
pub async fn tell(instance: &Instance, target: Target, progress: Progress<'_>) -> Result<Told> {
    let name = target.name.clone();
    let lease = format!("destination:{name}");
    let first = delta::head(&instance.pool, &name).await?;
    let mut told = Delivered { from: first.mirror, to: first.mirror, end: first.end, records: 0, quarantined: 0 };
    let mut waiting = None::<Waiting>;
    loop {
        if let Some(held) = Held::acquire(instance, &lease).await? {
            let delivered = deliver(instance, target.clone(), &held, progress).await;
            held.release().await;
            let delivered = delivered?;
            let from = if waiting.is_some() { told.from } else { delivered.from };
            let (records, quarantined) = (told.records + delivered.records, told.quarantined + delivered.quarantined);
            told = Delivered { from, records, quarantined, ..delivered };
        } else {
            let head = delta::head(&instance.pool, &name).await?;
            (told.to, told.end) = (head.mirror, head.end);
            progress(&name, &told);
            if told.to < first.end {
                waiting.get_or_insert_with(|| Waiting::start(&name, instance, &head)).look(instance, &head).await?;
                instance.clock.sleep(LOOK).await;
            }
        }
        // Less only while another tells it, or if the lease was lost on the way.
        if told.to >= first.end {
            return Ok(Told { delivered: told, by_another: waiting.is_some() });
        }
    }
}

async fn deliver(instance: &Instance, target: Target, held: &Held, progress: Progress<'_>) -> Result<Delivered> {
    let name = target.name.clone();
    let mut session = Session::start(instance.pool.clone(), target).await?;
    let go_on = |told: &Delivered| {
        progress(&name, told);
        held.is_trusted()
    };
    session.deliver(&go_on).await
}

/// For another instance, as long as it gets on.
struct Waiting {
    name: String,
    at: crate::ids::Position,
    since: std::time::Instant,
}

impl Waiting {
    fn start(name: &str, instance: &Instance, head: &Head) -> Waiting {
        tracing::warn!(
            destination = name,
            "another instance tells this destination; waiting until it has told this too"
        );
        Waiting { name: name.to_owned(), at: head.mirror, since: instance.clock.monotonic() }
    }

    async fn look(&mut self, instance: &Instance, head: &Head) -> Result<()> {
        let now = instance.clock.monotonic();
        if head.mirror > self.at {
            (self.at, self.since) = (head.mirror, now);
        }
        let name = &self.name;
        if let Some(halt) = state::halt(&instance.pool, head.destination).await? {
            return Err(Error::halted(format!("destination '{name}' halted: {halt}")).help(
                "`rollcall status` says more; once it is put right, the instance that tells it goes on by itself.",
            ));
        }
        if now - self.since < Duration::from_secs(limits::ANOTHER_SECONDS) {
            return Ok(());
        }
        let left = head.end.0 - head.mirror.0;
        Err(Error::wait(format!(
            "another instance has the lease on destination '{name}', and has told nothing for {} s; {left} changes are left",
            limits::ANOTHER_SECONDS
        ))
        .help("They are sealed, and told as soon as the destination can be reached: its log says what is in the way."))
    }
}
