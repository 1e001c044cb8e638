//! Certificates and keys in every form that people paste.

use rollcall::kafka::{
    settings::{Pem, Tls},
    tls,
};

use crate::support::certificates::{Pair, Subject};

#[test]
fn certificates_are_read_in_every_form_that_people_paste_and_wrong_ones_are_named() {
    let authority = Pair::authority("Forms");
    let (pair, other) = (authority.issue(&Subject::default()), authority.issue(&Subject::default()));
    let bare = |pem: &str| pem.lines().filter(|line| !line.starts_with("-----")).collect::<Vec<_>>().join(" ");
    let chain = pair.certificate() + &authority.certificate();
    let inner =
        chain.trim().trim_start_matches("-----BEGIN CERTIFICATE-----").trim_end_matches("-----END CERTIFICATE-----");
    let read = |certificate: &str, key: &str, passphrase: Option<&str>| {
        let pem = |text: &str| Some(Pem::Text(text.into()));
        let key_passphrase = passphrase.map(Into::into);
        let tls =
            Tls { ca: None, certificate: pem(certificate), key: pem(key), key_passphrase, reject_unauthorized: true };
        tls::read(&tls).map(|material| material.identity().expect("an identity").0.matches("BEGIN").count())
    };
    let encrypted = pair.encrypted_key("open sesame");
    assert_eq!(read(&pair.certificate(), &pair.key(), None).expect("whole"), 1);
    assert_eq!(read(&bare(&pair.certificate()), &bare(&pair.key()), None).expect("bare"), 1);
    assert_eq!(read(inner, &pair.key(), None).expect("a chain without its ends"), 2);
    assert_eq!(read(&chain, &bare(&encrypted), Some("open sesame")).expect("encrypted and bare"), 2);
    for (certificate, key, passphrase, told) in [
        (&pair.certificate(), &other.key(), None, "is not the key of the first certificate"),
        (&pair.certificate(), &encrypted, Some("wrong"), "no private key that can be read"),
        (&pair.certificate(), &encrypted, None, "no private key that can be read"),
        (&"nonsense".to_owned(), &pair.key(), None, "ssl_cert holds no certificate"),
    ] {
        let error = read(certificate, key, passphrase).expect_err(told);
        assert!(error.message.contains(told), "{error:?}");
    }
    let soon = authority.issue(&Subject { valid_days: (-1, 12), ..Subject::default() });
    let tls = Tls { ca: Some(Pem::Text(soon.certificate().into())), ..Tls::default() };
    let warnings = tls::read(&tls).expect("readable").warnings(chrono::Utc::now());
    assert!(warnings.len() == 1 && warnings[0].contains("'broker' in ssl_ca expires in 1"), "{warnings:?}");
}
