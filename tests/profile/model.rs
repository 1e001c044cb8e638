//! Identity resolution as one would write it down without caring for speed or for anybody else: one message at a time, in
//! memory. What the store is held against.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// How many values of a type a person may have, in how many days.
pub type Limits = BTreeMap<&'static str, (usize, Option<i64>)>;

#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Track,
    Identify(BTreeMap<String, Value>),
    Group(String),
    Alias(String),
}

#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub at: DateTime<Utc>,
    pub user: Option<String>,
    pub anonymous: Option<String>,
    pub crm: Option<String>,
    pub call: Call,
}

impl Message {
    pub fn to_json(&self) -> Value {
        let mut json = json!({"messageId": self.id, "timestamp": self.at.to_rfc3339(), "userId": self.user, "anonymousId": self.anonymous});
        if let Some(crm) = &self.crm {
            json["context"] =
                json!({"externalIds": [{"id": crm, "type": "crm_id", "collection": "users", "encoding": "none"}]});
        }
        let more = match &self.call {
            Call::Track => json!({"type": "track", "event": "E"}),
            Call::Identify(traits) => json!({"type": "identify", "traits": traits}),
            Call::Group(id) => json!({"type": "group", "groupId": id}),
            Call::Alias(previous) => json!({"type": "alias", "previousId": previous}),
        };
        json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json
    }
}

/// What is known of one person; comparable with what the store says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Person {
    pub ids: BTreeMap<(String, String), DateTime<Utc>>,
    pub traits: BTreeMap<String, Value>,
    pub events: BTreeSet<String>,
    pub groups: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub struct Model {
    /// In the order of creation; those that were merged away are gone.
    pub people: Vec<(Person, BTreeMap<String, DateTime<Utc>>)>,
}

impl Model {
    pub fn take(&mut self, message: &Message, limits: &Limits) {
        let mut ids: Vec<(String, String)> = Vec::new();
        let id = |kind: &str, value: &str| (kind.to_owned(), value.to_owned());
        ids.extend(message.user.iter().map(|value| id("user_id", value)));
        ids.extend(message.anonymous.iter().map(|value| id("anonymous_id", value)));
        ids.extend(message.crm.iter().map(|value| id("crm_id", value)));
        if let Call::Alias(previous) = &message.call {
            let known = |id: &(String, String)| self.people.iter().any(|(person, _)| person.ids.contains_key(id));
            let (device, user) = (id("anonymous_id", previous), id("user_id", previous));
            match (known(&device), known(&user)) {
                (true, true) => ids.extend([device, user]),
                (false, true) => ids.push(user),
                _ => ids.push(device),
            }
        }
        let mut once = BTreeSet::new();
        ids.retain(|id| once.insert(id.clone()));
        let rank = |kind: &str| match kind {
            "user_id" => (1, ""),
            "anonymous_id" => (9, "anonymous_id"),
            _ => (9, "crm_id"),
        };
        let (at, owner) = loop {
            let owners: Vec<usize> = (0..self.people.len())
                .filter(|n| ids.iter().any(|id| self.people[*n].0.ids.contains_key(id)))
                .collect();
            let mut all: BTreeMap<(String, String), DateTime<Utc>> = BTreeMap::new();
            owners.iter().for_each(|n| all.extend(self.people[*n].0.ids.clone()));
            let before = all.len();
            for id in &ids {
                all.entry(id.clone()).or_insert(message.at);
            }
            let nothing_new = owners.len() == 1 && all.len() == before;
            // Only types that gain a value can break their limit: all of them where people are merged.
            let gains = |kind: &str| {
                owners.len() > 1
                    || ids.iter().any(|id| id.0 == kind && !self.people.iter().any(|(p, _)| p.ids.contains_key(id)))
            };
            let fits = limits.iter().filter(|(kind, _)| gains(kind)).all(|(kind, (limit, days))| {
                let after = days.map(|days| message.at - TimeDelta::days(days));
                all.iter()
                    .filter(|((of, value), added)| {
                        let new = ids.contains(&(of.clone(), value.clone()))
                            && !self.people.iter().any(|(p, _)| p.ids.contains_key(&(of.clone(), value.clone())));
                        of == kind && (new || after.is_none_or(|after| **added > after))
                    })
                    .count()
                    <= *limit
            });
            if nothing_new || fits {
                let first = match owners.first() {
                    Some(first) => *first,
                    None => {
                        self.people.push(Default::default());
                        self.people.len() - 1
                    }
                };
                for other in owners.iter().skip(1).rev() {
                    let (person, times) = self.people.remove(*other);
                    self.absorb(first, person, times);
                }
                self.people[first].0.ids = all;
                if owners.is_empty() {
                    self.people[first].0.ids = ids.iter().map(|id| (id.clone(), message.at)).collect();
                }
                break (message.at, first);
            }
            ids.sort_by(|a, b| rank(&a.0).cmp(&rank(&b.0)));
            ids.pop();
        };
        let (person, times) = &mut self.people[owner];
        match &message.call {
            Call::Track => {
                person.events.insert(message.id.clone());
            }
            Call::Group(group) => {
                person.groups.insert(group.clone());
            }
            Call::Identify(traits) => {
                for (name, value) in traits {
                    if times.get(name).is_none_or(|known| *known <= at) {
                        times.insert(name.clone(), at);
                        person.traits.insert(name.clone(), value.clone());
                    }
                }
            }
            Call::Alias(_) => {}
        }
    }

    fn absorb(&mut self, into: usize, other: Person, times: BTreeMap<String, DateTime<Utc>>) {
        let (person, own) = &mut self.people[into];
        for (name, value) in other.traits {
            if own.get(&name).is_none_or(|known| *known < times[&name]) {
                own.insert(name.clone(), times[&name]);
                person.traits.insert(name, value);
            }
        }
        person.events.extend(other.events);
        person.groups.extend(other.groups);
    }

    /// Without removed traits, in an order that does not depend on who came first.
    pub fn into_people(self) -> Vec<Person> {
        let mut people: Vec<Person> = self.people.into_iter().map(|(person, _)| person).collect();
        people.iter_mut().for_each(|person| person.traits.retain(|_, value| !value.is_null()));
        people.sort_by(|a, b| a.ids.keys().cmp(b.ids.keys()));
        people
    }
}
