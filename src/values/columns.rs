//! How do several values of a person make one? As an object of them by key, of which a run tells what changed. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::value::RawValue;

use super::{Values, join};
use crate::{Result, js};

/// Joins the values of each column into one object a person. Columns come in the order of their keys.
pub(crate) fn assemble(columns: Vec<(String, Values)>) -> Result<Values> {
    let chunks: BTreeSet<u16> = columns.iter().flat_map(|(_, values)| values.chunks()).collect();
    let mut all = Values::default();
    all.columns = columns.iter().map(|(key, _)| key.clone()).collect();
    for chunk in chunks {
        let mut objects: BTreeMap<u16, String> = BTreeMap::new();
        for (key, values) in &columns {
            for (at, value) in values.column(chunk)?.iter() {
                member(objects.entry(at).or_default(), key, value);
            }
        }
        for (at, mut object) in objects {
            object.push('}');
            all.push(join(chunk, at), &object);
        }
    }
    all.close();
    Ok(all)
}

/// What holds of a person for whom `old` held and `found` was found: columns that are gone are kept where values are additive,
/// and become 0 where that is what nothing adds up to.
pub(super) fn now<'v>(
    old: Option<&'v str>,
    found: Option<&'v str>,
    zeros: &BTreeSet<String>,
    additive: bool,
) -> Option<Cow<'v, str>> {
    let Some(before) = old.filter(|_| additive || !zeros.is_empty()) else { return found.map(Cow::Borrowed) };
    let (before, mut members) = (read(before), found.map(read).unwrap_or_default());
    for (key, value) in before {
        if additive {
            members.entry(key).or_insert(value);
        } else if zeros.contains(&key) {
            members.entry(key).or_insert("0");
        }
    }
    (!members.is_empty()).then(|| Cow::Owned(write(&members)))
}

/// What is told of a person for whom `old` held and `now` holds: the columns that differ, null where one is gone.
pub(super) fn patch(old: Option<&str>, now: Option<&str>) -> String {
    let (old, mut told) = (old.map(read).unwrap_or_default(), now.map(read).unwrap_or_default());
    told.retain(|key, value| old.get(key) != Some(value));
    let now = now.map(read).unwrap_or_default();
    old.into_keys().filter(|key| !now.contains_key(key)).for_each(|key| {
        told.insert(key, "null");
    });
    write(&told)
}

/// All values of a person, and null for those of these columns that he has no value of.
pub(super) fn whole(now: Option<&str>, columns: &[String]) -> String {
    let mut members = now.map(read).unwrap_or_default();
    for column in columns {
        members.entry(column.clone()).or_insert("null");
    }
    write(&members)
}

/// The members of an object that was written here, each with its JSON text.
pub fn read(object: &str) -> BTreeMap<String, &str> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(object).unwrap_or_default();
    members.into_iter().map(|(key, value)| (key, value.get())).collect()
}

fn write(members: &BTreeMap<String, &str>) -> String {
    let mut object = String::new();
    members.iter().for_each(|(key, value)| member(&mut object, key, value));
    if object.is_empty() {
        object.push('{');
    }
    object.push('}');
    object
}

/// Adds a member to an object that is not closed yet.
pub(crate) fn member(object: &mut String, key: &str, value: &str) {
    object.push(if object.is_empty() { '{' } else { ',' });
    js::push_string(object, key);
    object.push(':');
    object.push_str(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_and_what_is_gone_is_null() {
        let (old, new) = (Some(r#"{"a":1,"b":"x","c":[1]}"#), Some(r#"{"a":2,"c":[1],"d":true}"#));
        assert_eq!(patch(old, new), r#"{"a":2,"b":null,"d":true}"#);
        assert_eq!(patch(None, new), new.unwrap());
        assert_eq!(patch(old, None), r#"{"a":null,"b":null,"c":null}"#);
        assert_eq!(whole(new, &["a".into(), "b".into()]), r#"{"a":2,"b":null,"c":[1],"d":true}"#);
    }

    #[test]
    fn columns_that_are_gone_are_kept_or_become_zero_or_go() {
        let (old, new) = (Some(r#"{"a":1,"b":"x"}"#), Some(r#"{"c":2}"#));
        let zeros = BTreeSet::from(["a".to_owned()]);
        let held = |found, zeros: &BTreeSet<String>, additive| now(old, found, zeros, additive).map(Cow::into_owned);
        assert_eq!(held(new, &BTreeSet::new(), false).unwrap(), r#"{"c":2}"#);
        assert_eq!(held(new, &zeros, false).unwrap(), r#"{"a":0,"c":2}"#);
        assert_eq!(held(new, &zeros, true).unwrap(), r#"{"a":1,"b":"x","c":2}"#);
        assert_eq!(held(None, &zeros, false).unwrap(), r#"{"a":0}"#);
        assert_eq!(held(None, &BTreeSet::new(), false), None);
    }

    #[test]
    fn columns_are_joined_by_person() {
        let values = |pairs: &[(u32, &str)]| {
            let mut values = Values::default();
            pairs.iter().for_each(|(id, value)| values.push(*id, value));
            values.close();
            values
        };
        let all = assemble(vec![
            ("a".into(), values(&[(1, "1"), (70_000, "2")])),
            ("b".into(), values(&[(1, "\"x\""), (2, "3.5")])),
        ])
        .unwrap();
        let first: Vec<_> = all.column(0).unwrap().iter().map(|(id, value)| (id, value.to_owned())).collect();
        assert_eq!(first, [(1, r#"{"a":1,"b":"x"}"#.to_owned()), (2, r#"{"b":3.5}"#.to_owned())]);
        assert_eq!(all.column(1).unwrap().get(4_464), Some(r#"{"a":2}"#));
        assert_eq!(all.columns, ["a", "b"]);
    }
}
