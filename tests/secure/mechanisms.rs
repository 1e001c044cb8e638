//! Each way to get in delivers exactly once.

use serde_json::json;

use super::{deliver, http};
use crate::{
    deliver::Stage,
    support::{
        certificates::Subject,
        secured::{AWS_SECRET, secured},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn each_mechanism_delivers_exactly_once() {
    let kafka = secured();
    let client = kafka.authority.issue(&Subject { name: "client", ..Subject::default() });
    let grant = |request: &str| match request.contains("grant_type=client_credentials")
        && request.contains("Basic cm9ib3Q6cm9ib3Qtc2VjcmV0")
    {
        true => (200, json!({"access_token": unsigned_token("robot"), "expires_in": 300}).to_string()),
        false => (401, json!({"error": "invalid_client"}).to_string()),
    };
    let issuer = http::answers(grant);
    // Known to the authority of ssl_ca alone.
    let private_issuer = http::answers_with(&kafka.authority.issue(&Subject::default()), grant);
    let lender = http::answers(|request| {
        match request.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Frollcall") {
            true => (
                200,
                "<Credentials><AccessKeyId>ASIALENT</AccessKeyId><SecretAccessKey>lent-secret</SecretAccessKey>\
                       <SessionToken>a+session/token=</SessionToken></Credentials>"
                    .to_owned(),
            ),
            false => (403, "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>".to_owned()),
        }
    });
    let aws =
        json!({"mechanism": "aws", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": AWS_SECRET, "region": "eu-west-1"});
    let mut role = aws.clone();
    role["authorizationIdentity"] = "arn:aws:iam::123456789012:role/rollcall".into();
    role["sts_endpoint"] = lender.into();
    let oauth = json!({"mechanism": "oauthbearer", "oauth_token_endpoint": issuer, "oauth_client_id": "robot", "oauth_client_secret": "robot-secret"});
    let mut private = oauth.clone();
    private["oauth_token_endpoint"] = private_issuer.into();
    let scram = |mechanism: &str| json!({"mechanism": mechanism, "username": "scram", "password": "scram-secret"});
    let cases = [
        ("SASL", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        ("SASL", scram("scram-sha-256")),
        ("SASL", scram("scram-sha-512")),
        ("SASL", oauth.clone()),
        ("SECURE", json!({"mechanism": "plain", "username": "plain", "password": "plain-secret"})),
        ("SECURE", scram("scram-sha-256")),
        ("SECURE", scram("scram-sha-512")),
        ("SECURE", oauth.clone()),
        ("SECURE", private),
        (
            "CERTIFIED",
            json!({"mechanism": "client-cert-auth", "ssl_cert": client.certificate(),
            "ssl_key": client.encrypted_key("open sesame"), "ssl_key_passphrase": "open sesame"}),
        ),
        ("TLS", json!({"mechanism": "none"})),
        ("MSK", aws),
        ("MSK", role),
    ];
    for (listener, settings) in cases {
        let stage = Stage::on(&kafka.broker.address, 40, 2).await;
        stage.seal(1..=30, []).await;
        let settings = kafka.settings(listener, settings);
        let mechanism = format!("{listener} {}", settings["mechanism"]);
        deliver(&stage, &settings).await.unwrap_or_else(|error| panic!("{mechanism}: {error:?}"));
        stage.seal(31..=40, 1..=10).await;
        deliver(&stage, &settings).await.unwrap_or_else(|error| panic!("{mechanism}: {error:?}"));
        stage.assert_told_once_and_in_order(50);
    }
}

/// A JWS without a signature, which Kafka's own validator for development takes.
fn unsigned_token(subject: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as base64};
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let claims = json!({"sub": subject, "iat": now, "exp": now + 300});
    format!("{}.{}.", base64.encode(r#"{"alg":"none"}"#), base64.encode(claims.to_string()))
}
