//! Each way not to get in has its own message.

use std::time::{Duration, Instant};

use rollcall::{
    Kind, Result,
    kafka::{cluster::Cluster, settings::Settings, topics},
};
use serde_json::{Map, Value, json};

use crate::support::{
    certificates::{Pair, Subject},
    kafka,
    secured::secured,
};

/// Asks the cluster for its topics: what every mechanism must be able to do, and no refused one can.
fn topics(settings: &Map<String, Value>) -> Result<usize> {
    let settings = Settings::parse("secured", settings)?;
    let cluster = Cluster::open("secured", &settings)?;
    topics::metadata(&cluster, Duration::from_secs(20)).map(|metadata| metadata.topics().len())
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
        (
            "SASL",
            with(plain(), json!({"password": "wrong"})),
            settings,
            "refuses the user 'plain' or its password (plain)",
        ),
        (
            "SASL",
            json!({"mechanism": "scram-sha-256", "username": "scram", "password": "wrong"}),
            settings,
            "refuses the user 'scram' or its password (scram-sha-256)",
        ),
        (
            "SECURE",
            json!({"mechanism": "scram-sha-512", "username": "scram", "password": "wrong"}),
            settings,
            "refuses the user 'scram' or its password (scram-sha-512)",
        ),
        ("MSK", plain(), settings, "does not offer the mechanism plain"),
        (
            "MSK",
            json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "wrong", "region": "eu-west-1"}),
            settings,
            "refuses the key of accessKeyId",
        ),
        (
            "SECURE",
            with(plain(), json!({"ssl_ca": stranger.certificate()})),
            settings,
            "shows a certificate of an authority that is not trusted",
        ),
        (
            "SECURE",
            with(plain(), json!({"ssl_ca": ""})),
            settings,
            "shows a certificate of an authority that is not trusted",
        ),
        ("EXPIRED", plain(), Kind::Wait, "shows a certificate that has expired"),
        ("SELFSIGNED", plain(), settings, "shows a certificate that it signed itself"),
        ("ELSEWHERE", plain(), settings, "shows a certificate for another host"),
        ("CERTIFIED", json!({"mechanism": "none"}), settings, "wants a client certificate"),
        ("CERTIFIED", client(&stranger, (-1, 365)), settings, "refuses the certificate of ssl_cert"),
        ("CERTIFIED", client(&kafka.authority, (-30, -2)), settings, "the client's certificate in ssl_cert expired on"),
        ("SASL", with(plain(), json!({"ssl_enabled": true})), Kind::Wait, "closes the connection"),
        ("SECURE", with(plain(), json!({"ssl_enabled": false, "ssl_ca": ""})), Kind::Wait, "closes the connection"),
        ("SASL", json!({"mechanism": "none"}), Kind::Wait, "closes the connection"),
        (
            "SASL",
            with(plain(), json!({"brokers": nobody})),
            Kind::Wait,
            "refuses the connection: nothing listens there",
        ),
        (
            "SASL",
            with(plain(), json!({"brokers": "no-such-host.invalid:9092"})),
            Kind::Wait,
            "has a name that no address is known for",
        ),
    ];
    for (listener, settings, kind, told) in cases {
        let begun = Instant::now();
        let given = kafka.settings(listener, settings);
        let error = topics(&given).err().unwrap_or_else(|| panic!("{listener}: {told}: got in"));
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
