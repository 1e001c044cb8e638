//! Whose is each message? Pure: from what is known to who owns what, who is new, and which identifiers are attached.
//!
//! The rule, which merging will widen: a message belongs to the profile of its user_id; without one, to that of its
//! anonymous_id. Where both are given and only one is known, the other is attached to the same profile, so that what an
//! anonymous visitor did becomes the known user's. Two profiles that exist are left as they are. Every other identifier is
//! attached to the message's profile while nobody has it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::message::{Body, Message};

/// A profile that is stored, or the n-th one that this batch brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    Stored(i64),
    New(usize),
}

/// An identifier as (type, value).
pub type Key<'a> = (&'a str, &'a str);

/// What the store knows of the identifiers of a batch.
#[derive(Debug, Default)]
pub struct Known<'a> {
    pub owners: HashMap<Key<'a>, i64>,
    /// Of those owners, the ones that have a user_id: nobody else's user_id may be attached to them.
    pub with_user_id: HashSet<i64>,
}

/// What to store of a batch's identities.
#[derive(Debug, Default)]
pub struct Resolution<'a> {
    /// By message; None for an alias, which is nobody's yet.
    pub owners: Vec<Option<Owner>>,
    pub new_profiles: usize,
    pub attached: Vec<(Key<'a>, Owner, DateTime<Utc>)>,
}

/// The identifiers that a message may be found by or bring.
pub fn keys(message: &Message) -> impl Iterator<Item = Key<'_>> {
    let named = !matches!(message.body, Body::Alias { .. });
    let user_id = message.user_id.as_deref().map(|id| ("user_id", id));
    let anonymous_id = message.anonymous_id.as_deref().map(|id| ("anonymous_id", id));
    let others = message.other_ids.iter().map(|(kind, value)| (&**kind, &**value));
    user_id.into_iter().chain(anonymous_id).chain(others).filter(move |_| named)
}

/// Decides for all messages of a batch, in their order.
pub fn resolve<'a>(messages: &[&'a Message], known: &Known<'a>) -> Resolution<'a> {
    let mut state = State {
        owners: known.owners.iter().map(|(key, id)| (*key, Owner::Stored(*id))).collect(),
        with_user_id: known.with_user_id.iter().map(|id| Owner::Stored(*id)).collect(),
        found: Resolution::default(),
    };
    for message in messages {
        let owner = state.owner_of(message);
        state.found.owners.push(owner);
    }
    state.found
}

struct State<'a> {
    owners: HashMap<Key<'a>, Owner>,
    with_user_id: HashSet<Owner>,
    found: Resolution<'a>,
}

impl<'a> State<'a> {
    fn owner_of(&mut self, message: &'a Message) -> Option<Owner> {
        if matches!(message.body, Body::Alias { .. }) {
            return None;
        }
        let user_key = message.user_id.as_deref().map(|id| ("user_id", id));
        let anonymous = message.anonymous_id.as_deref().and_then(|id| self.owners.get(&("anonymous_id", id)).copied());
        let owner = match user_key {
            None => anonymous,
            Some(key) => {
                self.owners.get(&key).copied().or(anonymous.filter(|owner| !self.with_user_id.contains(owner)))
            }
        };
        let owner = owner.unwrap_or_else(|| {
            self.found.new_profiles += 1;
            Owner::New(self.found.new_profiles - 1)
        });
        if user_key.is_some() {
            self.with_user_id.insert(owner);
        }
        for key in keys(message) {
            if self.owners.contains_key(&key) {
                continue;
            }
            self.owners.insert(key, owner);
            self.found.attached.push((key, owner, message.occurred_at));
        }
        Some(owner)
    }
}
