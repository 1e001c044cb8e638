//! Certificates for tests: an authority made on the spot, and what it (or nobody) signs.

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    symm::Cipher,
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

const DAY_SECONDS: i64 = 86_400;

/// A certificate and its key.
pub struct Pair {
    certificate: X509,
    key: PKey<Private>,
}

/// What a certificate says.
pub struct Subject<'a> {
    pub name: &'a str,
    /// The host for which it is good.
    pub host: &'a str,
    /// From when to when it is good, in days from now.
    pub valid_days: (i64, i64),
}

impl Default for Subject<'_> {
    fn default() -> Self {
        Subject { name: "broker", host: "127.0.0.1", valid_days: (-1, 365) }
    }
}

impl Pair {
    /// An authority of its own.
    pub fn authority(name: &str) -> Pair {
        Pair::make(&Subject { name, ..Subject::default() }, None, true)
    }
    /// A certificate that nobody but its owner signed.
    pub fn self_signed(subject: &Subject) -> Pair {
        Pair::make(subject, None, false)
    }
    /// A certificate signed by this authority.
    pub fn issue(&self, subject: &Subject) -> Pair {
        Pair::make(subject, Some(self), false)
    }
    pub fn certificate(&self) -> String {
        String::from_utf8(self.certificate.to_pem().expect("PEM")).expect("text")
    }
    /// As PKCS #8, the only form that the broker reads.
    pub fn key(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().expect("PEM")).expect("text")
    }
    pub fn encrypted_key(&self, passphrase: &str) -> String {
        let cipher = Cipher::aes_256_cbc();
        let pem = self.key.private_key_to_pem_pkcs8_passphrase(cipher, passphrase.as_bytes()).expect("PEM");
        String::from_utf8(pem).expect("text")
    }

    fn make(subject: &Subject, issuer: Option<&Pair>, authority: bool) -> Pair {
        let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a known curve");
        let key = PKey::from_ec_key(EcKey::generate(&curve).expect("a key")).expect("a key");
        let mut name = X509NameBuilder::new().expect("a name");
        name.append_entry_by_text("CN", subject.name).expect("a name");
        let name = name.build();
        let mut serial = BigNum::new().expect("a number");
        serial.rand(127, openssl::bn::MsbOption::MAYBE_ZERO, false).expect("a number");
        let days = |days: i64| Asn1Time::from_unix(now_seconds() + days * DAY_SECONDS).expect("a time");

        let mut builder = X509::builder().expect("a builder");
        builder.set_version(2).expect("version 3");
        builder.set_serial_number(&serial.to_asn1_integer().expect("a number")).expect("a number");
        builder.set_subject_name(&name).expect("a name");
        builder.set_issuer_name(issuer.map_or(&*name, |pair| pair.certificate.subject_name())).expect("a name");
        builder.set_not_before(&days(subject.valid_days.0)).expect("a time");
        builder.set_not_after(&days(subject.valid_days.1)).expect("a time");
        builder.set_pubkey(&key).expect("a key");
        if authority {
            builder.append_extension(BasicConstraints::new().critical().ca().build().expect("valid")).expect("valid");
        } else {
            let mut names = SubjectAlternativeName::new();
            match subject.host.parse::<std::net::IpAddr>() {
                Ok(_) => names.ip(subject.host),
                Err(_) => names.dns(subject.host),
            };
            let names = names.build(&builder.x509v3_context(None, None)).expect("valid");
            builder.append_extension(names).expect("valid");
        }
        builder.sign(issuer.map_or(&key, |pair| &pair.key), MessageDigest::sha256()).expect("signed");
        Pair { certificate: builder.build(), key }
    }
}

fn now_seconds() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64
}
