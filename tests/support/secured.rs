//! A secured Apache Kafka: one broker with a listener for each way to get in (and each way to fail), ACLs on.

use std::{
    ffi::{CStr, CString, c_char},
    fs,
    path::{Path, PathBuf},
    process::Command,
    ptr,
    sync::OnceLock,
};

use rdkafka::{
    bindings as ffi,
    producer::{BaseProducer, Producer as _},
};
use serde_json::{Map, Value, json};

use super::{
    certificates::{Pair, Subject},
    kafka::{self, Broker, PATIENCE, free_port},
};

/// The listeners, by name: protocol, and which certificate the broker shows there.
const LISTENERS: [(&str, &str, &str); 8] = [
    ("SASL", "SASL_PLAINTEXT", ""),
    ("SECURE", "SASL_SSL", "good"),
    ("CERTIFIED", "SSL", "good"),
    ("EXPIRED", "SASL_SSL", "expired"),
    ("SELFSIGNED", "SASL_SSL", "selfsigned"),
    ("ELSEWHERE", "SASL_SSL", "elsewhere"),
    ("MSK", "SASL_SSL", "good"),
    ("TLS", "SSL", "good"),
];

/// Users that may do everything; who logs in with the name has the password `NAME-secret`.
const MASTERS: [&str; 6] = ["ANONYMOUS", "plain", "scram", "robot", "client", "AKIDEXAMPLE"];
/// Users that may do nothing until a test grants it.
pub const LIMITED: [&str; 4] = ["no-topic", "no-transactions", "no-cursor", "checked"];
/// What MSK's side of the broker knows of `AKIDEXAMPLE` (see `MskTokens.java`).
pub const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The broker, the ports, and who signed what.
pub struct Secured {
    pub broker: Broker,
    pub authority: Pair,
    ports: Vec<(&'static str, u16)>,
    folder: tempfile::TempDir,
}

/// The one that all tests share, started on first use.
pub fn secured() -> &'static Secured {
    static SHARED: OnceLock<Secured> = OnceLock::new();
    SHARED.get_or_init(Secured::start)
}

impl Secured {
    fn start() -> Secured {
        let authority = Pair::authority("Rollcall test authority");
        let folder = tempfile::Builder::new().prefix("rollcall-certificates-").tempdir().expect("a temporary folder");
        let store = |name: &str, pair: &Pair| {
            let path = folder.path().join(format!("{name}.pem"));
            fs::write(&path, format!("{}{}", pair.key(), pair.certificate())).expect("writable");
        };
        store("good", &authority.issue(&Subject::default()));
        store("expired", &authority.issue(&Subject { valid_days: (-30, -2), ..Subject::default() }));
        store("renewed", &authority.issue(&Subject::default()));
        store("selfsigned", &Pair::self_signed(&Subject::default()));
        store("elsewhere", &authority.issue(&Subject { host: "elsewhere.invalid", ..Subject::default() }));
        let trusted = folder.path().join("trusted.pem");
        fs::write(&trusted, authority.certificate()).expect("writable");

        let (plain, controller) = (free_port(), free_port());
        let ports: Vec<_> = LISTENERS.iter().map(|(name, ..)| (*name, free_port())).collect();
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        let mut own: Vec<(String, String)> = Vec::new();
        let users = ["plain"]
            .iter()
            .chain(&LIMITED)
            .fold(String::new(), |all, user| format!("{all} user_{user}=\"{user}-secret\""));
        for ((name, protocol, certificate), (_, port)) in LISTENERS.iter().zip(&ports) {
            listeners.push_str(&format!(",{name}://127.0.0.1:{port}"));
            protocols.push_str(&format!(",{name}:{protocol}"));
            let mut set =
                |key: &str, value: String| own.push((format!("listener.name.{}.{key}", name.to_lowercase()), value));
            if !certificate.is_empty() {
                set("ssl.keystore.type", "PEM".into());
                set("ssl.keystore.location", folder.path().join(format!("{certificate}.pem")).display().to_string());
                set("ssl.truststore.type", "PEM".into());
                set("ssl.truststore.location", trusted.display().to_string());
                set("ssl.client.auth", if *name == "CERTIFIED" { "required" } else { "none" }.into());
            }
            let jaas =
                |module: &str, options: &str| format!("org.apache.kafka.common.security.{module} required{options};");
            if *name == "MSK" {
                set("sasl.enabled.mechanisms", "OAUTHBEARER".into());
                set("oauthbearer.sasl.jaas.config", jaas("oauthbearer.OAuthBearerLoginModule", ""));
                set("oauthbearer.sasl.server.callback.handler.class", "MskTokens".into());
            } else if protocol.starts_with("SASL") {
                set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".into());
                set("plain.sasl.jaas.config", jaas("plain.PlainLoginModule", &users));
                set("scram-sha-256.sasl.jaas.config", jaas("scram.ScramLoginModule", ""));
                set("scram-sha-512.sasl.jaas.config", jaas("scram.ScramLoginModule", ""));
                set("oauthbearer.sasl.jaas.config", jaas("oauthbearer.OAuthBearerLoginModule", ""));
            }
        }
        let masters = MASTERS.map(|user| format!("User:{user}")).join(";") + ";User:ASIALENT";
        let shared = [
            ("listeners", listeners),
            ("listener.security.protocol.map", protocols),
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
            ("inter.broker.listener.name", "PLAINTEXT".into()),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into()),
            ("super.users", masters),
            ("ssl.principal.mapping.rules", "RULE:^CN=([^,]+).*$/$1/".into()),
        ];
        own.extend(shared.map(|(key, value)| (key.to_owned(), value)));
        let properties: Vec<(&str, &str)> = own.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let scram = |mechanism: &str| format!("{mechanism}=[name=scram,password=scram-secret]");
        let (sha_256, sha_512) = (scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512"));
        let format = ["--add-scram", &sha_256, "--add-scram", &sha_512];
        let broker = Broker::start_as(&format!("127.0.0.1:{plain}"), &properties, &format, &[&msk_tokens()]);
        Secured { broker, authority, ports, folder }
    }

    /// The address of a listener.
    pub fn at(&self, listener: &str) -> String {
        let port = self.ports.iter().find(|(name, _)| *name == listener).expect("a listener of this name").1;
        format!("127.0.0.1:{port}")
    }

    /// Settings for a listener: its address, this broker's authority where it speaks TLS, and what else is given.
    pub fn settings(&self, listener: &str, more: Value) -> Map<String, Value> {
        let tls = LISTENERS.iter().any(|(name, _, certificate)| *name == listener && !certificate.is_empty());
        let mut settings = json!({"brokers": self.at(listener), "ssl_enabled": tls});
        let object = settings.as_object_mut().expect("an object");
        if tls {
            object.insert("ssl_ca".into(), self.authority.certificate().into());
        }
        object.extend(more.as_object().expect("an object").clone());
        object.clone()
    }

    /// Lets the broker show another of its certificates at a listener, without a restart.
    pub fn show_certificate(&self, listener: &str, certificate: &str) {
        let key = format!("listener.name.{}.ssl.keystore.location", listener.to_lowercase());
        let value = self.folder.path().join(format!("{certificate}.pem"));
        alter_broker(&self.broker.address, &key, &value.display().to_string());
    }
}

/// Compiles the broker's side of MSK IAM, once; gives its class path.
fn msk_tokens() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kafka/MskTokens.java");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("msk-tokens");
    let compiled = Command::new("javac")
        .args(["-nowarn", "-cp"])
        .arg(kafka::packages().join("*"))
        .arg("-d")
        .arg(&folder)
        .arg(&source)
        .output()
        .expect("this test needs a Java development kit (javac) of version 17");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    folder
}

/// What an ACL is about.
#[derive(Clone, Copy, PartialEq)]
pub enum Resource<'a> {
    Topic(&'a str),
    /// Transactional ids that begin so.
    Transactions(&'a str),
}

/// Allows `user` everything on a resource.
pub fn grant(address: &str, user: &str, resource: Resource<'_>) {
    use ffi::{rd_kafka_ResourcePatternType_t as Pattern, rd_kafka_ResourceType_t as Kind};
    let (kind, name, pattern) = match resource {
        Resource::Topic(name) => (Kind::RD_KAFKA_RESOURCE_TOPIC, name, Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL),
        Resource::Transactions(prefix) => {
            (Kind::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, prefix, Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED)
        }
    };
    let (name, principal, host) = (c(name), c(&format!("User:{user}")), c("*"));
    let mut text = [0; 256];
    // SAFETY: all strings outlive the call, which copies them; the binding is destroyed after the request took a copy.
    ask(address, |rk, queue| unsafe {
        let mut acl = ffi::rd_kafka_AclBinding_new(
            kind,
            name.as_ptr(),
            pattern,
            principal.as_ptr(),
            host.as_ptr(),
            ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL,
            ffi::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
            text.as_mut_ptr(),
            text.len(),
        );
        assert!(!acl.is_null(), "no such ACL");
        ffi::rd_kafka_CreateAcls(rk, &mut acl, 1, ptr::null(), queue);
        ffi::rd_kafka_AclBinding_destroy(acl);
    });
}

/// Gives a user a password for SCRAM-SHA-256, or another one.
pub fn set_password(address: &str, user: &str, password: &str) {
    let user = c(user);
    // SAFETY: as in `grant`.
    ask(address, |rk, queue| unsafe {
        let mut change = ffi::rd_kafka_UserScramCredentialUpsertion_new(
            user.as_ptr(),
            ffi::rd_kafka_ScramMechanism_t::RD_KAFKA_SCRAM_MECHANISM_SHA_256,
            4096,
            password.as_ptr(),
            password.len(),
            ptr::null(),
            0,
        );
        ffi::rd_kafka_AlterUserScramCredentials(rk, &mut change, 1, ptr::null(), queue);
        ffi::rd_kafka_UserScramCredentialAlteration_destroy(change);
    });
}

fn alter_broker(address: &str, key: &str, value: &str) {
    let (broker, key, value) = (c("1"), c(key), c(value));
    // SAFETY: as in `grant`.
    ask(address, |rk, queue| unsafe {
        let mut change =
            ffi::rd_kafka_ConfigResource_new(ffi::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER, broker.as_ptr());
        let set = ffi::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
        let error = ffi::rd_kafka_ConfigResource_add_incremental_config(change, key.as_ptr(), set, value.as_ptr());
        assert!(error.is_null(), "no such property");
        ffi::rd_kafka_IncrementalAlterConfigs(rk, &mut change, 1, ptr::null(), queue);
        ffi::rd_kafka_ConfigResource_destroy(change);
    });
}

/// Sends one admin request that rust-rdkafka does not wrap, and waits for its success.
fn ask(address: &str, send: impl FnOnce(*mut ffi::rd_kafka_t, *mut ffi::rd_kafka_queue_t)) {
    let client: BaseProducer = kafka::config(address).create().expect("a client");
    let rk = client.client().native_ptr();
    // SAFETY: the client outlives the queue and the event, which are destroyed here; texts are copied before that.
    unsafe {
        let queue = ffi::rd_kafka_queue_new(rk);
        send(rk, queue);
        let event = ffi::rd_kafka_queue_poll(queue, PATIENCE.as_millis() as i32);
        assert!(!event.is_null(), "the broker does not answer");
        let text = |text: *const c_char| {
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        let mut refusals = vec![text(ffi::rd_kafka_event_error_string(event))];
        let mut count = 0;
        let acls = ffi::rd_kafka_event_CreateAcls_result(event);
        if !acls.is_null() {
            let results = ffi::rd_kafka_CreateAcls_result_acls(acls, &mut count);
            refusals
                .extend((0..count).map(|index| {
                    text(ffi::rd_kafka_error_string(ffi::rd_kafka_acl_result_error(*results.add(index))))
                }));
        }
        let passwords = ffi::rd_kafka_event_AlterUserScramCredentials_result(event);
        if !passwords.is_null() {
            let results = ffi::rd_kafka_AlterUserScramCredentials_result_responses(passwords, &mut count);
            refusals.extend((0..count).map(|index| {
                text(ffi::rd_kafka_error_string(ffi::rd_kafka_AlterUserScramCredentials_result_response_error(
                    *results.add(index),
                )))
            }));
        }
        let configs = ffi::rd_kafka_event_IncrementalAlterConfigs_result(event);
        if !configs.is_null() {
            let results = ffi::rd_kafka_IncrementalAlterConfigs_result_resources(configs, &mut count);
            refusals
                .extend((0..count).map(|index| text(ffi::rd_kafka_ConfigResource_error_string(*results.add(index)))));
        }
        ffi::rd_kafka_event_destroy(event);
        ffi::rd_kafka_queue_destroy(queue);
        refusals.retain(|refusal| !["", "(null)"].contains(&refusal.as_str()) && !refusal.contains("Success"));
        assert!(refusals.is_empty(), "{refusals:?}");
    }
}

fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}
