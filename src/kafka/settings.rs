//! How is a cluster reached? Segment's settings of the Kafka destination, by its names, defaults and error codes.
//!
//! Pure: nothing here opens a connection or a file until [`Pem::read`] is called. No secret is ever printed.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{
    error::Result,
    js::{Json, coerce},
};

mod passthrough;
mod pem;
mod region;
mod report;

pub use pem::Pem;
use region::region_of;
pub use report::Fault;
use report::report;

/// What a destination's settings say, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    pub client_id: String,
    /// `host:port` each; an IPv6 host in brackets.
    pub brokers: Vec<String>,
    pub mechanism: Mechanism,
    /// `None` is a connection in the clear.
    pub tls: Option<Tls>,
    /// librdkafka properties passed through; none of them can weaken the delivery guarantee.
    pub properties: BTreeMap<String, String>,
}

/// How the client proves who it is.
#[derive(Debug, Clone)]
pub enum Mechanism {
    /// No authentication. Ours; the peer always wants some.
    None,
    Plain(Login),
    ScramSha256(Login),
    ScramSha512(Login),
    /// MSK IAM: a presigned token over SASL/OAUTHBEARER.
    Aws(Iam),
    /// TLS client certificate, without SASL. The certificate is in [`Tls`].
    ClientCertificate,
    /// Tokens from an OAuth 2 token endpoint by client credentials.
    OAuthBearer(OAuthClient),
}

/// Who asks MSK for access.
#[derive(Debug, Clone)]
pub struct Iam {
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    /// The role to assume, `authorizationIdentity` in the peer.
    pub role_arn: Option<String>,
    /// Where the cluster is. [`Settings::parse`] reads it off a broker's name when the setting is not given.
    pub region: String,
    /// Who lends the role, instead of Amazon's own endpoint in the region.
    pub sts_endpoint: Option<String>,
}

/// Who asks a token endpoint for tokens.
#[derive(Debug, Clone)]
pub struct OAuthClient {
    pub token_endpoint: String,
    pub id: String,
    pub secret: SecretString,
    pub scope: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// `None` trusts the system's authorities.
    pub ca: Option<Pem>,
    pub certificate: Option<Pem>,
    pub key: Option<Pem>,
    pub key_passphrase: Option<SecretString>,
    /// False accepts any certificate: for tests only, and warned about loudly.
    pub reject_unauthorized: bool,
}

/// The settings, by Segment's names, and ours.
const NAMES: [&str; 21] = [
    "clientId",
    "brokers",
    "mechanism",
    "username",
    "password",
    "accessKeyId",
    "secretAccessKey",
    "authorizationIdentity",
    "ssl_enabled",
    "ssl_ca",
    "ssl_key",
    "ssl_cert",
    "ssl_reject_unauthorized_ca",
    // Not in the peer:
    "region",
    "sts_endpoint",
    "ssl_key_passphrase",
    "oauth_token_endpoint",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "properties",
];

const MECHANISMS: &str = "plain, scram-sha-256, scram-sha-512, aws, client-cert-auth, oauthbearer, or none for a broker without authentication";

impl Settings {
    /// Reads and checks the settings of the destination called `name`; every problem in one report. What is not given
    /// gets the default that the peer's form fills in.
    pub fn parse(name: &str, settings: &Map<String, Value>) -> Result<Settings> {
        Settings::parse_of(&format!("destination '{name}'"), settings)
    }

    /// As [`Settings::parse`], of whatever `owner` calls.
    pub fn parse_of(owner: &str, settings: &Map<String, Value>) -> Result<Settings> {
        let settings = &with_defaults(settings);
        let (parsed, mut faults) = Self::read(settings);
        faults.extend(unknown_names(settings));
        let parsed = parsed.map(|mut parsed| {
            // The peer passes a comma too many on to its client.
            parsed.brokers.retain(|broker| !broker.is_empty());
            if parsed.brokers.is_empty() {
                faults.extend(check_broker(""));
            }
            if let Mechanism::Aws(iam) = &mut parsed.mechanism {
                faults.extend(find_region(iam, &parsed.brokers));
            }
            parsed
        });
        match parsed {
            Some(parsed) if faults.is_empty() => Ok(parsed),
            _ => Err(report(owner, settings, faults)),
        }
    }

    /// The settings as the peer's server takes them once its form has filled in the defaults: types coerced, credentials
    /// and brokers checked, unknown names and empty brokers let be. There are settings exactly if there are no faults.
    pub fn read(settings: &Map<String, Value>) -> (Option<Settings>, Vec<Fault>) {
        let mut reader = Reader { settings, faults: Vec::new() };
        let read = reader.settings();
        let faults = reader.faults;
        (if faults.is_empty() { read } else { None }, faults)
    }
}

struct Reader<'a> {
    settings: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn settings(&mut self) -> Option<Settings> {
        let client_id = self.required("clientId");
        let brokers: Option<Vec<String>> =
            self.required("brokers").map(|list| list.split(',').map(|broker| broker.trim().to_owned()).collect());
        let given = brokers.iter().flatten().filter(|broker| !broker.is_empty());
        self.faults.extend(given.filter_map(|broker| check_broker(broker)));
        let enabled = self.boolean("ssl_enabled").unwrap_or(false);
        let reject_unauthorized = self.boolean("ssl_reject_unauthorized_ca").unwrap_or(true);
        let ca = self.pem("ssl_ca");
        let mechanism = self.mechanism();
        let certificates = matches!(mechanism, Some(Mechanism::ClientCertificate));
        let tls = (enabled || ca.is_some() || certificates).then(|| Tls {
            ca,
            certificate: self.pem("ssl_cert").filter(|_| certificates),
            key: self.pem("ssl_key").filter(|_| certificates),
            key_passphrase: self.secret("ssl_key_passphrase").filter(|_| certificates),
            reject_unauthorized,
        });
        let (properties, refused) = passthrough::read(self.settings.get("properties"));
        self.faults.extend(refused);
        Some(Settings { client_id: client_id?, brokers: brokers?, mechanism: mechanism?, tls, properties })
    }

    fn mechanism(&mut self) -> Option<Mechanism> {
        let name = self.required("mechanism")?;
        Some(match name.as_str() {
            "none" => Mechanism::None,
            "plain" => Mechanism::Plain(self.login()?),
            "scram-sha-256" => Mechanism::ScramSha256(self.login()?),
            "scram-sha-512" => Mechanism::ScramSha512(self.login()?),
            "aws" => {
                let [access_key_id, secret] =
                    self.all(["accessKeyId", "secretAccessKey"], "SASL_AWS_PARAMS_MISSING", "aws")?;
                Mechanism::Aws(Iam {
                    access_key_id,
                    secret_access_key: secret.into(),
                    role_arn: self.filled("authorizationIdentity"),
                    region: self.filled("region").unwrap_or_default(),
                    sts_endpoint: self.endpoint("sts_endpoint"),
                })
            }
            "client-cert-auth" => {
                self.all(["ssl_key", "ssl_cert"], "SSL_CLIENT_CERT_AUTH_PARAMS_MISSING", "client-cert-auth")?;
                Mechanism::ClientCertificate
            }
            "oauthbearer" => {
                let names = ["oauth_token_endpoint", "oauth_client_id", "oauth_client_secret"];
                let [token_endpoint, id, secret] = self.all(names, "SASL_PARAMS_MISSING", "oauthbearer")?;
                self.endpoint("oauth_token_endpoint");
                let scope = self.filled("oauth_scope");
                Mechanism::OAuthBearer(OAuthClient { token_endpoint, id, secret: secret.into(), scope })
            }
            other => {
                let message = format!("mechanism is '{other}', which does not exist");
                self.fault("MECHANISM_UNKNOWN", "mechanism", message, Some(format!("It is one of {MECHANISMS}.")));
                return None;
            }
        })
    }

    fn login(&mut self) -> Option<Login> {
        let [username, password] = self.all(["username", "password"], "SASL_PARAMS_MISSING", "plain and scram")?;
        Some(Login { username, password: password.into() })
    }

    /// All of these, filled; otherwise one fault with the code names those that are not.
    fn all<const N: usize>(&mut self, names: [&str; N], code: &'static str, mechanism: &str) -> Option<[String; N]> {
        let values = names.map(|name| self.filled(name));
        let missing: Vec<_> =
            names.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(name, _)| *name).collect();
        if let Some(first) = missing.first() {
            let message = format!("mechanism {mechanism} needs {}", missing.join(" and "));
            self.fault(code, first, message, Some(format!("Give {} under settings.", missing.join(" and "))));
        }
        missing.is_empty().then(|| values.map(Option::unwrap_or_default))
    }

    /// The text of a setting, coerced; `None` if it is not there.
    fn text(&mut self, name: &str) -> Option<String> {
        let value = Json::from(self.settings.get(name)?);
        match coerce::text(&value) {
            Some(text) => Some(text.into_owned()),
            None => {
                self.wrong_kind(name, "a string", value.kind());
                Some(String::new())
            }
        }
    }

    fn filled(&mut self, name: &str) -> Option<String> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// An address that what proves who we are is sent to: nobody on the way may read it.
    fn endpoint(&mut self, name: &str) -> Option<String> {
        let url = self.filled(name)?;
        if !is_private(&url) {
            let message = format!("{name} is no https address");
            let help = "Write https://…; http:// is for 127.0.0.1, [::1] and localhost alone.";
            self.fault("ENDPOINT_INSECURE", name, message, Some(help.into()));
        }
        Some(url)
    }

    fn secret(&mut self, name: &str) -> Option<SecretString> {
        self.filled(name).map(SecretString::from)
    }

    fn required(&mut self, name: &str) -> Option<String> {
        let text = self.text(name);
        if text.is_none() {
            let help = if name == "mechanism" {
                format!("It is one of {MECHANISMS}.")
            } else {
                format!("Add {name} under settings.")
            };
            self.fault("SETTING_MISSING", name, format!("{name} is missing"), Some(help));
        }
        text
    }

    fn boolean(&mut self, name: &str) -> Option<bool> {
        let value = Json::from(self.settings.get(name)?);
        let boolean = coerce::boolean(&value);
        if boolean.is_none() {
            self.wrong_kind(name, "true or false", value.kind());
        }
        boolean
    }

    fn pem(&mut self, name: &str) -> Option<Pem> {
        self.filled(name).map(|text| Pem::of(&text))
    }

    fn wrong_kind(&mut self, name: &str, wanted: &str, kind: &str) {
        self.faults.push(Fault::of_kind(name, wanted, kind));
    }

    fn fault(&mut self, code: &'static str, setting: &str, message: String, help: Option<String>) {
        self.faults.push(Fault { code, setting: setting.to_owned(), message, help });
    }
}

/// Whether nobody but the one asked reads what is sent there.
fn is_private(url: &str) -> bool {
    let Ok(uri) = url.parse::<ureq::http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    }
}

/// What the peer's form fills in.
fn with_defaults(settings: &Map<String, Value>) -> Map<String, Value> {
    let mut settings = settings.clone();
    let defaults = [
        ("clientId", Value::from("segment-actions-kafka-producer")),
        ("mechanism", "plain".into()),
        ("ssl_enabled", true.into()),
        ("ssl_reject_unauthorized_ca", true.into()),
    ];
    for (name, value) in defaults {
        settings.entry(name).or_insert(value);
    }
    settings
}

/// `host:port`, `[ipv6]:port`; the port from 1 to 65535.
fn check_broker(broker: &str) -> Option<Fault> {
    let (host, port) = broker.rsplit_once(':').unwrap_or((broker, ""));
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_ok = match bracketed {
        Some(address) => address.split('%').next().is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(|char| char.is_alphanumeric() || matches!(char, '.' | '-' | '_')),
    };
    let port_ok = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    (!host_ok || !port_ok).then(|| Fault {
        code: "BROKER_FORMAT_INVALID",
        setting: "brokers".into(),
        message: format!("the broker '{broker}' is not of the form host:port"),
        help: Some(
            "Write brokers as host:port, separated by commas; an IPv6 address goes in brackets: [::1]:9092.".into(),
        ),
    })
}

/// Fills in the region from a broker's name.
fn find_region(iam: &mut Iam, brokers: &[String]) -> Option<Fault> {
    if iam.region.is_empty() {
        let hosts = brokers.iter().filter_map(|broker| broker.rsplit_once(':'));
        iam.region = hosts.filter_map(|(host, _)| region_of(host)).next().unwrap_or_default().to_owned();
    }
    iam.region.is_empty().then(|| Fault {
        code: "AWS_REGION_MISSING",
        setting: "region".into(),
        message: "the region cannot be read off the brokers' names".into(),
        help: Some("Give region under settings, as eu-west-1.".into()),
    })
}

fn unknown_names(settings: &Map<String, Value>) -> Vec<Fault> {
    let unknown = settings.keys().filter(|name| !NAMES.contains(&name.as_str()));
    unknown
        .map(|name| {
            let nearest =
                NAMES.iter().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
            Fault {
                code: "SETTING_UNKNOWN",
                setting: name.clone(),
                message: format!("there is no setting {name}"),
                help: nearest.map(|nearest| format!("Did you mean {nearest}?")),
            }
        })
        .collect()
}
