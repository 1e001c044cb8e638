//! Is there a Kafka to try things on, with nothing installed? librdkafka's own, inside this process.
//!
//! For the demo alone: it neither fences nor hides aborted records, so it proves nothing about exactly-once, and it drops
//! what is older than 5 MiB of a partition. Whoever wants to see all of it reads along.

use std::sync::Mutex;

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use crate::{Error, Result};

/// The addresses of the clusters of this process.
static HERE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether a broker's address is that of a cluster in this process.
pub(crate) fn is_here(broker: &str) -> bool {
    HERE.lock().is_ok_and(|here| here.iter().any(|address| address == broker))
}

/// A Kafka of one broker that lives as long as this value.
pub struct InProcess {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl InProcess {
    /// Starts it.
    ///
    /// # Errors
    /// If the machine refuses the loopback ports or threads that it needs.
    pub fn start() -> Result<InProcess> {
        let cluster =
            MockCluster::new(1).map_err(|error| Error::wait("the in-process Kafka does not start").because(error))?;
        if let Ok(mut here) = HERE.lock() {
            here.push(cluster.bootstrap_servers());
        }
        Ok(InProcess { cluster })
    }

    /// As `brokers` of a destination's settings.
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// If it exists, or its name is none.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        self.cluster
            .create_topic(topic, partitions, 1)
            .map_err(|error| Error::settings(format!("the topic '{topic}' cannot be created")).because(error))
    }
}
