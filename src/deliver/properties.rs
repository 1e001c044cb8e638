//! What does librdkafka have to know? A destination's settings as its properties.

use rdkafka::ClientConfig;
use secrecy::ExposeSecret as _;

use super::settings::{Login, Mechanism, Settings};
use crate::{Error, Result};

/// The client configuration of checked settings. PEM files are read here.
///
/// # Errors
/// If a PEM file cannot be read.
pub fn properties(settings: &Settings) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", settings.brokers.join(",")).set("client.id", &settings.client_id);
    let sasl = match &settings.mechanism {
        Mechanism::None | Mechanism::ClientCertificate => None,
        Mechanism::Plain(login) => Some(("PLAIN", login)),
        Mechanism::ScramSha256(login) => Some(("SCRAM-SHA-256", login)),
        Mechanism::ScramSha512(login) => Some(("SCRAM-SHA-512", login)),
        Mechanism::Aws { .. } | Mechanism::OAuthBearer { .. } => {
            return Err(
                Error::settings("this mechanism is not there yet").help("Use plain, scram or a client certificate.")
            );
        }
    };
    if let Some((mechanism, Login { username, password })) = sasl {
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", username).set("sasl.password", password.expose_secret());
    }
    if let Some(tls) = &settings.tls {
        if !tls.reject_unauthorized {
            config.set("enable.ssl.certificate.verification", "false");
        }
        for (name, label, pem) in [
            ("ssl.ca.pem", "CERTIFICATE", &tls.ca),
            ("ssl.certificate.pem", "CERTIFICATE", &tls.certificate),
            ("ssl.key.pem", "PRIVATE KEY", &tls.key),
        ] {
            if let Some(pem) = pem {
                config.set(name, pem.read(label)?.expose_secret());
            }
        }
        if let Some(passphrase) = &tls.key_passphrase {
            config.set("ssl.key.password", passphrase.expose_secret());
        }
    }
    let protocol = match (sasl.is_some(), settings.tls.is_some()) {
        (false, false) => "PLAINTEXT",
        (false, true) => "SSL",
        (true, false) => "SASL_PLAINTEXT",
        (true, true) => "SASL_SSL",
    };
    config.set("security.protocol", protocol);
    Ok(config)
}
