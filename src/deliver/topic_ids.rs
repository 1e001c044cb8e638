//! Is each topic still the one that was told to? A topic that was deleted and made again has another id.
//!
//! Who went on in silence would leave the new topic without all that the old one held, so a person must decide.

use std::collections::{BTreeSet, HashSet};

use rdkafka::types::RDKafkaErrorCode as Code;
use sqlx::PgPool;
use uuid::Uuid;

use super::{state, thread::Thread, topic::Topic, trouble};
use crate::{Error, Result};

/// The topics of one stream. What they were is in the database; here is which have been looked at.
pub struct TopicIds {
    stream: Uuid,
    /// Looked at since the last recovery.
    looked_at: HashSet<String>,
}

impl TopicIds {
    /// Nothing is looked at yet.
    pub fn of(stream: Uuid) -> TopicIds {
        TopicIds { stream, looked_at: HashSet::new() }
    }

    /// Looks anew at all topics that were told to: those that are others now. Remembers the cursor topic on first sight.
    ///
    /// # Errors
    /// If Kafka or the database does not answer.
    pub async fn recreated(
        &mut self,
        pool: &PgPool,
        thread: &Thread,
        cursor_topic: Option<&str>,
    ) -> Result<Vec<String>> {
        self.looked_at.clear();
        let known = state::topics(pool, self.stream).await?;
        let mut names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
        names.extend(cursor_topic.filter(|cursors| !names.iter().any(|name| name == cursors)).map(str::to_owned));
        let now = thread.run(move |producer| producer.describe(&names)).await??;
        let recreated = now.iter().filter(|topic| is_another(topic, &known)).map(|topic| topic.name.clone()).collect();
        state::remember(pool, self.stream, &now).await?;
        Ok(recreated)
    }

    /// Looks at those of these topics that were not looked at yet: the first that is another than was told to.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] for a topic that is missing or not allowed; else if Kafka or the database does not answer.
    pub async fn look<'t>(
        &mut self,
        pool: &PgPool,
        thread: &Thread,
        names: impl Iterator<Item = &'t str>,
    ) -> Result<Option<String>> {
        let new: BTreeSet<&str> = names.filter(|name| !self.looked_at.contains(*name)).collect();
        if new.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = new.into_iter().map(str::to_owned).collect();
        let found = thread.run(move |producer| producer.describe(&names)).await??;
        found.iter().try_for_each(usable)?;
        state::remember(pool, self.stream, &found).await?;
        let known = state::topics(pool, self.stream).await?;
        let other = found.iter().find(|topic| is_another(topic, &known)).map(|topic| topic.name.clone());
        if other.is_none() {
            self.looked_at.extend(found.into_iter().map(|topic| topic.name));
        }
        Ok(other)
    }
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
