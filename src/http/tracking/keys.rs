//! Whose is a request? By its write key: of Basic or Bearer, or in its body.

use std::{borrow::Cow, collections::HashMap};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use crate::config::Tracking;

/// The write keys of a configuration.
#[derive(Debug)]
pub struct Keys {
    /// Names of sources by the digests of their keys: how long a look-up takes tells nothing of a key.
    names: HashMap<[u8; 32], String>,
    pub is_strict: bool,
}

/// What the keys of a request are worth.
#[derive(Debug, PartialEq, Eq)]
pub enum Source<'a> {
    Named(&'a str),
    /// Nobody is asked for a key.
    Anybody,
    /// There is no key.
    Missing,
    Unknown,
}

impl Keys {
    pub fn of(config: &Tracking) -> Keys {
        let names = config.write_keys.iter().map(|key| (digest(key.key.expose()), key.name.clone()));
        Keys { names: names.collect(), is_strict: config.strict_write_keys }
    }

    /// Whose key is the first one that anybody has.
    pub fn source<'k>(&'k self, mut presented: impl Iterator<Item = String>) -> Source<'k> {
        if self.names.is_empty() {
            return Source::Anybody;
        }
        let mut none = Source::Missing;
        let found = presented.find_map(|key| {
            none = Source::Unknown;
            self.names.get(&digest(&key))
        });
        found.map_or(none, |name| Source::Named(name))
    }
}

/// The key in the header: the user of Basic, whose password is empty, or what Bearer bears.
pub fn in_header(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = match scheme.to_ascii_lowercase().as_str() {
        "basic" => {
            let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
            // Some send the key alone.
            text.split(':').next().map(str::to_owned)?
        }
        "bearer" => value.trim().to_owned(),
        _ => return None,
    };
    Some(key).filter(|key| !key.is_empty())
}

/// Whether a request signs in as Segment's libraries do, by a key as the user's name.
pub fn is_basic(headers: &HeaderMap) -> bool {
    let scheme =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split(|byte| *byte == b' ').next());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
}

/// The keys of a request, the header's first.
pub fn presented(headers: &HeaderMap, in_body: Option<Cow<'_, str>>) -> impl Iterator<Item = String> + use<> {
    let in_body = in_body.map(Cow::into_owned).filter(|key| !key.is_empty());
    in_header(headers).into_iter().chain(in_body)
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_key_is_found_wherever_the_libraries_put_it() {
        for value in ["Basic a2V5Og==", "basic a2V5", "Basic a2V5OnBhc3N3b3Jk", "Bearer key"] {
            assert_eq!(in_header(&header(value)).as_deref(), Some("key"), "{value}");
        }
        for value in ["Basic Og==", "Basic %%", "Basic", "Digest key", "Bearer "] {
            assert_eq!(in_header(&header(value)), None, "{value}");
        }
        let both: Vec<_> = presented(&header("Bearer token"), Some("key".into())).collect();
        assert_eq!(both, ["token", "key"], "a token of OAuth may stand beside the key");
    }
}
