//! What does a reducer make of each profile's events? Added up in whatever order they come, exactly.
//!
//! What is kept stands in pages by id. Sums are kept in millionths, and what does not fit there as decimals: never as binary
//! fractions, so money does not drift. Reducers that look at the same thing share what is kept: to find a profile's place
//! costs more than to add there.

use chrono::{DateTime, Utc};

use super::{
    cell::{self, Cell},
    edges::Edges,
    event::Event,
    num::{Figures, Sums, push_units},
    texts::{Symbols, Texts},
};
use crate::{
    audience::ast::{As, EventValue, Path, Reducer},
    evaluate::tally::{Amount, Ids, Numbers},
    js,
    values::Values,
};

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
    Text(Numbers<Option<u32>>, Symbols, bool),
    Edge(Edges),
    /// Of arrays, all entries may be one text (`whole`).
    Texts {
        texts: Texts,
        whole: bool,
    },
}

impl<'c> Fold<'c> {
    pub(super) fn new(reducer: &'c Reducer) -> Fold<'c> {
        let kept = match reducer {
            Reducer::Count => Kept::Count(Numbers::new()),
            Reducer::Sum(_) => Kept::Sum(Ids::default(), Sums::default()),
            Reducer::Avg(_) | Reducer::Min(_, As::Number) | Reducer::Max(_, As::Number) => {
                Kept::Figures(Figures::default())
            }
            Reducer::Min(..) => Kept::Text(Numbers::new(), Symbols::default(), false),
            Reducer::Max(..) => Kept::Text(Numbers::new(), Symbols::default(), true),
            Reducer::First(_) => Kept::Edge(Edges::new(false)),
            Reducer::Last(_) => Kept::Edge(Edges::new(true)),
            Reducer::Mode { .. } | Reducer::Unique(_) | Reducer::UniqueCount(_) => {
                Kept::Texts { texts: Texts::default(), whole: is_whole(reducer) }
            }
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
                if let Some(amount) = cell.amount() {
                    each(&amount);
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
                let best = best.at(id);
                let known = best.get_or_insert(symbol);
                if (symbols.text(symbol) > symbols.text(*known)) == *max {
                    *known = symbol;
                }
            }),
            Kept::Edge(edges) => edges.add(event, cells),
            Kept::Texts { texts, whole } => {
                texts.event(id);
                match whole {
                    true => {
                        event.json.and_then(|json| cell::whole(json, rest)).iter().for_each(|text| texts.see(id, text))
                    }
                    false => cells(&mut |cell| texts.see(id, &cell.text)),
                }
            }
        }
    }

    /// Something of a profile's place; see `Tally::add_all`.
    #[inline]
    pub(super) fn touch(&self, id: u32) -> u32 {
        match &self.kept {
            Kept::Count(counts) => counts.get(id),
            Kept::Sum(_, sums) => sums.touch(id),
            Kept::Figures(figures) => figures.touch(id),
            Kept::Text(best, ..) => best.get(id).unwrap_or_default(),
            Kept::Edge(edges) => edges.touch(id),
            // There events are only set aside.
            Kept::Texts { .. } => 0,
        }
    }

    /// The memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Count(counts) => counts.bytes(),
            Kept::Sum(seen, sums) => seen.bytes() + sums.bytes(),
            Kept::Figures(figures) => figures.bytes(),
            Kept::Text(best, symbols, _) => best.bytes() + symbols.bytes(),
            Kept::Edge(edges) => edges.bytes(),
            Kept::Texts { texts, .. } => texts.bytes(),
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
            Kept::Text(best, ..) => best.cut(end),
            Kept::Edge(edges) => edges.cut(end),
            Kept::Texts { texts, .. } => texts.cut(end),
        }
    }

    /// After the last event, before anybody asks.
    pub(super) fn settle(&mut self) {
        if let Kept::Texts { texts, .. } = &mut self.kept {
            texts.count();
        }
    }

    /// Hands on what one of the reducers makes of everybody, in the order of ids.
    pub(super) fn write(&self, reducer: &Reducer, values: &mut Values) {
        match &self.kept {
            Kept::Count(counts) => {
                counts.iter().for_each(|(id, count)| values.write(id, |out| push_units::<0>(out, count.into())));
            }
            Kept::Sum(seen, sums) => {
                seen.to_bitmap().iter().for_each(|id| values.write(id, |out| sums.push_sum(out, id)));
            }
            Kept::Figures(figures) => figures.write(reducer, values),
            Kept::Text(best, symbols, _) => {
                for (id, symbol) in best.iter().filter_map(|(id, symbol)| Some((id, symbol?))) {
                    values.write(id, |out| js::push_string(out, symbols.text(symbol)));
                }
            }
            Kept::Edge(edges) => edges.write(values),
            Kept::Texts { texts, .. } => texts.write(reducer, values),
        }
    }
}

/// Whether all that an event holds is one text: of a list, its entries with commas.
fn is_whole(reducer: &Reducer) -> bool {
    matches!(reducer, Reducer::Mode { kind: As::Array, value, .. } if !is_timestamp(value))
}

/// Whether a reducer reads the event's own instant.
pub(super) fn is_timestamp(value: &EventValue) -> bool {
    matches!(value, EventValue::Context(path) if crate::evaluate::compile::is_timestamp(path))
}

fn instant(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.saturating_add(super::POSTGRES_EPOCH)).unwrap_or_default()
}
