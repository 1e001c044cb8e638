//! Is each topic still the one that was told to? A topic that was deleted and made again has another id.
//!
//! Who went on in silence would leave the new topic without all that the old one held, so a person must decide. A session that lives
//! for weeks looks again and again: by time, so that looking costs nothing beside telling.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use rdkafka::types::RDKafkaErrorCode as Code;
use sqlx::PgPool;
use uuid::Uuid;

use super::outside::Outside;
use crate::{
    Error, Result,
    kafka::{topic::Topic, trouble},
};

/// The topics of one stream. What they were is in the database; here is which have been looked at.
pub struct TopicIds {
    stream: Uuid,
    cursor_topic: String,
    /// Those told to that were there when last looked at.
    usable: HashSet<String>,
    /// When all of them were last looked at.
    looked: Option<Instant>,
}

/// What is wrong with a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amiss {
    /// It was told to, and is another topic by the same name now.
    Recreated(String),
    /// The cursor topic is gone or another one. What that means is found out by reading the cursor anew.
    Cursors,
}

impl TopicIds {
    /// Nothing is looked at yet.
    pub fn of(stream: Uuid, cursor_topic: &str) -> TopicIds {
        TopicIds { stream, cursor_topic: cursor_topic.to_owned(), usable: HashSet::new(), looked: None }
    }

    /// Looks anew at all topics that were told to: those that are others now. Remembers the cursor topic on first sight.
    ///
    /// # Errors
    /// If Kafka or the database does not answer.
    pub async fn recreated(&mut self, outside: &impl Outside) -> Result<Vec<String>> {
        self.usable.clear();
        self.looked = Some(outside.now());
        let known = outside.topics(self.stream).await?;
        let mut names: BTreeSet<String> = known.iter().map(|(name, _)| name.clone()).collect();
        names.insert(self.cursor_topic.clone());
        let now = outside.describe(names.into_iter().collect()).await?;
        let recreated = now.iter().filter(|topic| is_another(topic, &known)).map(|topic| topic.name.clone()).collect();
        outside.remember(self.stream, &now).await?;
        Ok(recreated)
    }

    /// Looks at those topics that were not looked at yet, and, if that is longer ago than `every`, at all that were told to.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] for a topic that is missing or not allowed; else if Kafka or the database does not answer.
    pub async fn look<'t>(
        &mut self,
        outside: &impl Outside,
        names: impl Iterator<Item = &'t str>,
        every: Duration,
    ) -> Result<Option<Amiss>> {
        let new: HashSet<String> = names.filter(|name| !self.usable.contains(*name)).map(str::to_owned).collect();
        let due = self.looked.is_none_or(|looked| outside.now() - looked >= every);
        if new.is_empty() && !due {
            return Ok(None);
        }
        let mut asked: BTreeSet<String> = new.iter().cloned().collect();
        if due {
            self.looked = Some(outside.now());
            asked.insert(self.cursor_topic.clone());
            asked.extend(outside.topics(self.stream).await?.into_iter().map(|(name, _)| name));
            asked.extend(self.usable.iter().cloned());
        }
        let found = outside.describe(asked.into_iter().collect()).await?;
        let told_to = |topic: &&Topic| new.contains(&topic.name) || self.usable.contains(&topic.name);
        found.iter().filter(told_to).try_for_each(usable)?;
        outside.remember(self.stream, &found).await?;
        let known = outside.topics(self.stream).await?;
        let amiss = |topic: &Topic| match is_another(topic, &known) {
            true if topic.name == self.cursor_topic => Some(Amiss::Cursors),
            true => Some(Amiss::Recreated(topic.name.clone())),
            false if topic.name == self.cursor_topic && is_missing(topic) => Some(Amiss::Cursors),
            false => None,
        };
        let amiss = found.iter().find_map(amiss);
        if amiss.is_none() {
            self.usable.extend(new);
        }
        Ok(amiss)
    }
}

/// The topics that a stream was told to.
///
/// # Errors
/// If the database cannot be asked.
pub async fn known(pool: &PgPool, stream: Uuid) -> Result<Vec<(String, Uuid)>> {
    Ok(sqlx::query_as("select topic, topic_id from delivery_topics where stream = $1")
        .bind(stream)
        .fetch_all(pool)
        .await?)
}

/// Remembers topics, before anything is told to them. Under their stream: what an outdated session writes here, nobody reads.
pub(super) async fn remember(pool: &PgPool, stream: Uuid, topics: &[Topic]) -> Result<()> {
    let (names, ids): (Vec<&str>, Vec<Uuid>) =
        topics.iter().filter_map(|topic| Some((topic.name.as_str(), topic.id?))).unzip();
    sqlx::query(
        "insert into delivery_topics (stream, topic, topic_id) select $1, * from unnest($2::text[], $3::uuid[])
         on conflict do nothing",
    )
    .bind(stream)
    .bind(names)
    .bind(ids)
    .execute(pool)
    .await?;
    Ok(())
}

fn usable(topic: &Topic) -> Result<(), Error> {
    match topic.error {
        // A name that no topic can have is the record's fault, and comes back with it.
        None | Some(Code::InvalidTopic) => Ok(()),
        Some(code) => Err(trouble::code(code, &format!("deliver to topic '{}'", topic.name))),
    }
}

fn is_another(topic: &Topic, known: &[(String, Uuid)]) -> bool {
    topic.id.is_some_and(|id| known.iter().any(|(name, before)| *name == topic.name && *before != id))
}

fn is_missing(topic: &Topic) -> bool {
    matches!(topic.error, Some(Code::UnknownTopic | Code::UnknownTopicOrPartition))
}
