//! What does a reducer make of each profile's events? Added up in whatever order they come, exactly.
//!
//! Counts and sums stand in pages by id, what is made of texts in hash maps. Sums are kept in millionths, and what does not
//! fit there as decimals: never as binary fractions, so money does not drift. Reducers that look at the same thing share
//! what is kept: to find a profile's place costs more than to add there.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashMapExt as _};
use num::{Figures, Sums, push_decimal, push_units};

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

/// Reducers at work, of the same events and the same value.
pub(super) struct Fold<'c> {
    /// What they look at; none as long as they only count.
    value: Option<&'c EventValue>,
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
    Figures(Figures),
    /// The greatest or else the least of each.
    Text(HashMap<u32, u32>, Symbols, bool),
    /// The last or else the first of each, with the bytes of its texts.
    Edge(HashMap<u32, Edge>, usize, bool),
    /// How often each profile has each text; and everybody who has an event. Of arrays, all entries may be one text.
    Texts {
        seen: Ids,
        counts: HashMap<(u32, u32), u32>,
        symbols: Symbols,
        whole: bool,
    },
}

/// The first or last event so far that has a value.
#[derive(Default)]
struct Edge {
    at: i64,
    message: Vec<u8>,
    json: String,
}

impl Edge {
    /// In the memory that it has.
    fn set(&mut self, event: Event<'_>, cell: &Cell<'_>) {
        self.at = event.at;
        self.message.clear();
        self.message.extend_from_slice(event.message);
        self.json.clear();
        cell.json(&mut self.json);
    }

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
        let kept = match reducer {
            Reducer::Count => Kept::Count(Numbers::new()),
            Reducer::Sum(_) => Kept::Sum(Ids::default(), Sums::default()),
            Reducer::Avg(_) | Reducer::Min(_, As::Number) | Reducer::Max(_, As::Number) => {
                Kept::Figures(Figures::default())
            }
            Reducer::Min(..) => Kept::Text(HashMap::new(), Symbols::default(), false),
            Reducer::Max(..) => Kept::Text(HashMap::new(), Symbols::default(), true),
            Reducer::First(_) => Kept::Edge(HashMap::new(), 0, false),
            Reducer::Last(_) => Kept::Edge(HashMap::new(), 0, true),
            Reducer::Mode { .. } | Reducer::Unique(_) | Reducer::UniqueCount(_) => Kept::Texts {
                seen: Ids::default(),
                counts: HashMap::new(),
                symbols: Symbols::default(),
                whole: is_whole(reducer),
            },
        };
        let mut fold = Fold { value: None, rest: Path(Vec::new()), timestamp: false, kept };
        fold.look_at(reducer.value());
        fold
    }

    fn look_at(&mut self, value: Option<&'c EventValue>) {
        self.value = value;
        self.timestamp = value.is_some_and(is_timestamp);
        if let Some(EventValue::Property(path) | EventValue::Context(path)) = value {
            self.rest = cell::halves(path).1;
        }
    }

    /// Takes another reducer in, before the first event, if what is kept is enough for it or can be made so.
    pub(super) fn takes(&mut self, reducer: &'c Reducer) -> bool {
        let same = self.value.is_none() || reducer.value().is_none() || self.value == reducer.value();
        let takes = match (&self.kept, reducer) {
            (Kept::Count(_), Reducer::Count) => return true,
            (Kept::Count(_) | Kept::Sum(..) | Kept::Figures(_), reducer) => {
                same && (*reducer == Reducer::Count || reducer.is_numeric())
            }
            (Kept::Texts { whole, .. }, Reducer::Mode { .. } | Reducer::Unique(_) | Reducer::UniqueCount(_)) => {
                return self.value == reducer.value() && *whole == is_whole(reducer);
            }
            _ => false,
        };
        if takes {
            self.kept = Kept::Figures(Figures::default());
            if reducer.value().is_some() {
                self.look_at(reducer.value());
            }
        }
        takes
    }

    /// Adds one event that the trait's filters let through.
    #[inline]
    pub(super) fn add<'r>(&mut self, event: Event<'r>) {
        let Fold { rest, timestamp, kept, .. } = self;
        let id = event.id;
        let cells = |each: &mut dyn FnMut(Cell<'r>)| match event.json {
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
            Kept::Figures(figures) => figures.add(id, amounts),
            Kept::Text(best, symbols, max) => cells(&mut |cell| {
                let symbol = symbols.of(&cell.text);
                let best = best.entry(id).or_insert(symbol);
                if (symbols.text(symbol) > symbols.text(*best)) == *max {
                    *best = symbol;
                }
            }),
            Kept::Edge(edges, bytes, last) => {
                let place = (event.at, event.message);
                let stays = edges.get(&id).is_some_and(|edge| {
                    let known = (edge.at, &edge.message[..]);
                    if *last { known > place } else { known < place }
                });
                if stays {
                    return;
                }
                let mut chosen: Option<Cell<'r>> = None;
                cells(&mut |cell| {
                    if chosen.is_none() || *last {
                        chosen = Some(cell);
                    }
                });
                if let Some(cell) = chosen {
                    let edge = edges.entry(id).or_default();
                    *bytes -= edge.text_bytes();
                    edge.set(event, &cell);
                    *bytes += edge.text_bytes();
                }
            }
            Kept::Texts { seen, counts, symbols, whole } => {
                seen.insert(id);
                let mut see = |text: &str| {
                    let times = counts.entry((id, symbols.of(text))).or_default();
                    *times = times.saturating_add(1);
                };
                match whole {
                    true => event.json.and_then(|json| cell::whole(json, rest)).iter().for_each(|text| see(text)),
                    false => cells(&mut |cell| see(&cell.text)),
                }
            }
        }
    }

    /// The memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Count(counts) => counts.bytes(),
            Kept::Sum(seen, sums) => seen.bytes() + sums.bytes(),
            Kept::Figures(figures) => figures.bytes(),
            Kept::Text(best, symbols, _) => best.capacity() * 9 + symbols.bytes,
            Kept::Edge(edges, bytes, _) => edges.capacity() * (size_of::<Edge>() + 5) + bytes,
            Kept::Texts { seen, counts, symbols, .. } => seen.bytes() + counts.capacity() * 13 + symbols.bytes,
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
            Kept::Figures(figures) => figures.cut(end),
            Kept::Text(best, ..) => {
                best.retain(|id, _| *id < end);
                best.shrink_to_fit();
            }
            Kept::Edge(edges, bytes, _) => {
                edges.retain(|id, _| *id < end);
                edges.shrink_to_fit();
                *bytes = edges.values().map(Edge::text_bytes).sum();
            }
            Kept::Texts { seen, counts, .. } => {
                seen.cut(end);
                counts.retain(|(id, _), _| *id < end);
                counts.shrink_to_fit();
            }
        }
    }

    /// Hands on what one of the reducers makes of everybody, in the order of ids.
    pub(super) fn finish(&self, reducer: &Reducer, values: &mut Values) {
        let mut text = String::new();
        let mut push = |id: u32, write: &mut dyn FnMut(&mut String)| {
            text.clear();
            write(&mut text);
            values.push(id, &text);
        };
        match &self.kept {
            Kept::Count(counts) => {
                counts.iter().for_each(|(id, count)| push(id, &mut |out| push_units(out, count.into(), 0)));
            }
            Kept::Sum(seen, sums) => {
                for id in seen.to_bitmap() {
                    push(id, &mut |out| sums.push_sum(out, id));
                }
            }
            Kept::Figures(figures) => figures.each(reducer, &mut push),
            Kept::Text(best, symbols, _) => {
                for (id, symbol) in best.iter().collect::<BTreeMap<_, _>>() {
                    push(*id, &mut |out| js::push_string(out, symbols.text(*symbol)));
                }
            }
            Kept::Edge(edges, ..) => {
                let mut edges: Vec<_> = edges.iter().map(|(id, edge)| (id, &edge.json)).collect();
                edges.sort_unstable_by_key(|(id, _)| *id);
                edges.iter().for_each(|(id, json)| push(**id, &mut |out| out.push_str(json)));
            }
            Kept::Texts { seen, counts, symbols, .. } => match reducer {
                Reducer::Mode { kind, min_frequency, .. } => {
                    let mut counts: Vec<_> = counts.iter().filter(|(_, times)| *times >= min_frequency).collect();
                    // The most frequent first, of equally frequent ones the first by bytes.
                    counts
                        .sort_unstable_by_key(|((id, symbol), times)| (*id, u32::MAX - *times, symbols.text(*symbol)));
                    counts.dedup_by_key(|((id, _), _)| *id);
                    for ((id, symbol), _) in counts {
                        let value = symbols.text(*symbol);
                        push(*id, &mut |out| match kind {
                            As::Number => push_word(out, value),
                            _ => js::push_string(out, value),
                        });
                    }
                }
                Reducer::UniqueCount(_) => {
                    let mut ids: Vec<u32> = counts.keys().map(|(id, _)| *id).collect();
                    ids.sort_unstable();
                    let mut groups = ids.chunk_by(|a, b| a == b).peekable();
                    for id in seen.to_bitmap() {
                        let count = groups.next_if(|group| group[0] == id).map_or(0, <[u32]>::len);
                        push(id, &mut |out| push_units(out, count as i128, 0));
                    }
                }
                _ => {
                    let mut texts: Vec<_> = counts.keys().collect();
                    texts.sort_unstable_by_key(|(id, symbol)| (*id, symbols.text(*symbol)));
                    for group in texts.chunk_by(|a, b| a.0 == b.0) {
                        push(group[0].0, &mut |out| {
                            let items =
                                group.iter().take(limits::UNIQUE_ITEMS).map(|(_, symbol)| symbols.text(*symbol));
                            push_list(out, items);
                        });
                    }
                }
            },
        }
    }
}

/// Whether all that an event holds is one text: of a list, its entries with commas.
fn is_whole(reducer: &Reducer) -> bool {
    matches!(reducer, Reducer::Mode { kind: As::Array, value, .. } if !is_timestamp(value))
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
