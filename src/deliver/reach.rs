//! Does the cluster let us in? It is asked for its metadata, and nothing is changed.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::task::spawn_blocking;

use super::{Target, trouble};
use crate::{Error, Result};

/// Connects as delivery would (addresses, TLS, authentication) and returns the names of the brokers that answered for.
///
/// # Errors
/// If no broker answers within `timeout`, or none lets us in.
pub async fn reach(target: &Target, timeout: Duration) -> Result<Vec<String>> {
    let config = target.client.clone();
    let ask = move || {
        let client: BaseConsumer = config.create().map_err(|error| trouble::settings(&error))?;
        let metadata =
            client.fetch_metadata(None, timeout).map_err(|error| trouble::kafka(&error, "ask for the brokers"))?;
        Ok(metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect())
    };
    // librdkafka's calls block.
    spawn_blocking(ask).await.map_err(|error| Error::internal("asking for the brokers was cut off").because(error))?
}
