//! Are the certificates usable? PEM in every form that people paste is read, checked and written as librdkafka wants it.
//!
//! What cannot work (no certificate, a wrong passphrase, a key of another certificate, an expired one) is told before a
//! connection is tried, by the OpenSSL that librdkafka itself uses.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    pkey::{PKey, Private},
    ssl::SslConnectorBuilder,
    x509::{X509, X509NameRef},
};
use secrecy::{ExposeSecret as _, SecretString};

use super::settings::{Pem, Tls};
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// How long before its end a certificate is warned about.
const WARNING_DAYS: i64 = 30;

/// The certificates and the key of a destination, read and checked.
pub struct Material {
    authorities: Vec<X509>,
    certificates: Vec<X509>,
    key: Option<PKey<Private>>,
}

/// Reads what the settings name.
pub fn read(tls: &Tls) -> Result<Material> {
    let authorities = tls.ca.as_ref().map_or(Ok(Vec::new()), |pem| certificates(pem, "ssl_ca"))?;
    let certificates = tls.certificate.as_ref().map_or(Ok(Vec::new()), |pem| certificates(pem, "ssl_cert"))?;
    let key = tls.key.as_ref().map(|pem| private_key(pem, tls.key_passphrase.as_ref())).transpose()?;
    if let (Some(certificate), Some(key)) = (certificates.first(), &key) {
        let theirs = certificate.public_key().map_err(|error| unreadable("ssl_cert").because(error))?;
        if !theirs.public_eq(key) {
            return Err(Error::settings("ssl_key is not the key of the first certificate in ssl_cert").help(
                "Give the key that the certificate was made for; in ssl_cert the client's own certificate comes first.",
            ));
        }
        if days_left(certificate, Clock::system().now()).is_some_and(|days| days < 0) {
            let until = certificate.not_after();
            return Err(Error::settings(format!("the client's certificate in ssl_cert expired on {until}"))
                .help("Renew it: no broker accepts it any more."));
        }
    }
    Ok(Material { authorities, certificates, key })
}

impl Material {
    /// The authorities, as PEM; `None` trusts the system's.
    pub fn authorities(&self) -> Option<String> {
        (!self.authorities.is_empty()).then(|| pem(&self.authorities))
    }

    /// The client's certificate with its chain, and its key in the clear, as PEM.
    pub fn identity(&self) -> Option<(String, SecretString)> {
        let key = self.key.as_ref()?.private_key_to_pem_pkcs8().ok()?;
        Some((pem(&self.certificates), String::from_utf8(key).ok()?.into()))
    }

    /// Makes a connection of OpenSSL's trust and show what librdkafka's do.
    pub fn trust(&self, connector: &mut SslConnectorBuilder) -> Result<(), ErrorStack> {
        for authority in &self.authorities {
            connector.cert_store_mut().add_cert(authority.clone())?;
        }
        if let (true, Some(file)) = (self.authorities.is_empty(), openssl_probe::probe().cert_file) {
            connector.set_ca_file(file)?;
        }
        if let (Some((own, chain)), Some(key)) = (self.certificates.split_first(), &self.key) {
            connector.set_certificate(own)?;
            connector.set_private_key(key)?;
            for certificate in chain {
                connector.add_extra_chain_cert(certificate.clone())?;
            }
        }
        Ok(())
    }

    /// What will stop working soon, or has, as sentences.
    pub fn warnings(&self, now: DateTime<Utc>) -> Vec<String> {
        let named = [("ssl_ca", &self.authorities), ("ssl_cert", &self.certificates)];
        let all =
            named.into_iter().flat_map(|(setting, list)| list.iter().map(move |certificate| (setting, certificate)));
        all.filter_map(|(setting, certificate)| {
            let days = days_left(certificate, now)?;
            let name = name(certificate.subject_name());
            match days {
                ..0 => Some(format!("the certificate '{name}' in {setting} expired {} days ago", -days)),
                0..WARNING_DAYS => Some(format!("the certificate '{name}' in {setting} expires in {days} days")),
                _ => None,
            }
        })
        .collect()
    }
}

/// Whole days until the certificate ends; negative after that.
pub fn days_left(certificate: &X509, now: DateTime<Utc>) -> Option<i64> {
    let now = Asn1Time::from_unix(now.timestamp()).ok()?;
    let left = now.diff(certificate.not_after()).ok()?;
    Some(if left.secs < 0 { i64::from(left.days) - 1 } else { i64::from(left.days) })
}

/// The common name, or whatever name there is.
pub fn name(name: &X509NameRef) -> String {
    let parts = name.entries().filter_map(|entry| Some(entry.data().to_string().ok()?.to_string()));
    parts.last().unwrap_or_else(|| "without a name".into())
}

fn certificates(pem: &Pem, setting: &str) -> Result<Vec<X509>> {
    let text = pem.read("CERTIFICATE")?;
    let bodies = bodies(text.expose_secret());
    let read = bodies.iter().map(|body| X509::from_der(&STANDARD.decode(body).ok()?).ok()).collect::<Option<Vec<_>>>();
    read.filter(|certificates| !certificates.is_empty()).ok_or_else(|| unreadable(setting))
}

fn unreadable(setting: &str) -> Error {
    Error::settings(format!("{setting} holds no certificate that can be read")).help(format!(
        "Give {setting} as PEM: the text between BEGIN CERTIFICATE and END CERTIFICATE, with or without these lines, or a file's path."
    ))
}

fn private_key(pem: &Pem, passphrase: Option<&SecretString>) -> Result<PKey<Private>> {
    let text = pem.read("PRIVATE KEY")?;
    let text = text.expose_secret();
    // Never without a passphrase, though it be empty: OpenSSL would ask for one on the terminal.
    let secret = passphrase.map_or(&b""[..], |passphrase| passphrase.expose_secret().as_bytes());
    let body = bodies(text).first().and_then(|body| STANDARD.decode(body).ok()).unwrap_or_default();
    let encrypted = || PKey::private_key_from_pkcs8_passphrase(&body, secret).ok();
    let key = PKey::private_key_from_pem_passphrase(text.as_bytes(), secret).ok();
    key.or_else(|| PKey::private_key_from_der(&body).ok()).or_else(encrypted).ok_or_else(|| {
        let error = Error::settings("ssl_key holds no private key that can be read");
        match passphrase {
            Some(_) => error.help("Check ssl_key_passphrase; it does not open this key."),
            None => error.help("Give ssl_key as PEM, and ssl_key_passphrase if the key is encrypted."),
        }
    })
}

/// The base64 bodies of a PEM text, whose first and last lines may be missing, as may the line breaks in between.
fn bodies(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split("-----").map(str::trim).collect();
    let is = |part: Option<&&str>, word| part.is_none_or(|part: &&str| part.starts_with(word));
    let body = |index: usize| {
        let begins = is(index.checked_sub(1).and_then(|before| parts.get(before)), "BEGIN");
        let ends = is(parts.get(index + 1), "END");
        let part = parts[index];
        (begins && ends && !part.is_empty()).then(|| part.split_whitespace().collect())
    };
    (0..parts.len()).filter_map(body).collect()
}

fn pem(certificates: &[X509]) -> String {
    let pems = certificates.iter().filter_map(|certificate| certificate.to_pem().ok());
    pems.map(|pem| String::from_utf8_lossy(&pem).into_owned()).collect()
}
