//! What does a consumer have who adds the topic up, as one number? Order-free, so that whoever has the same has the same number. Pure.
//!
//! A term is the first 16 bytes of SHA-256 over person, name and value, a zero byte between them; the number is the sum of the terms
//! modulo 2¹²⁸. A sum sees what is there twice, which an exclusive or would not.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::BuildHasher as _,
};

use foldhash::fast::FixedState;
use sha2::{Digest as _, Sha256};

use super::event::Said;

/// What was said last of each person under each name, on one topic. About 50 bytes for each.
#[derive(Debug, Default)]
pub struct People {
    /// What is true now, by a hash of person and name.
    said: HashMap<u64, Last, FixedState>,
    /// Under which key of the topic it was said, for tombstones: by a hash of the key.
    under: HashMap<u64, Vec<u64>, FixedState>,
    /// Whether there may be tombstones at all.
    tombstones: bool,
    sum: u128,
    /// What the database says, beyond the sum of what was said.
    beyond: u128,
    /// Of whom the database says something.
    known: HashSet<u64, FixedState>,
}

/// The last word under one name.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Zero where nothing holds.
    term: u128,
    /// Where it was said; none if in several partitions, whose order nobody knows.
    partition: Option<i32>,
}

impl People {
    /// `tombstones`: whether records without a value may come, so that it must be known what was said under which key.
    pub fn new(tombstones: bool) -> People {
        People { tombstones, ..People::default() }
    }

    /// Takes in what a record says; the sum of its terms, whatever they say.
    pub fn take(&mut self, key: Option<&[u8]>, partition: i32, said: &Said<'_>) -> u128 {
        let Some(person) = said.user_id().or_else(|| said.anonymous_id()) else { return 0 };
        let mut sum = 0_u128;
        for (name, value) in named(said) {
            sum = sum.wrapping_add(self.one(key, partition, (&person, &name), value));
        }
        sum
    }

    fn one(&mut self, key: Option<&[u8]>, partition: i32, (person, name): (&str, &str), value: &str) -> u128 {
        let term = term(person, name, value);
        let slot = hash(&(person, name));
        let holds = if is_gone(value) { 0 } else { term };
        let last = self.said.entry(slot).or_insert(Last { term: 0, partition: Some(partition) });
        self.sum = self.sum.wrapping_sub(last.term).wrapping_add(holds);
        last.term = holds;
        last.partition = last.partition.filter(|before| *before == partition);
        if self.tombstones && holds != 0 {
            let under = self.under.entry(hash(&key)).or_default();
            if !under.contains(&slot) {
                under.push(slot);
            }
        }
        term
    }

    /// A record without a value takes away what was said under its key.
    pub fn bury(&mut self, key: Option<&[u8]>) {
        for slot in self.under.remove(&hash(&key)).unwrap_or_default() {
            if let Some(last) = self.said.get_mut(&slot) {
                self.sum = self.sum.wrapping_sub(last.term);
                last.term = 0;
            }
        }
    }

    /// Whether what was said last is what this record of the database's says. The number is from then on as if it were.
    pub fn should(&mut self, says: &Said<'_>) -> bool {
        let Some(person) = says.user_id().or_else(|| says.anonymous_id()) else { return true };
        let mut agrees = true;
        for (name, value) in named(says) {
            let slot = hash(&(&*person, &*name));
            let wanted = if is_gone(value) { 0 } else { term(&person, &name, value) };
            let last = self.said.get(&slot).copied().unwrap_or(Last { term: 0, partition: Some(0) });
            // Two profiles may go by the same name, one of them as a visitor: whoever is in comes first.
            let is_known = !self.known.insert(slot);
            if last.partition.is_some() && last.term != wanted && !(wanted == 0 && is_known) {
                self.beyond = self.beyond.wrapping_sub(last.term).wrapping_add(wanted);
                agrees = false;
            }
        }
        agrees
    }

    /// The number, as 32 hexadecimal digits.
    pub fn digest(&self) -> String {
        format!("{:032x}", self.sum.wrapping_add(self.beyond))
    }
}

/// What an event says, by name: of several values each has its own.
fn named<'s>(said: &Said<'s>) -> Vec<(String, &'s str)> {
    let Some(name) = said.key() else { return Vec::new() };
    match said.value(&name) {
        Some(value) => vec![(name.into_owned(), value)],
        None => said.members(),
    }
}

/// Whether a value says that nothing holds any more.
fn is_gone(value: &str) -> bool {
    matches!(value, "false" | "null")
}

fn hash(of: &impl std::hash::Hash) -> u64 {
    FixedState::default().hash_one(of)
}

/// The term of one person, name and value.
pub fn term(person: &str, name: &str, value: &str) -> u128 {
    let mut hash = Sha256::new();
    hash.update(person);
    hash.update([0]);
    hash.update(name);
    hash.update([0]);
    hash.update(plain(value).as_bytes());
    u128::from_be_bytes(hash.finalize()[..16].try_into().unwrap_or_default())
}

/// JSON text in which numbers with a fraction or an exponent stand in quotes, so that every language writes it alike.
fn plain(json: &str) -> Cow<'_, str> {
    if !json.contains(['.', 'e', 'E']) || matches!(json, "true" | "false") {
        return json.into();
    }
    let (mut out, mut rest) = (String::with_capacity(json.len() + 8), json);
    while let Some(first) = rest.chars().next() {
        let is_number = matches!(first, '-' | '0'..='9');
        let length = match first {
            '"' => string(rest),
            _ if is_number => {
                rest.find(|c| !matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-')).unwrap_or(rest.len())
            }
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let quote = if is_number && token.contains(['.', 'e', 'E']) { "\"" } else { "" };
        out.push_str(quote);
        out.push_str(token);
        out.push_str(quote);
        rest = after;
    }
    out.into()
}

/// The length of the JSON string that a text begins with.
fn string(text: &str) -> usize {
    let mut escaped = true;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at + 1,
            b'\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_fraction_stand_in_quotes() {
        assert_eq!(plain("12"), "12");
        assert_eq!(plain("-1.50"), "\"-1.50\"");
        assert_eq!(plain("\"a.b\\\".c\""), "\"a.b\\\".c\"");
        assert_eq!(plain("[1,2.5,{\"e\":1e-7,\"x\":false}]"), "[1,\"2.5\",{\"e\":\"1e-7\",\"x\":false}]");
    }

    fn event(person: &str, value: &str) -> String {
        format!(
            r#"{{"userId":"{person}","context":{{"personas":{{"computation_key":"vip"}}}},"traits":{{"vip":{value}}}}}"#
        )
    }

    #[test]
    fn the_number_is_that_of_what_holds_whatever_the_way_there() {
        let fold = |records: &[(&str, Option<&str>)]| {
            let mut people = People::new(true);
            for (person, value) in records {
                match value {
                    Some(value) => {
                        people.take(Some(person.as_bytes()), 0, &Said::read(event(person, value).as_bytes()).unwrap());
                    }
                    None => people.bury(Some(person.as_bytes())),
                }
            }
            people.digest()
        };
        let both = fold(&[("a", Some("true")), ("b", Some("true"))]);
        assert_eq!(both, fold(&[("b", Some("true")), ("a", Some("false")), ("b", Some("true")), ("a", Some("true"))]));
        assert_eq!(fold(&[]), fold(&[("a", Some("true")), ("a", Some("false")), ("b", Some("1")), ("b", None)]));
        assert_ne!(both, fold(&[("a", Some("true")), ("b", Some("1"))]));
    }
}
