//! How does MSK know us? A token that Amazon's signing rules make out of the access key, and keys lent by a role.
//!
//! The token is a presigned URL (`kafka-cluster:Connect`), sent as SASL/OAUTHBEARER, as Amazon's own clients do.
//! Signing is the forty lines of [`presign`]: Amazon's own crate for it brings 53 others. Tests compare the whole with what
//! Amazon's Python client makes at a fixed time.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::token::{self, Token, encode};
use crate::error::{Error, Result};

/// How long a token is good: what Amazon's clients ask for.
const TOKEN_SECONDS: u64 = 900;
/// How long a role's keys are good: the default of the role itself.
const ROLE_SECONDS: u64 = 3600;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

/// Keys that sign. Those that a role lends have a session's token beside them.
#[derive(Clone)]
pub struct Keys {
    id: String,
    secret: SecretString,
    session: Option<SecretString>,
}

/// The token that MSK takes for `keys` in `region`, signed at `now`.
pub fn msk_token(region: &str, keys: &Keys, now: SystemTime) -> Result<Token> {
    let url = format!("https://kafka.{region}.{}/?Action=kafka-cluster%3AConnect", domain(region));
    let signed = presign(&url, "kafka-cluster", region, keys, now, TOKEN_SECONDS)?;
    let text = URL_SAFE_NO_PAD.encode(format!("{signed}&User-Agent={}", encode(AGENT)));
    Ok(Token { text: text.into(), principal: keys.id.clone(), expires: now + Duration::from_secs(TOKEN_SECONDS) })
}

/// Keys for an hour, lent by the role (`AssumeRole`). `endpoint` replaces Amazon's own.
pub fn assume_role(role: &str, region: &str, endpoint: Option<&str>, keys: &Keys, now: SystemTime) -> Result<Keys> {
    let own = format!("https://sts.{region}.{}", domain(region));
    let endpoint = endpoint.unwrap_or(&own).trim_end_matches('/');
    let url = format!(
        "{endpoint}/?Action=AssumeRole&DurationSeconds={ROLE_SECONDS}&RoleArn={}&RoleSessionName=rollcall&Version=2011-06-15",
        encode(role)
    );
    let signed = presign(&url, "sts", region, keys, now, 60)?;
    let (status, body) = token::get(&signed)
        .map_err(|error| Error::wait(format!("{endpoint} cannot be asked for the role {role}")).because(error))?;
    let text = |tag| between(&body, tag);
    match (text("AccessKeyId"), text("SecretAccessKey"), text("SessionToken")) {
        (Some(id), Some(secret), Some(session)) if status == 200 => {
            Ok(Keys { id: id.to_owned(), secret: secret.into(), session: Some(session.into()) })
        }
        _ => Err(Error::settings(format!(
            "the role {role} is not lent: {} {}",
            text("Code").unwrap_or("no reason given"),
            text("Message").unwrap_or_default()
        ))
        .help(
            "The key of accessKeyId needs the permission sts:AssumeRole on the role of authorizationIdentity, and the \
             role's trust policy must name that key's user.",
        )),
    }
}

/// `url` with what proves who asks, good for `seconds` from `now`: Signature Version 4 in the query, of the host alone. The
/// values in `url` are percent-encoded already, as the rules want it.
fn presign(url: &str, service: &str, region: &str, keys: &Keys, now: SystemTime, seconds: u64) -> Result<String> {
    let (address, query) = url.split_once('?').ok_or_else(|| Error::internal("a URL to sign has no query"))?;
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let now = DateTime::<Utc>::from(now);
    let (day, instant) = (now.format("%Y%m%d").to_string(), now.format("%Y%m%dT%H%M%SZ").to_string());
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let mut added = vec![
        ("X-Amz-Algorithm", ALGORITHM.to_owned()),
        ("X-Amz-Credential", format!("{}/{scope}", keys.id)),
        ("X-Amz-Date", instant.clone()),
        ("X-Amz-Expires", seconds.to_string()),
        ("X-Amz-SignedHeaders", "host".to_owned()),
    ];
    added.extend(keys.session.iter().map(|session| ("X-Amz-Security-Token", session.expose_secret().to_owned())));
    let query = added.iter().fold(query.to_owned(), |query, (name, value)| format!("{query}&{name}={}", encode(value)));
    let mut sorted: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    sorted.sort_unstable();
    let sorted: Vec<String> = sorted.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = format!("GET\n{path}\n{}\nhost:{host}\n\nhost\n{}", sorted.join("&"), hex(&Sha256::digest([])));
    let to_sign = format!("{ALGORITHM}\n{instant}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let first = format!("AWS4{}", keys.secret.expose_secret());
    let key = [day.as_str(), region, service, "aws4_request"]
        .iter()
        .try_fold(first.into_bytes(), |key, part| keyed_hash(&key, part))?;
    Ok(format!("{address}?{query}&X-Amz-Signature={}", hex(&keyed_hash(&key, &to_sign)?)))
}

fn keyed_hash(key: &[u8], text: &str) -> Result<Vec<u8>> {
    let hash = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Error::internal("no key of that length"))?;
    Ok(hash.chain_update(text).finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Keys as they are in the settings.
pub fn keys(id: &str, secret: &SecretString) -> Keys {
    Keys { id: id.to_owned(), secret: secret.clone(), session: None }
}

fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// What stands in the one element of this name; Amazon's answer has each once, without attributes.
fn between<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Made by aws-msk-iam-sasl-signer-python 1.0.2 with its clock held at 2026-03-14T15:09:26Z.
    #[test]
    fn the_token_is_the_one_that_amazons_own_client_makes() {
        let now = UNIX_EPOCH + Duration::from_secs(1_773_500_966);
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let long_lived = Keys { id: "AKIDEXAMPLE".into(), secret: secret.into(), session: None };
        let session = Some("tok/en+with=odd chars".into());
        let lent = Keys { id: "ASIAEXAMPLE".into(), secret: secret.into(), session };
        let cases = [
            (
                "eu-west-1",
                long_lived,
                "https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=AKIDEXAMPLE%2F20260314%2Feu-west-1%2Fkafka-cluster%2Faws4_request\
                 &X-Amz-Date=20260314T150926Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
                 &X-Amz-Signature=8031373e9a1b8e6a1f8e8a3cccf6614ead217fbaf99ae11e6e8232c28bb1c0f6",
            ),
            (
                "us-east-1",
                lent,
                "https://kafka.us-east-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=ASIAEXAMPLE%2F20260314%2Fus-east-1%2Fkafka-cluster%2Faws4_request\
                 &X-Amz-Date=20260314T150926Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
                 &X-Amz-Security-Token=tok%2Fen%2Bwith%3Dodd%20chars\
                 &X-Amz-Signature=58b503b372268f8e9f912a75493266d5d6bcf4078f06aedef84fecf3fed0b105",
            ),
        ];
        for (region, keys, expected) in cases {
            let token = msk_token(region, &keys, now).expect("signed");
            let url =
                String::from_utf8(URL_SAFE_NO_PAD.decode(token.text.expose_secret()).expect("base64")).expect("text");
            let (url, agent) = url.split_once("&User-Agent=").expect("told who asks");
            assert!(agent.starts_with("rollcall%2F"), "{agent}");
            let parts = |url: &str| {
                let mut parts: Vec<String> = url.split(['?', '&']).map(str::to_owned).collect();
                parts.sort();
                parts
            };
            assert_eq!(parts(url), parts(expected));
            assert_eq!(token.expires.duration_since(UNIX_EPOCH).expect("later").as_millis(), 1_773_501_866_000);
        }
    }
}
