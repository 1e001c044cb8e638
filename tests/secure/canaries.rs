//! Secrets are planted everywhere, and looked for in all that the program prints.

use std::io::Write as _;

use serde_json::json;

use super::{http, program, text};
use crate::support::{
    certificates::Subject,
    kafka,
    postgres::Database,
    secured::{AWS_SECRET, secured},
};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_printed_even_at_trace_level() {
    let secured = secured();
    let canary = |name: &str| format!("canary-{name}-7f3a");
    let client = secured.authority.issue(&Subject { name: "client", ..Subject::default() });
    let key = client.key();
    let key_body = key.lines().nth(1).expect("a body").to_owned();
    let issuer = http::answers(|_| (401, json!({"error": "invalid_client"}).to_string()));
    let cases = [
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": canary("password")})),
        ("SECURE", json!({"mechanism": "scram-sha-512", "username": "scram", "password": canary("password")})),
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        (
            "CERTIFIED",
            json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(), "ssl_key": key, "ssl_key_passphrase": canary("passphrase")}),
        ),
        (
            "CERTIFIED",
            json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(), "ssl_key": canary("key"), "ssl_key_passphrase": canary("passphrase")}),
        ),
        (
            "MSK",
            json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": canary("aws"), "region": "eu-west-1"}),
        ),
        (
            "MSK",
            json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": canary("aws"), "region": "eu-west-1",
            "authorizationIdentity": "arn:aws:iam::1:role/x", "sts_endpoint": issuer}),
        ),
        (
            "SASL",
            json!({"mechanism": "oauthbearer", "oauth_token_endpoint": issuer, "oauth_client_id": "robot", "oauth_client_secret": canary("oauth")}),
        ),
        (
            "SASL",
            json!({"mechanism": "plain", "username": "plain", "password": canary("password"), "pasword": canary("typo")}),
        ),
        (
            "SASL",
            json!({"mechanism": "plain", "username": "plain", "password": canary("password"), "properties": {"linger.ms": canary("property")}}),
        ),
    ];
    // Somebody to tell of, whose traits are nobody's business, in a database whose password is not either.
    let database = Database::fresh().await;
    let url = database.url().replacen("@localhost/", &format!(":{}@localhost/", canary("database")), 1);
    let mut messages = tempfile::NamedTempFile::new().expect("a file");
    let identify = json!({"type": "identify", "userId": "u1", "messageId": "m1", "timestamp": "2024-05-01T00:00:00Z",
                          "traits": {"email": canary("email")}});
    writeln!(messages, "{identify}").expect("writable");
    let (topic, cursors) = (kafka::topic(&secured.broker.address, "changes", 1), kafka::unique("cursors"));
    let path = messages.path().display().to_string();
    let import = ["import", &path, "-vv", "--database", &url];
    let sync = ["sync", "-vv", "--database", &url];
    let mut librdkafka_spoke = false;
    for (listener, mut settings) in cases {
        let object = settings.as_object_mut().expect("an object");
        object.entry("properties").or_insert_with(|| json!({"debug": "all"}));
        let settings = secured.settings(listener, settings);
        let looks = ["topics", "--json", "-vv", "--log-format", "json"];
        for args in [&["check", "-vv"][..], &looks, &import, &sync] {
            let output = program(&settings, &topic, &cursors, args);
            let all = text(&output.stdout) + &text(&output.stderr);
            librdkafka_spoke |= all.contains("librdkafka") && all.contains("Connected to");
            for secret in ["canary", "plain-secret", AWS_SECRET, "lent-secret", &key_body] {
                let at = all.find(secret);
                assert!(
                    at.is_none(),
                    "{listener} {args:?} {}: {}",
                    settings["mechanism"],
                    all.chars().skip(at.unwrap_or(0).saturating_sub(300)).take(400).collect::<String>()
                );
            }
        }
    }
    assert_eq!(kafka::read_committed(&secured.broker.address, &topic).len(), 1, "the canary was told to Kafka, once");
    assert!(librdkafka_spoke, "librdkafka's own debugging is not in what was looked at");
}
