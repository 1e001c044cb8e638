//! How is a token got? Over HTTP, within a bound, from whoever gives them.

use std::{
    fs,
    io::Read as _,
    time::{Duration, SystemTime},
};

use secrecy::SecretString;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// How long a token's source may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than this is no answer of a token's source.
const ANSWER_BYTES: u64 = 1 << 20;

/// What proves who we are, for a while.
#[derive(Debug, Clone)]
pub struct Token {
    pub text: SecretString,
    /// The name under which librdkafka files it; the broker takes the name from the token itself.
    pub principal: String,
    pub expires: SystemTime,
}

/// Asks over HTTP; gives the status and the text. Redirects are not followed: they would carry what proves who we are.
pub fn get(url: &str) -> Result<(u16, String), ureq::Error> {
    read(agent(TlsConfig::default()).get(url).call()?)
}

/// Sends a form over HTTP, with an `Authorization` header; gives the status and the text. `authorities` (PEM) are trusted
/// beside those of this system.
pub fn post(
    url: &str,
    authorization: &str,
    form: &[(&str, &str)],
    authorities: Option<&str>,
) -> Result<(u16, String), ureq::Error> {
    let tls = authorities.map_or_else(TlsConfig::default, trusting);
    read(agent(tls).post(url).header("authorization", authorization).send_form(form.iter().copied())?)
}

fn trusting(authorities: &str) -> TlsConfig {
    let system = openssl_probe::probe().cert_file.and_then(|file| fs::read(file).ok()).unwrap_or_default();
    let certificates =
        [authorities.as_bytes(), &system].into_iter().flat_map(parse_pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
    let certificates: Vec<_> = certificates.collect();
    TlsConfig::builder().root_certs(RootCerts::from(certificates)).build()
}

fn agent(tls: TlsConfig) -> ureq::Agent {
    ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent()
}

fn read(answer: ureq::http::Response<ureq::Body>) -> Result<(u16, String), ureq::Error> {
    let status = answer.status().as_u16();
    let mut text = String::new();
    answer.into_body().into_reader().take(ANSWER_BYTES).read_to_string(&mut text)?;
    Ok((status, text))
}

/// Percent-encoding as the signing rules want it: all but the unreserved characters.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}
