//! What does the first or the last event of each profile hold? By instant, then by message.
//!
//! Places stand in pages by id, their texts one after the other: nothing is allocated for a profile.

use std::cmp::Ordering;

use super::{cell::Cell, event::Event};
use crate::{evaluate::tally::Numbers, values::Values};

/// The first or else the last of each.
pub(super) struct Edges {
    last: bool,
    /// How one that stays compares to an event that comes.
    stays: Ordering,
    places: Numbers<Place>,
    texts: Vec<u8>,
    /// Bytes there that are nobody's any more.
    left: usize,
    scratch: String,
}

/// Of a profile: when, and where its message and then its JSON stand. JSON is never empty, so nobody's is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    at: i64,
    start: usize,
    message: u32,
    json: u32,
}

impl Place {
    fn length(self) -> usize {
        self.message as usize + self.json as usize
    }
}

/// Bytes left behind that are worth no tidying.
const LEFT_BYTES: usize = 1 << 20;

impl Edges {
    pub(super) fn new(last: bool) -> Edges {
        let stays = if last { Ordering::Greater } else { Ordering::Less };
        Edges { last, stays, places: Numbers::new(), texts: Vec::new(), left: 0, scratch: String::new() }
    }

    /// Adds an event, if it is one of the edges so far, with the values that `cells` hands on.
    #[inline]
    pub(super) fn add<'r>(&mut self, event: Event<'r>, cells: impl FnOnce(&mut dyn FnMut(Cell<'r>))) {
        let known = *self.places.at(event.id);
        if known.json > 0 {
            let order = (known.at, self.message(known)).cmp(&(event.at, event.message));
            if order == self.stays {
                return;
            }
        }
        let mut chosen: Option<Cell<'r>> = None;
        cells(&mut |cell| {
            if chosen.is_none() || self.last {
                chosen = Some(cell);
            }
        });
        if let Some(cell) = chosen {
            self.set(event, &cell, known);
        }
    }

    /// Something of a profile's place; see `Tally::add_all`.
    #[inline]
    pub(super) fn touch(&self, id: u32) -> u32 {
        self.places.get(id).json
    }

    fn set(&mut self, event: Event<'_>, cell: &Cell<'_>, known: Place) {
        self.scratch.clear();
        cell.json(&mut self.scratch);
        let (message, json) = (event.message.len(), self.scratch.len());
        let mut place = Place { at: event.at, start: known.start, message: message as u32, json: json as u32 };
        if place.length() > known.length() {
            place.start = self.texts.len();
            self.texts.extend_from_slice(event.message);
            self.texts.extend_from_slice(self.scratch.as_bytes());
            self.left += known.length();
        } else {
            let (start, end) = (place.start, place.start + place.length());
            self.texts[start..start + message].copy_from_slice(event.message);
            self.texts[start + message..end].copy_from_slice(self.scratch.as_bytes());
            self.left += known.length() - place.length();
        }
        *self.places.at(event.id) = place;
        if self.left > LEFT_BYTES.max(self.texts.len() / 2) {
            self.tidy();
        }
    }

    fn message(&self, place: Place) -> &[u8] {
        &self.texts[place.start..place.start + place.message as usize]
    }

    /// Leaves out what is nobody's any more.
    fn tidy(&mut self) {
        let mut texts = Vec::new();
        self.places.each(|place| {
            let start = texts.len();
            texts.extend_from_slice(&self.texts[place.start..place.start + place.length()]);
            place.start = start;
        });
        (self.texts, self.left) = (texts, 0);
    }

    pub(super) fn bytes(&self) -> usize {
        self.places.bytes() + self.texts.capacity()
    }

    pub(super) fn cut(&mut self, end: u32) {
        self.places.cut(end);
        self.tidy();
    }

    /// Hands on each profile's value, in the order of ids.
    pub(super) fn write(&self, values: &mut Values) {
        for (id, place) in self.places.iter() {
            let json = &self.texts[place.start + place.message as usize..place.start + place.length()];
            // It was written from a text.
            values.write(id, |out| out.push_str(std::str::from_utf8(json).unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::audience::ast::Path;

    proptest! {
        #[test]
        fn the_edge_is_the_least_or_the_greatest_by_instant_and_message(
            events in prop::collection::vec((0u32..3, 0i64..4, "[a-z]{0,3}", "[a-z]{0,9}"), 0..60),
            last: bool,
            tidied: usize,
        ) {
            let (mut edges, mut expected) = (Edges::new(last), BTreeMap::<u32, (i64, &str, String)>::new());
            for (n, (id, at, message, text)) in events.iter().enumerate() {
                let json = [&b"\x01\""[..], text.as_bytes(), b"\""].concat();
                let event = Event { id: *id, at: *at, message: message.as_bytes(), amount: None, json: Some(&json) };
                edges.add(event, |each| crate::evaluate::scan::cell::scalars(&json, &Path(Vec::new()), each));
                let candidate = (*at, message.as_str(), format!("\"{text}\""));
                let place = |of: &(i64, &str, String)| (of.0, of.1.to_owned());
                let better = |known| if last { place(known) > place(&candidate) } else { place(known) < place(&candidate) };
                if !expected.get(id).is_some_and(better) {
                    expected.insert(*id, candidate);
                }
                if n == tidied % events.len() {
                    edges.tidy();
                    prop_assert_eq!(edges.texts.len(), edges.places.iter().map(|(_, place)| place.length()).sum::<usize>());
                }
            }
            let mut values = Values::default();
            edges.write(&mut values);
            values.close();
            let found: Vec<_> = values.column(0).unwrap().iter().map(|(id, value)| (u32::from(id), value.to_owned())).collect();
            prop_assert_eq!(found, expected.into_iter().map(|(id, (.., json))| (id, json)).collect::<Vec<_>>());
        }
    }
}
