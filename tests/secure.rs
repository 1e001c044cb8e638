//! Settings and mechanisms against a secured Apache Kafka: who gets in, who does not, and what he is told.

use std::time::{Duration, Instant};

use rollcall::{
    Error, Kind,
    deliver::{cluster::{Cluster, Unanswered}, settings::Settings},
};
use serde_json::{Map, Value, json};

use crate::support::{
    certificates::{Pair, Subject},
    secured::{Secured, secured},
};

/// Asks the cluster for its topics: what every mechanism must be able to do, and no refused one can.
fn topics(settings: &Map<String, Value>) -> Result<usize, Error> {
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
        ("MSK", json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": crate::support::secured::AWS_SECRET, "region": "eu-west-1"})),
    ];
    for (listener, settings) in cases {
        let begun = Instant::now();
        let settings = kafka.settings(listener, settings);
        topics(&settings).unwrap_or_else(|error| panic!("{listener} {}: {error:?}", settings["mechanism"]));
        eprintln!("{listener} {} {:?}", settings["mechanism"], begun.elapsed());
    }
}
