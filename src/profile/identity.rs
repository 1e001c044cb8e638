//! Whose is each message? Pure: from what is known to who owns what, who is new, and which profiles are one.
//!
//! ```text
//!  a message's identifiers ──► known as no profile's ──► a new profile
//!                              one's ──────────────────► that one, and the others are attached to it
//!                              several's ──────────────► these are one person: merged into the first created
//! ```
//!
//! Where a profile would thereby have more identifiers than the rules allow, the weakest identifier of the message is left
//! out, and it is looked again. So two people with a `user_id` each stay two, whatever device they share.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use chrono::{DateTime, Utc};

use super::{
    message::{Body, Message},
    rules::Rules,
};
use crate::limits;

/// A profile that is stored, or the n-th one that this batch brings. In the order of creation.
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
    /// Of the profiles that [`may_change`] names: what they hold.
    pub holdings: HashMap<i64, Holding>,
}

/// The identifiers of one profile, as far as limits ask.
#[derive(Debug, Clone, Default)]
pub struct Holding {
    /// Type and when it was added.
    pub identifiers: Vec<(String, DateTime<Utc>)>,
    /// Profiles that it took in.
    pub merges: i32,
}

/// Two profiles that turn out to be one person.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The place in the batch of the message that showed it.
    pub message: usize,
    pub from: Owner,
    /// The one created first.
    pub into: Owner,
    pub by_alias: bool,
    pub from_types: Vec<String>,
    pub into_types: Vec<String>,
}

/// What to store of a batch's identities. Owners are as of their message; [`Resolution::root`] says who they are in the end.
#[derive(Debug, Default)]
pub struct Resolution<'a> {
    /// By message.
    pub owners: Vec<Owner>,
    pub new_profiles: usize,
    pub attached: Vec<(Key<'a>, Owner, DateTime<Utc>)>,
    pub merges: Vec<Merge>,
    into: HashMap<Owner, Owner>,
    took_in: HashMap<Owner, i32>,
}

impl Resolution<'_> {
    /// Whether anything about identities is to be written.
    pub fn changes(&self) -> bool {
        self.new_profiles > 0 || !self.attached.is_empty() || !self.merges.is_empty()
    }

    /// The profile that an owner is after all merges of the batch.
    pub fn root(&self, owner: Owner) -> Owner {
        root(&self.into, owner)
    }

    /// How many profiles it has taken in, ever; only of those that took one in now.
    pub fn merges_of(&self, owner: Owner) -> Option<i32> {
        self.took_in.get(&owner).copied()
    }
}

fn root(into: &HashMap<Owner, Owner>, mut owner: Owner) -> Owner {
    while let Some(next) = into.get(&owner) {
        owner = *next;
    }
    owner
}

/// The identifiers that a message may be found by or bring. An alias names an earlier id: whose it is, a device's or a
/// user's, is known only by who has it, so it is both here.
pub fn keys(message: &Message) -> impl Iterator<Item = Key<'_>> {
    own_keys(message).chain(previous(message).into_iter().flat_map(|id| [("anonymous_id", id), ("user_id", id)]))
}

fn own_keys(message: &Message) -> impl Iterator<Item = Key<'_>> {
    let user_id = message.user_id.as_deref().map(|id| ("user_id", id));
    let anonymous_id = message.anonymous_id.as_deref().map(|id| ("anonymous_id", id));
    let others = message.other_ids.iter().map(|(kind, value)| (&**kind, &**value));
    user_id.into_iter().chain(anonymous_id).chain(others)
}

fn previous(message: &Message) -> Option<&str> {
    match &message.body {
        Body::Alias { previous_id, .. } => Some(previous_id),
        _ => None,
    }
}

/// The stored profiles that a batch may attach something to or merge: only theirs need to be looked at closely.
pub fn may_change<'a>(messages: &[&'a Message], owners: &HashMap<Key<'a>, i64>) -> HashSet<i64> {
    let mut changing = HashSet::new();
    for message in messages {
        let mut keys = keys(message).map(|key| owners.get(&key));
        let Some(first) = keys.next() else { continue };
        if keys.any(|owner| owner != first) {
            changing.extend(self::keys(message).filter_map(|key| owners.get(&key)));
        }
    }
    changing
}

/// Decides for all messages of a batch, in their order.
pub fn resolve<'a>(messages: &[&'a Message], known: Known<'a>, rules: &Rules) -> Resolution<'a> {
    let mut state = State {
        rules,
        owners: known.owners.into_iter().map(|(key, id)| (key, Owner::Stored(id))).collect(),
        holdings: known.holdings.into_iter().map(|(id, holding)| (Owner::Stored(id), holding)).collect(),
        found: Resolution::default(),
    };
    for (place, message) in messages.iter().enumerate() {
        let owner = state.owner_of(place, message);
        state.found.owners.push(owner);
    }
    state.found
}

struct State<'a, 'r> {
    rules: &'r Rules,
    owners: HashMap<Key<'a>, Owner>,
    holdings: HashMap<Owner, Holding>,
    found: Resolution<'a>,
}

impl<'a> State<'a, '_> {
    fn owner(&self, key: &Key<'a>) -> Option<Owner> {
        self.owners.get(key).map(|owner| self.found.root(*owner))
    }

    fn owner_of(&mut self, place: usize, message: &'a Message) -> Owner {
        let mut keys = self.keys(message);
        let mut found = self.owners_of(&keys);
        let mut ranked = false;
        while !self.fits(&found, &keys, message.occurred_at) {
            if !ranked {
                keys.sort_by(|a, b| self.rules.rank(a.0).cmp(&self.rules.rank(b.0)));
                ranked = true;
            }
            // One alone always fits: it is somebody's already, or the first of a new profile.
            keys.pop();
            found = self.owners_of(&keys);
        }
        let owner = match found.iter().min() {
            Some(first) => *first,
            None => {
                self.found.new_profiles += 1;
                Owner::New(self.found.new_profiles - 1)
            }
        };
        for from in found.into_iter().filter(|from| *from != owner) {
            self.merge(place, from, owner, matches!(message.body, Body::Alias { .. }));
        }
        for key in keys {
            if let Entry::Vacant(nobody) = self.owners.entry(key) {
                nobody.insert(owner);
                let holding = self.holdings.entry(owner).or_default();
                holding.identifiers.push((key.0.to_owned(), message.occurred_at));
                self.found.attached.push((key, owner, message.occurred_at));
            }
        }
        owner
    }

    /// The message's identifiers, each once. An alias's earlier id is a device's unless a user alone has it.
    fn keys(&self, message: &'a Message) -> Vec<Key<'a>> {
        let mut all: Vec<Key> = Vec::with_capacity(4);
        if let Some(id) = previous(message) {
            let keys = [("anonymous_id", id), ("user_id", id)];
            all.extend(keys.into_iter().filter(|key| self.owners.contains_key(key)));
            if all.is_empty() {
                all.push(keys[0]);
            }
        }
        // Before the earlier one: of two of a type the last gives way.
        let own: Vec<Key> = own_keys(message).collect();
        all.splice(0..0, own);
        let mut seen = HashSet::with_capacity(all.len());
        all.retain(|key| seen.insert(*key));
        all
    }

    fn owners_of(&self, keys: &[Key<'a>]) -> Vec<Owner> {
        let mut owners: Vec<Owner> = Vec::new();
        for owner in keys.iter().filter_map(|key| self.owner(key)) {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        owners
    }

    /// Whether these profiles, become one and given what is new among the keys, keep to the limits.
    fn fits(&self, owners: &[Owner], keys: &[Key<'a>], at: DateTime<Utc>) -> bool {
        let new: Vec<&str> = keys.iter().filter(|key| !self.owners.contains_key(*key)).map(|key| key.0).collect();
        if owners.len() < 2 && new.is_empty() {
            return true;
        }
        let holdings = || owners.iter().filter_map(|owner| self.holdings.get(owner));
        let merges: i32 = holdings().map(|holding| holding.merges).sum::<i32>() + owners.len().max(1) as i32 - 1;
        let count = holdings().map(|holding| holding.identifiers.len()).sum::<usize>() + new.len();
        if count > limits::IDENTIFIERS_PER_PROFILE || owners.len() > 1 && merges > limits::MERGES_PER_PROFILE {
            return false;
        }
        let held = || holdings().flat_map(|holding| &holding.identifiers);
        let mut kinds = new.clone();
        if owners.len() > 1 {
            kinds.extend(held().map(|(kind, _)| kind.as_str()));
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().all(|kind| {
            let (limit, after) = self.rules.limit(kind, at);
            let counts =
                |(held, added): &&(String, DateTime<Utc>)| held == kind && after.is_none_or(|after| *added > after);
            held().filter(counts).count() + new.iter().filter(|new| **new == kind).count() <= limit
        })
    }

    fn merge(&mut self, place: usize, from: Owner, into: Owner, by_alias: bool) {
        let mut holding = self.holdings.remove(&from).unwrap_or_default();
        let survivor = self.holdings.entry(into).or_default();
        let (from_types, into_types) = (types(&holding), types(survivor));
        survivor.identifiers.append(&mut holding.identifiers);
        survivor.merges += holding.merges + 1;
        self.found.took_in.remove(&from);
        self.found.took_in.insert(into, survivor.merges);
        self.found.into.insert(from, into);
        self.found.merges.push(Merge { message: place, from, into, by_alias, from_types, into_types });
    }
}

fn types(holding: &Holding) -> Vec<String> {
    let mut types: Vec<String> = holding.identifiers.iter().map(|(kind, _)| kind.clone()).collect();
    types.sort_unstable();
    types.dedup();
    types
}
