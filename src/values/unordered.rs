//! How do values that come in any order get into that of profile ids? They wait, and many at a time are merged with those before. Pure.

use std::{collections::BTreeSet, mem::take};

use super::{Values, join, split};
use crate::Result;

/// Values of a whole trait under construction.
#[derive(Debug)]
pub(crate) struct Unordered {
    waiting: Vec<(u32, Option<String>)>,
    /// That they take, and may take.
    bytes: usize,
    room: usize,
    /// Those that do not wait any more, compressed: there may be many such traits.
    merged: Values,
}

impl Unordered {
    /// None yet; so many bytes of them may wait.
    pub(crate) fn within(room: usize) -> Unordered {
        Unordered { waiting: Vec::new(), bytes: 0, room, merged: Values::default() }
    }

    /// Adds the value of an id, instead of what it had. None: it has no value.
    ///
    /// # Errors
    /// Never for what was put here.
    pub(crate) fn put(&mut self, id: u32, value: Option<String>) -> Result<()> {
        self.bytes += size_of::<(u32, Option<String>)>() + value.as_ref().map_or(0, String::len);
        self.waiting.push((id, value));
        if self.bytes > self.room { self.merge() } else { Ok(()) }
    }

    /// All of them.
    ///
    /// # Errors
    /// Never for what was put here.
    pub(crate) fn finish(mut self) -> Result<Values> {
        self.merge()?;
        Ok(self.merged)
    }

    fn merge(&mut self) -> Result<()> {
        let (mut new, old) = (take(&mut self.waiting), take(&mut self.merged));
        self.bytes = 0;
        // Of one id the last one counts, and stays behind the others.
        new.sort_by_key(|(id, _)| *id);
        let chunks: BTreeSet<u16> = old.chunks().chain(new.iter().map(|(id, _)| split(*id).0)).collect();
        let mut new = new.iter().peekable();
        for chunk in chunks {
            let column = old.column(chunk)?;
            let mut old = column.iter().map(|(at, value)| (join(chunk, at), value)).peekable();
            while let Some((id, value)) = new.next_if(|(id, _)| split(*id).0 == chunk) {
                while let Some((before, value)) = old.next_if(|(before, _)| before < id) {
                    self.merged.push(before, value);
                }
                old.next_if(|(same, _)| same == id);
                let is_last = new.peek().is_none_or(|(next, _)| next != id);
                if let Some(value) = value.as_ref().filter(|_| is_last) {
                    self.merged.push(*id, value);
                }
            }
            old.for_each(|(id, value)| self.merged.push(id, value));
        }
        self.merged.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_value_of_each_counts_in_whatever_order_they_come(
            put in prop::collection::vec((0u32..200_000, prop::option::of("[a-z]{0,20}")), 0..300),
            again in prop::collection::vec((0usize..300, prop::option::of("[a-z]{0,20}")), 0..100),
            room in 0usize..20_000,
        ) {
            let again: Vec<_> =
                again.into_iter().filter_map(|(n, value)| Some((put.get(n)?.0, value))).collect();
            let (mut unordered, mut expected) = (Unordered::within(room), BTreeMap::new());
            for (id, value) in put.into_iter().chain(again) {
                unordered.put(id, value.clone()).unwrap();
                match value {
                    Some(value) => drop(expected.insert(id, value)),
                    None => drop(expected.remove(&id)),
                }
            }
            let values = unordered.finish().unwrap();
            let mut found = BTreeMap::new();
            for chunk in values.chunks() {
                let column = values.column(chunk).unwrap();
                found.extend(column.iter().map(|(at, value)| (join(chunk, at), value.to_owned())));
            }
            prop_assert_eq!(found, expected);
        }
    }
}
