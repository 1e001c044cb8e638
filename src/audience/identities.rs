//! Under which names is a member told? Each is an Identify event of its own. Pure: a person's identifiers and an audience's options in.

use super::options::Options;
use crate::{
    config::{IdSync, Strategy},
    limits,
};

/// Type and value of each identifier of a person, oldest first.
pub type Identifiers = [(String, String)];

/// Under which name one Identify goes out: by default a profile has one, ID Sync may give it several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    pub user_id: Option<&'a str>,
    pub anonymous_id: Option<&'a str>,
    /// Other identifiers, told as traits.
    pub traits: Vec<(&'a str, &'a str)>,
}

impl Identity<'_> {
    /// A number that stands for it among those of one person, wherever and whenever they are told (FNV-1a, 64 bits).
    pub fn digest(&self) -> i64 {
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |tag: u8, part: &str| {
            // No part holds the byte 0xff, so no two lists of parts are the same bytes.
            for byte in [tag].into_iter().chain(part.bytes()).chain([0xff]) {
                digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        self.user_id.into_iter().for_each(|id| add(1, id));
        self.anonymous_id.into_iter().for_each(|id| add(2, id));
        for (name, value) in &self.traits {
            add(3, name);
            add(4, value);
        }
        digest.cast_signed()
    }
}

/// The identities under which a change of this person is told; exits follow the same choice as entries.
///
/// Without ID Sync: the latest user_id, else (where the audience includes anonymous users) the latest anonymous_id.
/// With it: one event for each chosen user_id and anonymous_id, times each chosen value of every other identifier,
/// which goes into the traits. When neither is chosen, the default one carries the event. The product is cut at
/// [`limits::IDENTIFIES_PER_CHANGE`].
pub fn identities<'a>(identifiers: &'a Identifiers, options: &'a Options) -> Vec<Identity<'a>> {
    let mut identities: Vec<Identity<'a>> = Vec::new();
    for sync in &options.id_sync {
        for value in chosen(identifiers, &sync.id, sync.strategy) {
            let also = sync.map_to.iter().map(|name| (name.as_str(), value)).collect();
            match sync.id.as_str() {
                "user_id" => identities.push(Identity { user_id: Some(value), traits: also, ..Identity::default() }),
                "anonymous_id" => {
                    identities.push(Identity { anonymous_id: Some(value), traits: also, ..Identity::default() })
                }
                _ => {}
            }
        }
    }
    if identities.is_empty() {
        let user_id = chosen(identifiers, "user_id", Strategy::Last).next();
        let anonymous = user_id.is_none() && (options.include_anonymous || !options.id_sync.is_empty());
        let anonymous_id = if anonymous { chosen(identifiers, "anonymous_id", Strategy::Last).next() } else { None };
        if user_id.is_some() || anonymous_id.is_some() || !options.id_sync.is_empty() {
            identities.push(Identity { user_id, anonymous_id, traits: Vec::new() });
        }
    }
    for sync in options.id_sync.iter().filter(|sync| !matches!(sync.id.as_str(), "user_id" | "anonymous_id")) {
        identities = times(identities, identifiers, sync);
    }
    identities.retain(|identity| {
        identity.user_id.is_some() || identity.anonymous_id.is_some() || !identity.traits.is_empty()
    });
    identities.truncate(limits::IDENTIFIES_PER_CHANGE);
    identities
}

/// Each identity with each chosen value of one more identifier; as it was where the person has none.
fn times<'a>(identities: Vec<Identity<'a>>, identifiers: &'a Identifiers, sync: &'a IdSync) -> Vec<Identity<'a>> {
    let values: Vec<&str> = chosen(identifiers, &sync.id, sync.strategy).collect();
    if values.is_empty() {
        return identities;
    }
    let name = sync.map_to.as_deref().unwrap_or(&sync.id);
    let with = |identity: &Identity<'a>, value| {
        let mut identity = identity.clone();
        identity.traits.push((name, value));
        identity
    };
    identities
        .iter()
        .flat_map(|identity| values.iter().map(|value| with(identity, *value)).collect::<Vec<_>>())
        .take(limits::IDENTIFIES_PER_CHANGE)
        .collect()
}

fn chosen<'a>(identifiers: &'a Identifiers, kind: &str, strategy: Strategy) -> impl Iterator<Item = &'a str> {
    let mut values: Vec<&str> =
        identifiers.iter().filter(|(k, _)| k == kind).map(|(_, value)| value.as_str()).collect();
    match strategy {
        Strategy::First => values.truncate(1),
        Strategy::Last => values = values.pop().into_iter().collect(),
        Strategy::All => {}
    }
    values.into_iter()
}
