//! Is everything in place to deliver? Address, TLS, login, permissions, topics and transactions, one line each.
//!
//! Nothing is written to a topic: permissions are asked of the broker, and transactions are tried without a record, under
//! an id of their own so that no running delivery is fenced.

use std::time::Duration;

use rdkafka::{
    admin::{AdminOptions, ResourceSpecifier},
    error::KafkaError,
    producer::Producer as _,
    types::RDKafkaErrorCode as Code,
};
use uuid::Uuid;

use super::cursor;
use crate::{
    Error, Result,
    clock::Clock,
    config::{self, Delivery},
    kafka::{
        cluster::{Cluster, Unanswered},
        diagnosis, handshake,
        settings::Settings,
        tls,
        topic::{self, Permitted, Topic},
        topics::{self, Listed},
        trouble,
    },
};

const PATIENCE: Duration = Duration::from_secs(15);

/// One thing looked at: what it is, and what was found.
pub struct Finding {
    pub subject: String,
    pub result: Result<String>,
}

/// Looks at a destination; what depends on something that failed is left out. Blocks; not for a tokio worker.
/// `streams` are those of the destination's lanes, if it has any already.
pub fn check(name: &str, settings: &Settings, destination: &config::Destination, streams: &[Uuid]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |subject: String, result: Result<String>| {
        let went_well = result.is_ok();
        findings.push(Finding { subject, result });
        went_well
    };
    for broker in &settings.brokers {
        if note(format!("broker {broker}"), address(broker)) && settings.tls.is_some() {
            note(format!("TLS of {broker}"), certificate(broker, settings));
        }
    }
    let cluster = Cluster::open(name, settings);
    let metadata = cluster.and_then(|cluster| topics::metadata(&cluster, PATIENCE).map(|metadata| (cluster, metadata)));
    let (cluster, listed) = match metadata {
        Ok((cluster, metadata)) => {
            note("login".into(), Ok(format!("let in; {} brokers", metadata.brokers().len())));
            (cluster, topics::list(&metadata))
        }
        Err(error) => {
            note("login".into(), Err(error));
            return findings;
        }
    };
    let named = topics::named(destination);
    let all: Vec<String> = named.iter().chain([&destination.cursor_topic]).cloned().collect();
    match cluster.admin().and_then(|admin| topic::permitted(admin.inner(), &all, PATIENCE)) {
        Err(error) => {
            note("topics".into(), Err(error));
        }
        Ok(found) => {
            for topic in &found {
                if topic.name == destination.cursor_topic {
                    note(format!("cursor topic '{}'", topic.name), cursor_topic(&cluster, topic));
                } else {
                    note(format!("topic '{}'", topic.name), user_topic(&cluster, topic, &listed));
                }
            }
        }
    }
    if destination.delivery == Delivery::ExactlyOnce {
        note("transactions".into(), transactions(&cluster, streams));
    }
    findings
}

fn address(broker: &str) -> Result<String> {
    let stream = handshake::connect(broker).map_err(|error| {
        Error::wait(format!("KAFKA_CONNECTION_ERROR: {error}"))
            .help("Check brokers, DNS, the network between this machine and the broker, and that it runs.")
    })?;
    Ok(stream.peer_addr().map_or("within reach".into(), |address| format!("within reach at {address}")))
}

fn certificate(broker: &str, settings: &Settings) -> Result<String> {
    let Some(tls) = &settings.tls else { return Ok("not used".into()) };
    let shown = handshake::look(broker, tls)?;
    let days = shown.certificate.as_ref().and_then(|certificate| tls::days_left(certificate, Clock::system().now()));
    let name = shown.certificate.as_ref().map_or_else(String::new, |certificate| tls::name(certificate.subject_name()));
    let days = days.map_or_else(String::new, |days| format!(", good for {days} days"));
    match shown.distrust {
        None => Ok(format!("{}, certificate '{name}'{days}", shown.version)),
        Some(_) if !tls.reject_unauthorized => Ok(format!(
            "{}, certificate '{name}' NOT VERIFIED: ssl_reject_unauthorized_ca is false, so anyone on the way can read \
             and change what is sent",
            shown.version
        )),
        Some(reason) => Err(diagnosis::distrusted(broker, &reason, settings)),
    }
}

fn permission(topic: &Topic, needed: &str, enough: fn(Permitted) -> bool) -> Result<()> {
    if topic.permitted.is_some_and(|permitted| !enough(permitted)) {
        return Err(Error::settings(format!("this user may not {needed} it"))
            .help(format!("Allow the user {needed} (and Describe) on the topic '{}'.", topic.name)));
    }
    Ok(())
}

fn user_topic(cluster: &Cluster, topic: &Topic, listed: &[Listed]) -> Result<String> {
    if let Some(code) = topic.error {
        let error = trouble::code(code, &format!("use the topic '{}'", topic.name));
        return Err(error.help(topics::remedy(&topic.name, listed.iter().map(|listed| listed.topic.as_str()))));
    }
    permission(topic, "Write", |permitted| permitted.write)?;
    let shape = listed.iter().find(|listed| listed.topic == topic.name);
    let (partitions, replicas) = shape.map_or((0, 0), |listed| (listed.partitions, listed.replicas));
    let told = format!("{partitions} partitions, {replicas} replicas");
    let Some(limits) = limits(cluster, &topic.name) else {
        return Ok(format!("{told}; its limits may not be read (DescribeConfigs)"));
    };
    if limits.min_insync > replicas {
        let message = format!("min.insync.replicas is {}, but it has {replicas} replicas", limits.min_insync);
        return Err(
            Error::settings(message).help("No record can be stored: lower min.insync.replicas, or add replicas.")
        );
    }
    Ok(format!("{told}, records up to {} bytes, min.insync.replicas {}", limits.message_bytes, limits.min_insync))
}

fn cursor_topic(cluster: &Cluster, topic: &Topic) -> Result<String> {
    if let Some(code) = topic.error {
        return match code {
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                Ok("not there yet; it is created with the first delivery, for which this user needs Create".into())
            }
            code => Err(trouble::code(code, "use the cursor topic")
                .help(format!("Allow the user Read, Write and Describe on the topic '{}'.", topic.name))),
        };
    }
    permission(topic, "Read", |permitted| permitted.read)?;
    permission(topic, "Write", |permitted| permitted.write)?;
    match limits(cluster, &topic.name) {
        Some(limits) if limits.cleanup != "compact" => {
            Err(Error::settings(format!("cleanup.policy is {}", limits.cleanup)).help(
                "Cursors would be deleted in time: set cleanup.policy=compact on it, or name another cursor_topic.",
            ))
        }
        Some(_) => Ok("there, compacted".into()),
        None => Ok("there; its cleanup.policy may not be read, it must be compact".into()),
    }
}

struct Limits {
    message_bytes: u64,
    min_insync: usize,
    cleanup: String,
}

/// What the topic's configuration says, if we may read it.
fn limits(cluster: &Cluster, topic: &str) -> Option<Limits> {
    let admin = cluster.admin().ok()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let described = cursor::wait_for(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options)).ok()?;
    let config = described.into_iter().next()?.ok()?;
    let value = |name| config.get(name).and_then(|entry| entry.value.clone());
    Some(Limits {
        message_bytes: value("max.message.bytes")?.parse().ok()?,
        min_insync: value("min.insync.replicas")?.parse().ok()?,
        cleanup: value("cleanup.policy")?,
    })
}

/// Tried under an id that no delivery uses: whoever begins under a delivery's own fences it.
fn transactions(cluster: &Cluster, streams: &[Uuid]) -> Result<String> {
    let mut config = cluster.config();
    config.set("transactional.id", "rollcall-check").set("enable.idempotence", "true").set("acks", "all");
    let context = cluster.context();
    let producer = cluster.producer(&config, context.clone())?;
    let begun = context.until_answered(PATIENCE, |time| producer.poll(time), |slice| producer.init_transactions(slice));
    let refused = |error: &KafkaError| error.rdkafka_error_code() == Some(Code::TransactionalIdAuthorizationFailed);
    match begun {
        Ok(()) => Ok("allowed (tried as rollcall-check)".into()),
        Err(Unanswered::Diagnosed(error)) => Err(error),
        // Who is allowed one id alone, and not the prefix, may well deliver: it is no fault, and cannot be proven.
        Err(Unanswered::Failed(error)) if refused(&error) && !streams.is_empty() => {
            // A bulk lane's stream is there once it was needed.
            let ids = streams.iter().map(|stream| format!("rollcall-{stream}")).collect::<Vec<_>>().join(" and ");
            Ok(format!(
                "not proven: this user may not use the id rollcall-check, and that of the delivery is not tried, lest a running one \
             be fenced; allow Write and Describe on transactional ids with the prefix rollcall-, or at least on {ids}"
            ))
        }
        Err(Unanswered::Failed(error)) => Err(trouble::kafka(&error, "begin transactions (tried as rollcall-check)")),
    }
}
