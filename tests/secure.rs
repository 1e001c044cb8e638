//! Settings and mechanisms against a secured Apache Kafka: who gets in, who does not, and what he is told.

use std::time::{Duration, Instant};

use rollcall::{
    Error, Kind, Result,
    deliver::{cluster::{Cluster, Unanswered}, settings::Settings},
};
use serde_json::{Map, Value, json};

use crate::support::{
    certificates::{Pair, Subject},
    kafka,
    secured::{AWS_SECRET, Secured, secured},
};

/// Asks the cluster for its topics: what every mechanism must be able to do, and no refused one can.
fn topics(settings: &Map<String, Value>) -> Result<usize> {
    let settings = Settings::parse("secured", settings)?;
    let cluster = Cluster::open("secured", &settings)?;
    let context = cluster.context();
    let producer = cluster.producer(&cluster.config(), context.clone())?;
    let client = rdkafka::producer::Producer::client(&producer);
    let metadata = context.until_answered(
        Duration::from_secs(20),
        || producer.poll(Duration::ZERO),
        |slice| client.fetch_metadata(None, slice),
    );
    let metadata = metadata.map_err(|unanswered| match unanswered {
        Unanswered::Diagnosed(error) => error,
        Unanswered::Failed(error) => Error::wait("no topics").because(error),
    })?;
    Ok(metadata.topics().len())
}

#[test]
fn every_mechanism_gets_in() {
    let kafka = secured();
    let client = kafka.authority.issue(&Subject { name: "client", ..Subject::default() });
    let cases = [
        ("SASL", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        ("SASL", json!({"mechanism": "scram-sha-256", "username": "scram", "password": "scram-secret"})),
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        ("SECURE", json!({"mechanism": "scram-sha-256", "username": "scram", "password": "scram-secret"})),
        ("SECURE", json!({"mechanism": "scram-sha-512", "username": "scram", "password": "scram-secret"})),
        ("CERTIFIED", json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(), "ssl_key": client.key()})),
        ("TLS", json!({"mechanism": "none"})),
        ("MSK", json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": AWS_SECRET, "region": "eu-west-1"})),
    ];
    for (listener, settings) in cases {
        let begun = Instant::now();
        let settings = kafka.settings(listener, settings);
        topics(&settings).unwrap_or_else(|error| panic!("{listener} {}: {error:?}", settings["mechanism"]));
        eprintln!("{listener} {} {:?}", settings["mechanism"], begun.elapsed());
    }
}

/// Each way not to get in, with what is said and which kind of error it is.
#[test]
fn each_refusal_has_its_own_message_within_seconds() {
    let kafka = secured();
    let plain = || json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"});
    let with = |mut settings: Value, more: Value| {
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        settings
    };
    let stranger = Pair::authority("Somebody else's authority");
    let client = |authority: &Pair, valid_days| {
        let pair = authority.issue(&Subject { name: "client", valid_days, ..Subject::default() });
        json!({"mechanism": "client-cert-auth", "ssl_cert": pair.certificate(), "ssl_key": pair.key()})
    };
    let nobody = format!("127.0.0.1:{}", kafka::free_port());
    let settings = Kind::Settings;
    let cases = [
        ("SASL", with(plain(), json!({"password": "wrong"})), settings, "refuses the user 'plain' or its password (plain)"),
        ("SASL", json!({"mechanism": "scram-sha-256", "username": "scram", "password": "wrong"}), settings, "refuses the user 'scram' or its password (scram-sha-256)"),
        ("SECURE", json!({"mechanism": "scram-sha-512", "username": "scram", "password": "wrong"}), settings, "refuses the user 'scram' or its password (scram-sha-512)"),
        ("MSK", plain(), settings, "does not offer the mechanism plain"),
        ("MSK", json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "wrong", "region": "eu-west-1"}), settings, "refuses the key of accessKeyId"),
        ("SECURE", with(plain(), json!({"ssl_ca": stranger.certificate()})), settings, "shows a certificate of an authority that is not trusted"),
        ("SECURE", with(plain(), json!({"ssl_ca": ""})), settings, "shows a certificate of an authority that is not trusted"),
        ("EXPIRED", plain(), settings, "shows a certificate that has expired"),
        ("SELFSIGNED", plain(), settings, "shows a certificate that it signed itself"),
        ("ELSEWHERE", plain(), settings, "shows a certificate for another host"),
        ("CERTIFIED", json!({"mechanism": "none"}), settings, "wants a client certificate"),
        ("CERTIFIED", client(&stranger, (-1, 365)), settings, "refuses the certificate of ssl_cert"),
        ("CERTIFIED", client(&kafka.authority, (-30, -2)), settings, "the client's certificate in ssl_cert expired on"),
        ("SASL", with(plain(), json!({"ssl_enabled": true})), Kind::Wait, "speaks another protocol at this port"),
        ("SECURE", with(plain(), json!({"ssl_enabled": false, "ssl_ca": ""})), Kind::Wait, "speaks another protocol at this port"),
        ("SASL", json!({"mechanism": "none"}), Kind::Wait, "speaks another protocol at this port"),
        ("SASL", with(plain(), json!({"brokers": nobody})), Kind::Wait, "refuses the connection: nothing listens there"),
        ("SASL", with(plain(), json!({"brokers": "no-such-host.invalid:9092"})), Kind::Wait, "has a name that no address is known for"),
    ];
    for (listener, settings, kind, told) in cases {
        let begun = Instant::now();
        let given = kafka.settings(listener, settings);
        let error = topics(&given).err().unwrap_or_else(|| panic!("{listener}: {told}: got in"));
        eprintln!("{listener} {:?} {error} [{:?}] ({})", begun.elapsed(), error.help, std::error::Error::source(&error).map_or(String::new(), ToString::to_string));
        assert!(error.message.contains(told), "{listener}: {} is not: {told}", error.message);
        assert_eq!(error.kind, kind, "{}", error.message);
        assert!(begun.elapsed() < Duration::from_secs(12), "{told}: {:?}", begun.elapsed());
    }
}

#[test]
fn verification_can_be_switched_off_for_a_self_signed_certificate() {
    let kafka = secured();
    for listener in ["SELFSIGNED", "EXPIRED", "ELSEWHERE"] {
        let settings = json!({"mechanism": "plain", "username": "plain", "password": "plain-secret",
            "ssl_reject_unauthorized_ca": false, "ssl_ca": ""});
        topics(&kafka.settings(listener, settings)).expect("got in");
    }
}

#[test]
fn zz_debug() {
    tracing_subscriber::fmt().with_env_filter("librdkafka=trace").with_test_writer().try_init().ok();
    let kafka = secured();
    let given = kafka.settings("SECURE", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret", "ssl_enabled": false, "ssl_ca": "", "properties": {"debug": "broker"}}));
    let begun = Instant::now();
    let error = topics(&given).unwrap_err();
    eprintln!("{:?} {error} {:?}", begun.elapsed(), std::error::Error::source(&error));
}
