//! How does MSK know us? A token that Amazon's signing rules make out of the access key, and keys lent by a role.
//!
//! The token is a presigned URL (`kafka-cluster:Connect`), sent as SASL/OAUTHBEARER, as Amazon's own clients do.
//! The signature comes from Amazon's crate; tests compare the whole with Amazon's Python client at a fixed time.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret as _, SecretString};

use super::token::{self, Token};
use crate::error::{Error, Result};

/// How long a token is good: what Amazon's clients ask for.
const TOKEN_SECONDS: u64 = 900;
/// How long a role's keys are good: the default of the role itself.
const ROLE_SECONDS: u64 = 3600;
const AGENT: &str = concat!("rollcall/", env!("CARGO_PKG_VERSION"));

/// The region that a broker of MSK names: `b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com`, also serverless.
pub fn region_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let (rest, region) = name.rsplit_once('.')?;
    let service = rest.rsplit('.').next()?;
    matches!(service, "kafka" | "kafka-serverless").then_some(region)
}

/// The token that MSK takes for `keys` in `region`, signed at `now`.
pub fn msk_token(region: &str, keys: &Credentials, now: SystemTime) -> Result<Token> {
    let url = format!("https://kafka.{region}.{}/?Action=kafka-cluster%3AConnect", domain(region));
    let signed = presign(&url, "kafka-cluster", region, keys, now, TOKEN_SECONDS)?;
    let text = URL_SAFE_NO_PAD.encode(format!("{signed}&User-Agent={}", encode(AGENT)));
    Ok(Token {
        text: text.into(),
        principal: keys.access_key_id().to_owned(),
        expires: now + Duration::from_secs(TOKEN_SECONDS),
    })
}

/// Keys for an hour, lent by the role (`AssumeRole`). `endpoint` replaces Amazon's own.
pub fn assume_role(
    role: &str,
    region: &str,
    endpoint: Option<&str>,
    keys: &Credentials,
    now: SystemTime,
) -> Result<Credentials> {
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
            let until = now + Duration::from_secs(ROLE_SECONDS);
            Ok(Credentials::new(id, secret, Some(session.to_owned()), Some(until), "AssumeRole"))
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

/// `url` with what proves who asks, good for `seconds` from `now`.
fn presign(
    url: &str,
    service: &str,
    region: &str,
    keys: &Credentials,
    now: SystemTime,
    seconds: u64,
) -> Result<String> {
    let unsigned = |error: &dyn std::fmt::Display| Error::settings(format!("the AWS settings cannot sign: {error}"));
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(seconds));
    let identity = keys.clone().into();
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| unsigned(&error))?
        .into();
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| unsigned(&error))?;
    let (signed, _) = sign(request, &params).map_err(|error| unsigned(&error))?.into_parts();
    Ok(signed.params().iter().fold(url.to_owned(), |url, (name, value)| format!("{url}&{name}={}", encode(value))))
}

/// Keys as they are in the settings.
pub fn keys(id: &str, secret: &SecretString) -> Credentials {
    Credentials::new(id, secret.expose_secret(), None, None, "settings")
}

fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// What stands in the one element of this name; Amazon's answer has each once, without attributes.
fn between<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Made by aws-msk-iam-sasl-signer-python 1.0.2 with its clock held at 2026-03-14T15:09:26Z.
    #[test]
    fn the_token_is_the_one_that_amazons_own_client_makes() {
        let now = UNIX_EPOCH + Duration::from_secs(1_773_500_966);
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let long_lived = Credentials::new("AKIDEXAMPLE", secret, None, None, "test");
        let session = Some("tok/en+with=odd chars".to_owned());
        let lent = Credentials::new("ASIAEXAMPLE", secret, session, None, "test");
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

    #[test]
    fn the_region_is_read_from_the_brokers_name() {
        assert_eq!(region_of("b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com"), Some("eu-west-1"));
        assert_eq!(region_of("boot-x1.c1.kafka-serverless.us-east-1.amazonaws.com"), Some("us-east-1"));
        assert_eq!(region_of("b-1.orders.abc123.c2.kafka.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(region_of("kafka.example.com"), None);
        assert_eq!(region_of("s3.eu-west-1.amazonaws.com"), None);
    }
}
