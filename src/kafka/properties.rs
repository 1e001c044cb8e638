//! What does librdkafka have to know? A destination's settings as its properties.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use secrecy::ExposeSecret as _;

use super::{
    settings::{Login, Mechanism, Settings},
    tls,
};
use crate::error::Result;

/// The properties that every client of the destination shares. Reads certificate files; opens no connection.
///
/// # Errors
/// If a certificate or key cannot be used.
pub fn properties(settings: &Settings) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", &settings.client_id)
        // What is wrong is told within seconds; librdkafka's own answer is half a minute.
        .set("socket.connection.setup.timeout.ms", "5000")
        // After a broker's return the next try comes soon: 0.4 s instead of the default's 4.6 s, measured.
        .set("reconnect.backoff.max.ms", "500")
        .set("socket.keepalive.enable", "true");
    let sasl = match &settings.mechanism {
        Mechanism::None | Mechanism::ClientCertificate => None,
        Mechanism::Plain(login) => Some(("PLAIN", Some(login))),
        Mechanism::ScramSha256(login) => Some(("SCRAM-SHA-256", Some(login))),
        Mechanism::ScramSha512(login) => Some(("SCRAM-SHA-512", Some(login))),
        Mechanism::Aws(_) | Mechanism::OAuthBearer(_) => Some(("OAUTHBEARER", None)),
    };
    let protocol = match (sasl.is_some(), settings.tls.is_some()) {
        (false, false) => "plaintext",
        (false, true) => "ssl",
        (true, false) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some((mechanism, login)) = sasl {
        config.set("sasl.mechanism", mechanism);
        if let Some(Login { username, password }) = login {
            config.set("sasl.username", username).set("sasl.password", password.expose_secret());
        }
    }
    if let Some(tls) = &settings.tls {
        let material = tls::read(tls)?;
        match material.authorities() {
            Some(pem) => config.set("ssl.ca.pem", pem),
            // The OpenSSL that is built in does not know where this system keeps its authorities.
            None => config.set("ssl.ca.location", "probe"),
        };
        if let Some((certificates, key)) = material.identity() {
            config.set("ssl.certificate.pem", certificates).set("ssl.key.pem", key.expose_secret());
        }
        if !tls.reject_unauthorized {
            config
                .set("enable.ssl.certificate.verification", "false")
                .set("ssl.endpoint.identification.algorithm", "none");
        }
    }
    // So that a connection closed by the broker is heard of; what is shown to people is for `tracing` to decide.
    let debugged = settings.properties.contains_key("debug");
    config.set_log_level(if debugged { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config.extend(settings.properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(config)
}

/// How long the brokers may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a request.
    pub socket: Duration,
    /// For a whole transaction: then they give it up.
    pub transaction: Duration,
}

/// As the user set them, or else 10 and 60 seconds; librdkafka refuses requests that may take longer than their transaction.
pub fn timeouts(properties: &BTreeMap<String, String>) -> Timeouts {
    let ms = |name, default| properties.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let transaction_ms = ms("transaction.timeout.ms", 60_000);
    let socket_ms = ms("socket.timeout.ms", transaction_ms.min(10_000));
    Timeouts { socket: Duration::from_millis(socket_ms), transaction: Duration::from_millis(transaction_ms) }
}

/// What a producer of ours is set up with, where the destination does not say otherwise, and where it may not.
pub fn producing(mut config: ClientConfig, properties: &BTreeMap<String, String>) -> ClientConfig {
    let Timeouts { socket, transaction } = timeouts(properties);
    let (socket, transaction) = (socket.as_millis().to_string(), transaction.as_millis().to_string());
    let defaults = [
        // What every client reads as it is installed: KafkaJS and kafka-python have no lz4 and no zstd, and gzip halves the
        // rate of a first sync. Segment's destination sends none either. See docs/kafka-destination.md.
        ("compression.type", "none"),
        ("linger.ms", "5"),
        ("batch.num.messages", "10000"),
        ("reconnect.backoff.max.ms", "500"),
        ("socket.timeout.ms", &socket),
        ("transaction.timeout.ms", &transaction),
        // What waits to be sent is bounded: a slow broker slows the reading down and takes no memory.
        ("queue.buffering.max.messages", "20000"),
        ("queue.buffering.max.kbytes", "32768"),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    // The guarantee stands on these; they are not for choosing.
    config.set("enable.idempotence", "true").set("acks", "all");
    // That a connection broke is told always only among what is told for debugging; elsewhere once in half a minute.
    let debug = config.get("debug").map_or_else(|| "broker".to_owned(), |more| format!("{more},broker"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    // As Java's clients place keys; without a key librdkafka fills one partition's batch after another.
    config.set("partitioner", "murmur2_random");
    config
}
