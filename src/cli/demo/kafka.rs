//! Which Kafka does the demo tell? A real one that was named, else one inside this process.

use crate::{Result, kafka::in_process::InProcess};

/// Some partitions, so that keys are spread as they would be.
const PARTITIONS: i32 = 3;

/// A Kafka for the demo.
pub struct Kafka {
    brokers: String,
    /// Dropping it stops it.
    in_process: Option<InProcess>,
}

impl Kafka {
    /// The one named, or one of our own that has the topics: for what is told, and for its cursor.
    pub fn start(named: Option<&str>, topic: &str, cursor_topic: &str) -> Result<Kafka> {
        if let Some(brokers) = named {
            return Ok(Kafka { brokers: brokers.to_owned(), in_process: None });
        }
        let in_process = InProcess::start()?;
        in_process.create_topic(topic, PARTITIONS)?;
        in_process.create_topic(cursor_topic, 1)?;
        Ok(Kafka { brokers: in_process.brokers(), in_process: Some(in_process) })
    }

    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Whether nothing was ever told to it.
    pub fn is_new(&self) -> bool {
        self.in_process.is_some()
    }
}
