//! Which texts has each profile, and how often? Counted exactly, in whatever order they come.
//!
//! A pair of profile and text is a number. Pairs are set aside as they come and sorted now and then: that is several times
//! faster than to find the place of each in a hash map, and what comes out is in the order of profiles.

use std::sync::Arc;

use foldhash::HashMap;

use super::num::{push_decimal, push_units};
use crate::{
    audience::ast::{As, Reducer},
    evaluate::tally::Ids,
    js, limits,
    values::Values,
};

/// Texts by number: each is kept once.
#[derive(Default)]
pub(super) struct Symbols {
    bytes: usize,
    known: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Symbols {
    pub(super) fn of(&mut self, text: &str) -> u32 {
        if let Some(symbol) = self.known.get(text) {
            return *symbol;
        }
        let (text, symbol) = (Arc::<str>::from(text), self.texts.len() as u32);
        // The text with its counters, the entries of map and list.
        self.bytes += text.len() + 64;
        self.texts.push(text.clone());
        self.known.insert(text, symbol);
        symbol
    }

    pub(super) fn text(&self, symbol: u32) -> &str {
        &self.texts[symbol as usize]
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How often each profile has each text.
#[derive(Default)]
pub(super) struct Texts {
    /// Everybody who has an event.
    seen: Ids,
    symbols: Symbols,
    /// Pairs, ascending, with their times; and those that came since they were last counted.
    counted: Vec<Counted>,
    fresh: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    pair: u64,
    times: u32,
}

impl Counted {
    fn id(self) -> u32 {
        (self.pair >> 32) as u32
    }

    fn symbol(self) -> u32 {
        self.pair as u32
    }
}

/// Pairs that are counted together: at least so many, so that few are worth no sorting.
const FRESH: usize = 65_536;

impl Texts {
    /// Adds an event, of which [`Self::see`] then tells the texts.
    #[inline]
    pub(super) fn event(&mut self, id: u32) {
        self.seen.insert(id);
    }

    #[inline]
    pub(super) fn see(&mut self, id: u32, text: &str) {
        let symbol = self.symbols.of(text);
        self.fresh.push(u64::from(id) << 32 | u64::from(symbol));
        // As many as are counted already, so that each pair is moved a few times at most.
        if self.fresh.len() >= FRESH.max(self.counted.len()) {
            self.count();
        }
    }

    /// Counts what came; before anything is asked.
    pub(super) fn count(&mut self) {
        self.fresh.sort_unstable();
        let mut known = std::mem::take(&mut self.counted).into_iter().peekable();
        self.counted = Vec::with_capacity(known.len() + self.fresh.len());
        for same in self.fresh.chunk_by(|a, b| a == b) {
            let pair = same[0];
            while let Some(known) = known.next_if(|known| known.pair < pair) {
                self.counted.push(known);
            }
            let before = known.next_if(|known| known.pair == pair).map_or(0, |known| known.times);
            let times = before.saturating_add(u32::try_from(same.len()).unwrap_or(u32::MAX));
            self.counted.push(Counted { pair, times });
        }
        self.counted.extend(known);
        self.counted.shrink_to_fit();
        self.fresh.clear();
    }

    pub(super) fn bytes(&self) -> usize {
        let pairs = self.counted.capacity() * size_of::<Counted>() + self.fresh.capacity() * size_of::<u64>();
        self.seen.bytes() + pairs + self.symbols.bytes()
    }

    pub(super) fn cut(&mut self, end: u32) {
        self.count();
        self.seen.cut(end);
        self.counted.truncate(self.counted.partition_point(|counted| counted.id() < end));
        self.counted.shrink_to_fit();
        self.fresh.shrink_to_fit();
    }

    /// Hands on what a reducer makes of each profile, in the order of ids.
    pub(super) fn write(&self, reducer: &Reducer, values: &mut Values) {
        let mut groups = self.counted.chunk_by(|a, b| a.id() == b.id());
        match reducer {
            Reducer::Mode { kind, min_frequency, .. } => {
                for group in groups {
                    let often = group.iter().filter(|counted| counted.times >= *min_frequency);
                    // The most frequent, of equally frequent ones the first by bytes.
                    let Some(most) = often.min_by_key(|of| (u32::MAX - of.times, self.symbols.text(of.symbol())))
                    else {
                        continue;
                    };
                    let text = self.symbols.text(most.symbol());
                    values.write(most.id(), |out| match kind {
                        As::Number => push_word(out, text),
                        _ => js::push_string(out, text),
                    });
                }
            }
            Reducer::UniqueCount(_) => {
                let mut group = groups.next();
                for id in self.seen.to_bitmap() {
                    let count = match group.filter(|group| group[0].id() == id) {
                        Some(found) => {
                            group = groups.next();
                            found.len()
                        }
                        None => 0,
                    };
                    values.write(id, |out| push_units::<0>(out, count as i128));
                }
            }
            _ => {
                let mut texts = Vec::new();
                for group in groups {
                    texts.clear();
                    texts.extend(group.iter().map(|counted| self.symbols.text(counted.symbol())));
                    texts.sort_unstable();
                    values.write(group[0].id(), |out| push_list(out, &texts[..texts.len().min(limits::UNIQUE_ITEMS)]));
                }
            }
        }
    }
}

/// `as number`: a number where the text is one.
fn push_word(out: &mut String, text: &str) {
    match crate::audience::value::number_of(text) {
        Some(number) => push_decimal(out, &number),
        None => js::push_string(out, text),
    }
}

fn push_list(out: &mut String, items: &[&str]) {
    out.push('[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        js::push_string(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_are_counted_whatever_their_order_and_whenever(
            stretches in prop::collection::vec(prop::collection::vec((0u32..6, "[ab]{1,2}"), 0..30), 0..6),
            end in 0u32..7,
        ) {
            let (mut texts, mut expected) = (Texts::default(), BTreeMap::<(u32, String), u32>::new());
            for (id, text) in stretches.iter().flatten() {
                *expected.entry((*id, text.clone())).or_default() += 1;
            }
            for stretch in &stretches {
                stretch.iter().for_each(|(id, text)| texts.see(*id, text));
                texts.count();
            }
            texts.cut(end);
            expected.retain(|(id, _), _| *id < end);
            let counted = |of: &Counted| ((of.id(), texts.symbols.text(of.symbol()).to_owned()), of.times);
            prop_assert!(texts.counted.is_sorted_by_key(|of| of.pair));
            prop_assert_eq!(texts.counted.iter().map(counted).collect::<BTreeMap<_, _>>(), expected);
        }
    }
}
