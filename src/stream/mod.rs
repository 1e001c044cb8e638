//! How do events get in from Kafka, each of them once? Topics are read, and stored with their offsets in one transaction.
//!
//! ```text
//!  leases ──► share (pure: which partitions are mine) ─┐
//!  Postgres: offsets ──► places ───────────────────────┴──► reader (a thread: poll, parse, batch) ──► streamed (one transaction:
//!                                                                                                     offsets, messages, refusals)
//! ```
//!
//! The argument that each record counts once is that of [`crate::profile::streamed`], and needs nothing from Kafka but that an
//! offset of a topic always holds the same record. Which instance reads what is settled by leases alone, without a consumer group:
//! whatever changes (an instance, a partition, a topic, an error) ends a session, and the next one asks anew where to go on.

mod reader;
mod share;

use std::{sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::{
    Error, Result, config,
    kafka::settings::Settings,
    lease::{self, Instance},
    limits,
    profile::{
        rules::Rules,
        streamed::{self, Gap, Place, Writer},
    },
    telemetry::metrics,
};
use reader::{Look, Reader, Told};

/// How often to look who else reads.
const LOOK: Duration = Duration::from_secs(1);

/// A stream of the configuration, understood.
#[derive(Debug, Clone)]
pub struct Stream {
    pub name: String,
    settings: Settings,
    topics: Vec<String>,
    start: config::Start,
    /// Whose a message is.
    rules: Arc<Rules>,
}

/// What a session leaves to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// A broker has refused an offset.
    is_out_of_range: bool,
}

impl Stream {
    /// Checks the settings of the stream called `name`.
    ///
    /// # Errors
    /// Every problem of the settings.
    pub fn of(name: &str, stream: &config::Stream, rules: &Arc<Rules>) -> Result<Stream> {
        let settings = Settings::parse_of(&format!("stream '{name}'"), &stream.settings)?;
        let (name, topics) = (name.to_owned(), stream.topics.clone());
        Ok(Stream { name, settings, topics, start: stream.start, rules: rules.clone() })
    }

    /// What the leases of those who read it begin with; an instance's own ends with its id.
    pub fn lease_prefix(&self) -> String {
        format!("stream:{}:", self.name)
    }

    /// Looks at the topics, and reads nothing: how many partitions there are, and which topics cannot be read.
    ///
    /// # Errors
    /// If the cluster does not answer, or does not let us in.
    pub async fn look(self: &Arc<Self>) -> Result<(usize, Vec<Error>)> {
        let look = Reader::start(self.clone())?.look().await?;
        Ok((look.partitions.len(), look.missing))
    }

    /// Takes in the share of `me`, which must hold a lease, until that changes. May be dropped at any moment.
    ///
    /// # Errors
    /// What Kafka or the database are in the way of. What was not stored is read again.
    pub async fn take_in(self: &Arc<Self>, me: &Instance, memory: &mut Memory, go_on: GoOn<'_>) -> Result<()> {
        let pool = &me.pool;
        let mut reader = Reader::start(self.clone())?;
        let Look { partitions, held, missing } = reader.look().await?;
        for error in &missing {
            let help = error.help.as_deref().unwrap_or_default();
            tracing::error!(%error, help, "a topic is not read");
        }
        if let (true, Some(error)) = (partitions.is_empty(), missing.into_iter().next()) {
            return Err(error);
        }
        let instances = self.instances(pool).await?;
        let past_end = std::mem::take(&mut memory.is_out_of_range);
        let places = streamed::begin(pool, &self.name, &held, self.start, past_end).await?;
        places.iter().for_each(|place| self.tell_gap(place));
        let mine = share::share(partitions.clone(), &instances, me.id);
        let places: Vec<_> = places
            .into_iter()
            .filter(|place| mine.contains(&place.partition))
            .map(|place| (place.partition, place.next_offset))
            .collect();
        tracing::info!(partitions = mine.len(), of = partitions.len(), instances = instances.len(), "reading");
        let mut writer = Writer::new(pool, &me.clock, &self.name, &self.rules, places.clone()).await?;
        reader.assign(places);
        let mut look = interval(LOOK);
        while go_on() {
            tokio::select! {
                told = reader.told() => match told {
                    Told::Batch(batch) => {
                        let written = timeout(Duration::from_secs(limits::STREAM_WRITE_SECONDS), writer.write(&batch));
                        let late = |_| Error::wait("Postgres takes too long to store messages");
                        if !written.await.map_err(late)?? {
                            tracing::info!("another instance reads on");
                            return Ok(());
                        }
                    }
                    Told::Looked(look) => {
                        streamed::looked_at(pool, &self.name, &look.held).await?;
                        if look.partitions != partitions {
                            tracing::info!("the topics have changed");
                            return Ok(());
                        }
                    }
                    Told::OutOfRange => {
                        memory.is_out_of_range = true;
                        return Err(Error::wait("Kafka does not have the offset at which reading was to go on"));
                    }
                    Told::Failed(error) => return Err(error),
                },
                _ = look.tick() => if self.instances(pool).await? != instances {
                    tracing::info!("other instances read as well, or no longer do");
                    return Ok(());
                },
            }
        }
        Ok(())
    }

    /// Those who read it now.
    async fn instances(&self, pool: &PgPool) -> Result<Vec<Uuid>> {
        lease::holders(pool, &self.lease_prefix()).await
    }

    fn tell_gap(&self, place: &Place) {
        let Some(gap) = &place.gap else { return };
        let (topic, partition, from) = (&place.partition.topic, place.partition.number, place.next_offset);
        match gap {
            Gap::Recreated => {
                tracing::error!(topic, partition, from, "the topic was deleted and made anew: it is read by `start`");
                metrics::gap(&self.name, "recreated");
            }
            Gap::OutOfRange { lost } => {
                let help = "Keep records for longer than the longest time for which nobody reads them.";
                tracing::error!(
                    topic,
                    partition,
                    from,
                    lost,
                    help,
                    "records are gone that were not read: going on at the oldest"
                );
                metrics::gap(&self.name, "out_of_range");
            }
        }
    }
}

/// Whether to go on.
pub type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);
