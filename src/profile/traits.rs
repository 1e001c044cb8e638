//! Which value of a trait counts? The newest by the time of its message, in whatever order messages come. Pure.
//!
//! Of two values of one time the one that arrived later counts; where two profiles become one, that of the surviving one.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use super::json::{Members, write_member};

/// A profile's traits with their times, in microseconds since 1970. Values are JSON as written; `null` is a removed trait,
/// whose time still counts against older values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traits<'a>(BTreeMap<Cow<'a, str>, (Cow<'a, str>, i64)>);

/// Traits as the store keeps them.
#[derive(Debug, PartialEq)]
pub struct Columns {
    pub traits: String,
    /// The newest time; none without traits.
    pub at: Option<i64>,
    /// As a JSON object, the times that differ from it, and those of removed traits.
    pub times: Option<String>,
}

impl<'a> Traits<'a> {
    /// Reads what [`Traits::columns`] wrote. A trait without any time is older than all.
    pub fn stored(traits: &'a str, at: Option<i64>, times: Option<&'a str>) -> Traits<'a> {
        let mut all = BTreeMap::new();
        for (name, value) in members(traits) {
            all.insert(name, (Cow::Borrowed(value.get()), at.unwrap_or(i64::MIN)));
        }
        for (name, time) in times.map(members).unwrap_or_default() {
            let time = time.get().parse().unwrap_or(i64::MIN);
            all.entry(name).or_insert(("null".into(), time)).1 = time;
        }
        Traits(all)
    }

    /// Tells a value; false if a newer one is known, or the same.
    pub fn tell(&mut self, name: &'a str, value: &'a str, at: i64) -> bool {
        match self.0.get_mut(name) {
            Some((_, known)) if *known > at => false,
            Some(known) => {
                let changes = *known.0 != *value || known.1 != at;
                *known = (value.into(), at);
                changes
            }
            None => {
                self.0.insert(name.into(), (value.into(), at));
                true
            }
        }
    }

    /// Takes in the traits of a profile that becomes this one.
    pub fn absorb(&mut self, other: Traits<'a>) {
        for (name, (value, at)) in other.0 {
            match self.0.get(&name) {
                Some((_, known)) if *known >= at => {}
                _ => {
                    self.0.insert(name, (value, at));
                }
            }
        }
    }

    /// As the store keeps them.
    pub fn columns(&self) -> Columns {
        let (mut traits, mut times) = (String::from("{"), String::from("{"));
        let at = self.0.values().map(|(_, at)| *at).max();
        for (name, (value, time)) in &self.0 {
            let there = value != "null";
            if there {
                write_member(&mut traits, name, value);
            }
            if (!there || Some(*time) != at) && *time != i64::MIN {
                write_member(&mut times, name, &time.to_string());
            }
        }
        traits.push('}');
        times.push('}');
        Columns { traits, at: at.filter(|at| *at != i64::MIN), times: (times != "{}").then_some(times) }
    }
}

fn members(json: &str) -> Vec<(Cow<'_, str>, &RawValue)> {
    // Written by us, or by Postgres.
    serde_json::from_str::<Members>(json).map(|members| members.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told<'a>(values: &'a [(String, String, i64)]) -> Traits<'a> {
        let mut traits = Traits::default();
        for (name, value, at) in values {
            traits.tell(name, value, *at);
        }
        traits
    }

    fn values() -> impl Strategy<Value = Vec<(String, String, i64)>> {
        let value = prop_oneof![Just("1"), Just("\"x\""), Just("null"), Just("{\"a\": [1]}")];
        prop::collection::vec(("[a-d]", value.prop_map(str::to_owned), 0..9i64), 0..8)
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(values in values()) {
            let traits = told(&values);
            let columns = traits.columns();
            let read = Traits::stored(&columns.traits, columns.at, columns.times.as_deref());
            prop_assert_eq!(&read, &traits);
        }

        #[test]
        fn the_order_of_messages_does_not_matter(mut values in values()) {
            // Of one time two values would be told apart by their order alone.
            for (n, value) in values.iter_mut().enumerate() {
                value.2 = value.2 * 10 + n as i64;
            }
            let forwards = told(&values).columns();
            let reversed: Vec<_> = values.iter().rev().cloned().collect();
            prop_assert_eq!(&told(&reversed).columns(), &forwards);
            // Nor does it matter which profile a value was told of, once they are one.
            let (a, b) = values.split_at(values.len() / 2);
            let mut merged = told(b);
            merged.absorb(told(a));
            prop_assert_eq!(merged.columns(), forwards);
        }
    }
}
