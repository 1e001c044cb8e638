//! Secrets are planted everywhere, and looked for in all that the program prints.

use serde_json::json;

use super::{http, program, text};
use crate::support::{
    certificates::Subject,
    secured::{AWS_SECRET, secured},
};

#[test]
fn no_secret_is_ever_printed_even_at_trace_level() {
    let kafka = secured();
    let canary = |name: &str| format!("canary-{name}-7f3a");
    let client = kafka.authority.issue(&Subject { name: "client", ..Subject::default() });
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
    let mut librdkafka_spoke = false;
    for (listener, mut settings) in cases {
        let object = settings.as_object_mut().expect("an object");
        object.entry("properties").or_insert_with(|| json!({"debug": "all"}));
        let settings = kafka.settings(listener, settings);
        for args in [&["check", "-vv"][..], &["topics", "--json", "-vv", "--log-format", "json"]] {
            let output = program(&settings, "changes", "cursors", args);
            let all = text(&output.stdout) + &text(&output.stderr);
            librdkafka_spoke |= all.contains("librdkafka") && all.contains("Connected to");
            for secret in ["canary", "plain-secret", AWS_SECRET, "lent-secret", &key_body] {
                let at = all.find(secret);
                assert!(
                    at.is_none(),
                    "{listener} {args:?} {}: {}",
                    settings["mechanism"],
                    &all[at.unwrap_or(0).saturating_sub(300)..][..400]
                );
            }
        }
    }
    assert!(librdkafka_spoke, "librdkafka's own debugging is not in what was looked at");
}
