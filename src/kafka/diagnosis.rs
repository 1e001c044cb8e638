//! Why is there no connection? What librdkafka says in passing becomes one error that names the cause and the way out.
//!
//! librdkafka returns "timed out" from a call and tells the reason beside it, as an event. Pure: events in, error out.

use rdkafka::types::RDKafkaErrorCode as Code;

use super::settings::{Mechanism, Settings};
use crate::error::{Error, Result};

/// What is put for a reason when the broker's certificate was renewed between librdkafka's look and ours.
pub const TRUSTED_NOW: &str = "it is trusted now";

/// What librdkafka told beside a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub code: Code,
    /// `sasl_ssl://host:9092/bootstrap: what happened (after 3ms in state …)`
    pub text: String,
}

/// The error that these remarks amount to; `None` while there is none that ends the trying.
///
/// A refusal (credentials, certificates) ends it at once. What a network does ends it only when no broker is left.
pub fn diagnose(remarks: &[Remark], settings: &Settings) -> Option<Error> {
    let last = |wanted: fn(&Remark) -> bool| remarks.iter().rev().find(|remark| wanted(remark));
    let refused = |remark: &Remark| matches!(remark.code, Code::Authentication | Code::SaslAuthenticationFailed);
    if let Some(remark) = last(refused) {
        return Some(authentication(remark, settings));
    }
    // In TLS 1.3 a broker refuses the client's certificate only after the handshake, as if it were the network's fault.
    if let Some(remark) = last(|remark| remark.code == Code::SSL || remark.text.contains("SSL alert number")) {
        return Some(tls(remark, settings));
    }
    last(|remark| remark.code == Code::AllBrokersDown).map(|_| unreachable(remarks, settings))
}

/// The error for when no call was answered in time. One broker of several that is away is no reason by itself.
pub fn unanswered(remarks: &[Remark], settings: &Settings) -> Error {
    let all_away = remarks.iter().any(|remark| remark.code == Code::AllBrokersDown);
    if all_away || settings.brokers.len() == 1 { unreachable(remarks, settings) } else { slow(remarks, settings) }
}

fn slow(remarks: &[Remark], settings: &Settings) -> Error {
    let help = "Check that the brokers run and are not overloaded, and that enough replicas are in sync: \
                min.insync.replicas of the topics, and of __transaction_state for transactions.";
    let heard = remarks.last().map_or("", |remark| parts(remark).1);
    failed(Error::wait, &format!("no answer in time from {}", settings.brokers.join(", ")), help, heard)
}

fn unreachable(remarks: &[Remark], settings: &Settings) -> Error {
    let Some(remark) = remarks.iter().rev().find(|remark| remark.code != Code::AllBrokersDown) else {
        return slow(remarks, settings);
    };
    let (broker, text) = parts(remark);
    let told = |fragment: &str| text.contains(fragment);
    let (wrong, help) = if remark.code == Code::Resolve {
        (
            "has a name that no address is known for",
            "Check the spelling in brokers, and DNS on this machine.".to_owned(),
        )
    } else if told("Connection refused") {
        (
            "refuses the connection: nothing listens there",
            "Check the port in brokers, and that the broker runs.".to_owned(),
        )
    } else if told("timed out") {
        let help =
            "A firewall may drop the packets, or the broker hangs: check the network between this machine and it.";
        ("does not answer in time", help.to_owned())
    } else if told("connecting to a SSL listener?") || told("PLAINTEXT broker listener?") || told("require SASL") {
        ("closes the connection at once: it speaks another protocol at this port", protocol_help(settings))
    } else if told("isconnected") && settings.tls.is_none() {
        ("closes the connection", protocol_help(settings))
    } else {
        ("cannot be reached", "Check that the broker runs, and the network between this machine and it.".to_owned())
    };
    failed(Error::wait, &format!("{broker} {wrong}"), &help, text)
}

fn authentication(remark: &Remark, settings: &Settings) -> Error {
    let (broker, text) = parts(remark);
    let (mechanism, who) = match &settings.mechanism {
        Mechanism::Plain(login) => ("plain", format!("the user '{}' or its password", login.username)),
        Mechanism::ScramSha256(login) => ("scram-sha-256", format!("the user '{}' or its password", login.username)),
        Mechanism::ScramSha512(login) => ("scram-sha-512", format!("the user '{}' or its password", login.username)),
        Mechanism::Aws(iam) if iam.role_arn.is_some() => ("aws", "the role of authorizationIdentity".into()),
        Mechanism::Aws(_) => ("aws", "the key of accessKeyId and secretAccessKey".into()),
        Mechanism::OAuthBearer(client) => ("oauthbearer", format!("the token of the client '{}'", client.id)),
        Mechanism::None => ("none", "a client without authentication".into()),
        Mechanism::ClientCertificate => ("client-cert-auth", "the certificate of ssl_cert".into()),
    };
    if text.contains("handshake failed") || text.contains("nsupported SASL mechanism") {
        let help = "Set mechanism to what this listener of the broker offers, or use the port of another listener.";
        return failed(Error::settings, &format!("{broker} does not offer the mechanism {mechanism}"), help, text);
    }
    let help = match &settings.mechanism {
        Mechanism::Aws(_) => {
            "Check the key, the region, and that its policy allows kafka-cluster:Connect on the cluster."
        }
        Mechanism::OAuthBearer(_) => "Check that the broker trusts the token's issuer, and oauth_scope.",
        _ => "Check username and password: they must exist on the cluster for this very mechanism.",
    };
    failed(Error::settings, &format!("{broker} refuses {who} ({mechanism})"), help, text)
}

fn tls(remark: &Remark, settings: &Settings) -> Error {
    let (broker, text) = parts(remark);
    let told = |fragments: &[&str]| fragments.iter().any(|fragment| text.contains(fragment));
    let own_authority = settings.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
    // What its owner puts right without us is waited for.
    let passes = told(&["certificate has expired", "not yet valid", TRUSTED_NOW]);
    let (wrong, help) = if told(&["certificate has expired"]) {
        (
            "shows a certificate that has expired",
            "Renew the broker's certificate; delivery goes on by itself after that.",
        )
    } else if told(&[TRUSTED_NOW]) {
        ("showed a certificate that was not trusted, and shows another now", "Try again.")
    } else if told(&["not yet valid"]) {
        ("shows a certificate that is not yet valid", "Check the clocks of this machine and of the broker.")
    } else if told(&["self-signed certificate in certificate chain", "unable to get local issuer", "signature failure"])
    {
        let help = if own_authority {
            "Give in ssl_ca the authority that signed the broker's certificate; the one there now did not."
        } else {
            "Give in ssl_ca the authority that signed the broker's certificate; the system's authorities do not know it."
        };
        ("shows a certificate of an authority that is not trusted", help)
    } else if told(&["self-signed certificate", "unable to verify the first certificate"]) {
        ("shows a certificate that it signed itself", "Give that certificate itself in ssl_ca, if you trust it.")
    } else if told(&["hostname mismatch", "IP address mismatch"]) {
        ("shows a certificate for another host", "Write in brokers the host name that the certificate is for.")
    } else if told(&[
        "certificate required",
        "bad certificate",
        "unknown ca",
        "certificate unknown",
        "client SSL authentication",
    ]) {
        match settings.mechanism {
            Mechanism::ClientCertificate => {
                let help = "Give in ssl_cert and ssl_key a certificate from an authority that the broker trusts.";
                ("refuses the certificate of ssl_cert", help)
            }
            _ => {
                let help =
                    "Use mechanism client-cert-auth, with ssl_cert and ssl_key, or the port of another listener.";
                ("wants a client certificate", help)
            }
        }
    } else if told(&["wrong version number", "packet length too long"]) {
        ("does not speak TLS at this port", "Use the port of a TLS listener, or set ssl_enabled: false.")
    } else {
        ("cannot agree on TLS", "Check ssl_ca, and which TLS versions and ciphers the broker allows.")
    };
    failed(if passes { Error::wait } else { Error::settings }, &format!("{broker} {wrong}"), help, text)
}

fn protocol_help(settings: &Settings) -> String {
    let tls = match settings.tls {
        Some(_) => "it may not want TLS (ssl_enabled: false)",
        None => "it may want TLS (ssl_enabled: true)",
    };
    let sasl = match settings.mechanism {
        Mechanism::None => ", or a user name and a password (mechanism)",
        _ => "",
    };
    format!("Check which listener has this port: {tls}{sasl}.")
}

/// The broker's address, and what happened there without how long it took.
fn parts(remark: &Remark) -> (&str, &str) {
    let text = remark.text.split(" (after ").next().unwrap_or_default();
    let Some((broker, text)) = text.split_once(": ") else { return ("a broker", text) };
    let address = broker.rsplit_once("://").map_or(broker, |(_, address)| address);
    (address.split('/').next().unwrap_or(address), text)
}

impl Remark {
    /// `host:port` of the broker that it is about.
    pub fn broker(&self) -> &str {
        parts(self).0
    }
}

/// Whether a certificate was refused without a reason: then `handshake` finds it.
pub fn is_unexplained(remark: &Remark) -> bool {
    remark.code == Code::SSL && remark.text.contains("certificate verify failed")
}

fn failed(kind: fn(String) -> Error, what: &str, help: &str, text: &str) -> Error {
    let error = kind(format!("KAFKA_CONNECTION_ERROR: {what}")).help(help);
    if text.is_empty() { error } else { error.because(text.to_owned()) }
}

/// The error for a certificate that is not trusted, for a reason in OpenSSL's words.
pub fn distrusted(broker: &str, reason: &str, settings: &Settings) -> Error {
    let text = format!("{broker}: certificate not trusted: {reason}");
    tls(&Remark { code: Code::SSL, text }, settings)
}

/// As [`diagnose`], for a `?`.
pub fn check(remarks: &[Remark], settings: &Settings) -> Result<()> {
    diagnose(remarks, settings).map_or(Ok(()), Err)
}
