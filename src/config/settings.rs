//! What does Segment's Kafka destination let one set? The same names, so that settings move over unchanged.
//!
//! What they mean for a client is decided in `deliver`; here they are named, described and kept from being printed.

use std::{borrow::Cow, fmt, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::variables;

/// The settings of one destination, as given. `Debug` shows the values of harmless ones only.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Settings(Map<String, Value>);

/// The settings whose values may be shown: every other one may hold a secret, whatever its name.
pub(super) const HARMLESS: [&str; 5] =
    ["clientId", "brokers", "mechanism", "ssl_enabled", "ssl_reject_unauthorized_ca"];

impl Deref for Settings {
    type Target = Map<String, Value>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<Map<String, Value>> for Settings {
    fn from(settings: Map<String, Value>) -> Self {
        Settings(settings)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| match HARMLESS.contains(&String::as_str(name)) {
            true => (name, Value::to_string(value)),
            false => (name, "…".into()),
        };
        f.debug_map().entries(self.0.iter().map(shown)).finish()
    }
}

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        variables::settings(Named::json_schema(generator))
    }
}

/// Segment's settings of the Kafka destination, by its names.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Named {
    /// Brokers as host:port, separated by commas.
    brokers: String,
    /// The client id that brokers see.
    #[schemars(rename = "clientId")]
    client_id: Option<String>,
    /// How to prove who we are; `plain` unless said otherwise, `none` for a broker without authentication.
    mechanism: Option<Mechanism>,
    /// For PLAIN and SCRAM.
    username: Option<String>,
    /// For PLAIN and SCRAM. Write ${KAFKA_PASSWORD} or ${file:/run/secrets/kafka}, not the password itself.
    password: Option<String>,
    /// AWS access key id, for `aws`.
    #[schemars(rename = "accessKeyId")]
    access_key_id: Option<String>,
    /// AWS secret key, for `aws`. Write ${AWS_SECRET_ACCESS_KEY}, not the key itself.
    #[schemars(rename = "secretAccessKey")]
    secret_access_key: Option<String>,
    /// AWS IAM role ARN, for `aws`.
    #[schemars(rename = "authorizationIdentity")]
    authorization_identity: Option<String>,
    /// Whether to talk TLS (true unless said otherwise).
    ssl_enabled: Option<bool>,
    /// The authority that signed the brokers' certificates, as PEM, with or without its first and last line.
    ssl_ca: Option<String>,
    /// The client's private key, as PEM, with or without its first and last line.
    ssl_key: Option<String>,
    /// The client's certificate, as PEM, with or without its first and last line.
    ssl_cert: Option<String>,
    /// Whether to refuse brokers whose certificate no known authority signed (true unless said otherwise).
    ssl_reject_unauthorized_ca: Option<bool>,
    /// Not in Segment: what unlocks `ssl_key`.
    ssl_key_passphrase: Option<String>,
    /// Not in Segment: the AWS region, where the brokers' names do not say it.
    region: Option<String>,
    /// Not in Segment: who lends the role of `authorizationIdentity`, instead of AWS STS in the region.
    sts_endpoint: Option<String>,
    /// Not in Segment: where `oauthbearer` gets its tokens, by client credentials.
    oauth_token_endpoint: Option<String>,
    /// Not in Segment: for `oauthbearer`.
    oauth_client_id: Option<String>,
    /// Not in Segment: for `oauthbearer`. Write ${OAUTH_SECRET}, not the secret itself.
    oauth_client_secret: Option<String>,
    /// Not in Segment: for `oauthbearer`.
    oauth_scope: Option<String>,
    /// Not in Segment: librdkafka's own properties; those that would weaken the guarantee are refused.
    properties: Option<Map<String, Value>>,
}

/// How to prove to the brokers who we are.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum Mechanism {
    Plain,
    #[schemars(rename = "scram-sha-256")]
    ScramSha256,
    #[schemars(rename = "scram-sha-512")]
    ScramSha512,
    ClientCertAuth,
    Aws,
    /// Not in Segment: tokens from an OAuth 2 endpoint.
    Oauthbearer,
    /// Not in Segment: no authentication.
    None,
}
