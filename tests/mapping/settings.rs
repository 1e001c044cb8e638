//! A destination's settings: the peer's names, defaults and codes, and a report that hides secrets.

use rollcall::{
    Result,
    kafka::settings::{Mechanism, Pem, Settings},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

fn parse(settings: Value) -> Result<Settings> {
    Settings::parse("prod", settings.as_object().expect("an object"))
}

#[test]
fn what_the_form_fills_in_is_filled_in() {
    let settings = parse(json!({"brokers": " a:9092, [::1]:9093 ", "username": "u", "password": "p"})).unwrap();
    assert_eq!(settings.client_id, "segment-actions-kafka-producer");
    assert_eq!(settings.brokers, ["a:9092", "[::1]:9093"]);
    assert!(matches!(settings.mechanism, Mechanism::Plain(_)));
    assert!(settings.tls.is_some_and(|tls| tls.reject_unauthorized));
}

#[test]
fn every_problem_is_in_one_report_and_no_secret_is() {
    let error = parse(json!({
        "brokers": "a:9092,b", "mechanism": "plain", "pasword": "hunter2", "ssl_enabled": "no",
        "properties": {"acks": 1, "ssl.key.password": "hunter2", "linger.ms": 5},
    }))
    .unwrap_err();
    let problems = error.problems.unwrap();
    let codes: Vec<_> = problems.problems.iter().map(|p| p.message.split(':').next().unwrap()).collect();
    assert_eq!(
        codes,
        [
            "BROKER_FORMAT_INVALID",
            "SETTING_TYPE",
            "SASL_PARAMS_MISSING",
            "PROPERTY_REFUSED",
            "PROPERTY_REFUSED",
            "SETTING_UNKNOWN"
        ]
    );
    assert!(!format!("{problems:?} {}", error.message).contains("hunter2"));
}

#[test]
fn a_broker_needs_a_host_and_a_port() {
    let code = |brokers: &str| {
        let error = parse(json!({"brokers": brokers, "mechanism": "none"})).err()?;
        Some(error.problems?.problems[0].message.split(':').next()?.to_owned())
    };
    for good in ["a:1", "10.0.0.1:65535", "[fe80::1]:9092", "b-1.kafka.eu-west-1.amazonaws.com:9098", "a:1, b:2,"] {
        assert_eq!(code(good), None, "{good}");
    }
    for bad in ["", ",", "a", "a:", ":9092", "a:0", "a:65536", "a:-1", "::1:9092", "https://a:9092", "[a]:1", "a:+1"] {
        assert_eq!(code(bad).as_deref(), Some("BROKER_FORMAT_INVALID"), "{bad}");
    }
}

#[test]
fn a_pem_gets_its_first_and_last_lines_only_if_they_are_missing() {
    for text in ["MIIB", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"] {
        let pem = Pem::Text(text.into()).read("CERTIFICATE").unwrap();
        assert_eq!(pem.expose_secret(), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----");
    }
}

#[test]
fn a_client_certificate_means_tls_even_without_an_authority() {
    let settings = parse(json!({
        "brokers": "a:1", "mechanism": "client-cert-auth", "ssl_key": "MK", "ssl_cert": "/etc/c.pem", "ssl_enabled": false,
    }))
    .unwrap();
    let tls = settings.tls.unwrap();
    assert!(matches!(tls.certificate, Some(Pem::File(_))) && matches!(tls.key, Some(Pem::Text(_))));
}

#[test]
fn debug_output_holds_no_secret() {
    let settings = json!({"brokers": "a:1", "username": "u", "password": "hunter2", "ssl_key": "hunter2"});
    assert!(!format!("{:?}", parse(settings).unwrap()).contains("hunter2"));
}
