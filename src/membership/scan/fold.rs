//! What does a reducer make of each profile's events? Added up in whatever order they come, exactly.
//!
//! Counts and sums stand in pages by id, what is made of texts in hash maps. Sums are kept in millionths, and what does not
//! fit there as decimals: never as binary fractions, so money does not drift.

use std::collections::{BTreeMap, HashMap, HashSet};

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use num::{Bests, Sums, push_decimal, push_units};

use super::{
    cell::{self, Cell},
    num,
};
use crate::{
    audience::ast::{As, EventValue, Path, Reducer},
    js, limits,
    membership::{
        tally::{Amount, Ids, Numbers},
        values::Values,
    },
};

/// One event of the scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'r> {
    pub id: u32,
    /// Microseconds since 2000.
    pub at: i64,
    pub message: &'r [u8],
    /// Its number, where Postgres reads it.
    pub amount: Option<&'r Amount>,
    /// What it holds at the part of the path that Postgres walks.
    pub json: Option<&'r [u8]>,
}

/// A reducer at work.
pub(super) struct Fold<'c> {
    reducer: &'c Reducer,
    /// What is left to walk of the path.
    rest: Path,
    /// Whether the value is the event's own instant.
    timestamp: bool,
    kept: Kept,
}

enum Kept {
    Count(Numbers<u32>),
    /// With everybody who has an event: a sum of nothing is 0.
    Sum(Ids, Sums),
    Avg(Numbers<u32>, Sums),
    Best(Bests),
    Text(HashMap<u32, u32>, Symbols),
    /// With the bytes of its texts.
    Edge(HashMap<u32, Edge>, usize),
    /// How often each profile has each text.
    Mode(HashMap<(u32, u32), u32>, Symbols),
    Unique(Ids, HashSet<(u32, u32)>, Symbols),
}

/// The first or last event so far that has a value.
struct Edge {
    at: i64,
    message: Vec<u8>,
    json: String,
}

impl Edge {
    fn text_bytes(&self) -> usize {
        self.message.capacity() + self.json.capacity()
    }
}

/// Texts by number: each is kept once.
#[derive(Default)]
struct Symbols {
    bytes: usize,
    known: HashMap<std::sync::Arc<str>, u32>,
    texts: Vec<std::sync::Arc<str>>,
}

impl Symbols {
    fn of(&mut self, text: &str) -> u32 {
        if let Some(symbol) = self.known.get(text) {
            return *symbol;
        }
        let (text, symbol) = (std::sync::Arc::<str>::from(text), self.texts.len() as u32);
        // The text with its counters, the entries of map and list.
        self.bytes += text.len() + 64;
        self.texts.push(text.clone());
        self.known.insert(text, symbol);
        symbol
    }

    fn text(&self, symbol: u32) -> &str {
        &self.texts[symbol as usize]
    }
}

impl<'c> Fold<'c> {
    pub(super) fn new(reducer: &'c Reducer) -> Fold<'c> {
        let rest = match reducer.value() {
            Some(EventValue::Property(path) | EventValue::Context(path)) => cell::halves(path).1,
            None => Path(Vec::new()),
        };
        let kept = match reducer {
            Reducer::Count => Kept::Count(Numbers::new()),
            Reducer::Sum(_) => Kept::Sum(Ids::default(), Sums::default()),
            Reducer::Avg(_) => Kept::Avg(Numbers::new(), Sums::default()),
            Reducer::Min(_, As::Number) => Kept::Best(Bests::new(false)),
            Reducer::Max(_, As::Number) => Kept::Best(Bests::new(true)),
            Reducer::Min(..) | Reducer::Max(..) => Kept::Text(HashMap::new(), Symbols::default()),
            Reducer::First(_) | Reducer::Last(_) => Kept::Edge(HashMap::new(), 0),
            Reducer::Mode { .. } => Kept::Mode(HashMap::new(), Symbols::default()),
            Reducer::Unique(_) | Reducer::UniqueCount(_) => {
                Kept::Unique(Ids::default(), HashSet::new(), Symbols::default())
            }
        };
        Fold { reducer, rest, timestamp: reducer.value().is_some_and(is_timestamp), kept }
    }

    /// Adds one event that the trait's filters let through.
    #[inline]
    pub(super) fn add(&mut self, event: Event<'_>) {
        let Fold { reducer, rest, timestamp, kept } = self;
        let id = event.id;
        let cells = |each: &mut dyn FnMut(Cell<'_>)| match event.json {
            _ if *timestamp => each(Cell::instant(instant(event.at))),
            Some(json) => cell::scalars(json, rest, each),
            None => {}
        };
        let amounts = |each: &mut dyn FnMut(&Amount)| match event.amount {
            Some(amount) => each(amount),
            None => cells(&mut |cell| {
                if let Some(number) = cell.number() {
                    each(&Amount::of(number));
                }
            }),
        };
        match kept {
            Kept::Count(counts) => counts.increment(id),
            Kept::Sum(seen, sums) => {
                seen.insert(id);
                amounts(&mut |amount| sums.add(id, amount));
            }
            Kept::Avg(counts, sums) => amounts(&mut |amount| {
                counts.increment(id);
                sums.add(id, amount);
            }),
            Kept::Best(bests) => amounts(&mut |amount| bests.add(id, amount)),
            Kept::Text(best, symbols) => cells(&mut |cell| {
                let symbol = symbols.of(&cell.text);
                let best = best.entry(id).or_insert(symbol);
                let max = matches!(reducer, Reducer::Max(..));
                if (symbols.text(symbol) > symbols.text(*best)) == max {
                    *best = symbol;
                }
            }),
            Kept::Edge(edges, bytes) => {
                let last = matches!(reducer, Reducer::Last(_));
                let place = (event.at, event.message);
                let stays = edges.get(&id).is_some_and(|edge| {
                    let known = (edge.at, &edge.message[..]);
                    if last { known > place } else { known < place }
                });
                if stays {
                    return;
                }
                let mut json: Option<String> = None;
                cells(&mut |cell| {
                    if json.is_none() || last {
                        let json = json.get_or_insert_default();
                        json.clear();
                        cell.json(json);
                    }
                });
                if let Some(json) = json {
                    let edge = Edge { at: event.at, message: event.message.to_vec(), json };
                    *bytes += edge.text_bytes();
                    if let Some(before) = edges.insert(id, edge) {
                        *bytes -= before.text_bytes();
                    }
                }
            }
            Kept::Mode(counts, symbols) => {
                let mut see = |text: &str| *counts.entry((id, symbols.of(text))).or_default() += 1;
                match reducer {
                    Reducer::Mode { kind: As::Array, .. } if !*timestamp => {
                        event.json.and_then(|json| cell::whole(json, rest)).iter().for_each(|text| see(text));
                    }
                    _ => cells(&mut |cell| see(&cell.text)),
                }
            }
            Kept::Unique(seen, texts, symbols) => {
                seen.insert(id);
                cells(&mut |cell| {
                    texts.insert((id, symbols.of(&cell.text)));
                });
            }
        }
    }

    /// The memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Count(counts) => counts.bytes(),
            Kept::Sum(seen, sums) => seen.bytes() + sums.bytes(),
            Kept::Avg(counts, sums) => counts.bytes() + sums.bytes(),
            Kept::Best(bests) => bests.bytes(),
            Kept::Text(best, symbols) => best.capacity() * 9 + symbols.bytes,
            Kept::Edge(edges, bytes) => edges.capacity() * (size_of::<Edge>() + 5) + bytes,
            Kept::Mode(counts, symbols) => counts.capacity() * 13 + symbols.bytes,
            Kept::Unique(seen, texts, symbols) => seen.bytes() + texts.capacity() * 9 + symbols.bytes,
        }
    }

    /// Forgets the profiles from `end` on, a multiple of 65,536.
    pub(super) fn cut(&mut self, end: u32) {
        match &mut self.kept {
            Kept::Count(counts) => counts.cut(end),
            Kept::Sum(seen, sums) => {
                seen.cut(end);
                sums.cut(end);
            }
            Kept::Avg(counts, sums) => {
                counts.cut(end);
                sums.cut(end);
            }
            Kept::Best(bests) => bests.cut(end),
            Kept::Text(best, _) => {
                best.retain(|id, _| *id < end);
                best.shrink_to_fit();
            }
            Kept::Edge(edges, bytes) => {
                edges.retain(|id, _| *id < end);
                edges.shrink_to_fit();
                *bytes = edges.values().map(Edge::text_bytes).sum();
            }
            Kept::Mode(counts, _) => {
                counts.retain(|(id, _), _| *id < end);
                counts.shrink_to_fit();
            }
            Kept::Unique(seen, texts, _) => {
                seen.cut(end);
                texts.retain(|(id, _)| *id < end);
                texts.shrink_to_fit();
            }
        }
    }

    /// Hands on everybody's value in the order of ids.
    pub(super) fn finish(self, values: &mut Values) {
        let mut text = String::new();
        let mut push = |id: u32, write: &mut dyn FnMut(&mut String)| {
            text.clear();
            write(&mut text);
            values.push(id, &text);
        };
        match self.kept {
            Kept::Count(counts) => {
                counts.iter().for_each(|(id, count)| push(id, &mut |out| push_units(out, count.into(), 0)));
            }
            Kept::Sum(seen, sums) => {
                for id in seen.into_bitmap() {
                    push(id, &mut |out| sums.push_sum(out, id));
                }
            }
            Kept::Avg(counts, sums) => {
                counts.iter().for_each(|(id, count)| push(id, &mut |out| sums.push_average(out, id, count)));
            }
            Kept::Best(bests) => bests.finish(&mut |id, best| push(id, &mut |out| best.push(out))),
            Kept::Text(best, symbols) => {
                for (id, symbol) in BTreeMap::from_iter(best) {
                    push(id, &mut |out| js::push_string(out, symbols.text(symbol)));
                }
            }
            Kept::Edge(edges, _) => {
                let mut edges: Vec<_> = edges.into_iter().map(|(id, edge)| (id, edge.json)).collect();
                edges.sort_unstable_by_key(|(id, _)| *id);
                edges.iter().for_each(|(id, json)| push(*id, &mut |out| out.push_str(json)));
            }
            Kept::Mode(counts, symbols) => {
                let Reducer::Mode { kind, min_frequency, .. } = self.reducer else { return };
                let mut counts: Vec<_> = counts.into_iter().filter(|(_, times)| times >= min_frequency).collect();
                // The most frequent first, of equally frequent ones the first by bytes.
                counts.sort_unstable_by_key(|((id, symbol), times)| (*id, u32::MAX - times, symbols.text(*symbol)));
                counts.dedup_by_key(|((id, _), _)| *id);
                for ((id, symbol), _) in counts {
                    let value = symbols.text(symbol);
                    push(id, &mut |out| match kind {
                        As::Number => push_word(out, value),
                        _ => js::push_string(out, value),
                    });
                }
            }
            Kept::Unique(seen, texts, symbols) => {
                let mut texts: Vec<_> = texts.into_iter().collect();
                texts.sort_unstable_by_key(|(id, symbol)| (*id, symbols.text(*symbol)));
                if let Reducer::UniqueCount(_) = self.reducer {
                    let mut groups =
                        texts.chunk_by(|a, b| a.0 == b.0).map(|group| (group[0].0, group.len())).peekable();
                    for id in seen.into_bitmap() {
                        let count = groups.next_if(|(of, _)| *of == id).map_or(0, |(_, count)| count);
                        push(id, &mut |out| push_units(out, count as i128, 0));
                    }
                    return;
                }
                for group in texts.chunk_by(|a, b| a.0 == b.0) {
                    push(group[0].0, &mut |out| {
                        let items = group.iter().take(limits::UNIQUE_ITEMS).map(|(_, symbol)| symbols.text(*symbol));
                        push_list(out, items);
                    });
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

fn push_list<'t>(out: &mut String, items: impl Iterator<Item = &'t str>) {
    out.push('[');
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.push(',');
        }
        js::push_string(out, item);
    }
    out.push(']');
}

/// Whether a reducer reads the event's own instant.
pub(super) fn is_timestamp(value: &EventValue) -> bool {
    matches!(value, EventValue::Context(path) if super::super::compile::is_timestamp(path))
}

fn instant(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.saturating_add(super::POSTGRES_EPOCH)).unwrap_or_default()
}

/// As [`Amount::of`], for what is read here.
impl Amount {
    fn of(number: BigDecimal) -> Amount {
        num::millionths(&number).map_or(Amount::Other(number), Amount::Millionths)
    }
}
