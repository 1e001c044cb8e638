//! What is kept of the events for one probe, and what does it say in the end?

use chrono::{DateTime, Utc};

use super::{
    POSTGRES_EPOCH,
    batch::{Batch, Read},
    event::Event,
    fold::Fold,
    probe::{Measure, Probe},
};
use crate::{
    evaluate::{
        compile::Window,
        members::Members,
        tally::{Amount, Ids, Numbers},
    },
    values::Values,
};

/// What a scan says of one probe.
pub(in crate::evaluate) enum Found {
    Members(Members),
    Values(Values),
    /// The numbers do not fit, so Postgres must be asked.
    Unfit,
}

impl Found {
    /// Adds what was found of profiles beyond those of all passes before.
    pub(super) fn and(self, later: Found) -> Found {
        match (self, later) {
            (Found::Members(mut members), Found::Members(later)) => {
                members.ids |= later.ids;
                Found::Members(members)
            }
            (Found::Values(mut values), Found::Values(later)) => {
                values.append(later);
                Found::Values(values)
            }
            _ => Found::Unfit,
        }
    }
}

/// Which of a row's columns are a probe's.
#[derive(Debug, Clone, Copy)]
pub(in crate::evaluate) struct Places {
    pub number: Option<usize>,
    pub json: Option<usize>,
    pub selection: Option<usize>,
}

/// What is added up for one probe, or for several that want to know different things of the same.
pub(super) struct Tally<'c> {
    places: Places,
    /// Microseconds since 2000, as Postgres sends them; `None` if the scan's window is the probe's.
    window: Option<(i64, i64)>,
    kept: Kept<'c>,
}

enum Kept<'c> {
    Ids(Ids),
    Counts(Numbers<u32>),
    Sums(Numbers<i64>),
    Value(Box<Fold<'c>>),
    /// A number had too many decimals, or a sum grew too large.
    Unfit,
}

impl<'c> Tally<'c> {
    pub(super) fn new(probe: &Probe<'c>, places: Places, scanned: Window) -> Tally<'c> {
        Tally {
            places,
            window: within(probe.window, scanned),
            kept: match probe.measure {
                Measure::Occurs => Kept::Ids(Ids::default()),
                Measure::Count(_) => Kept::Counts(Numbers::new()),
                Measure::Sum(..) => Kept::Sums(Numbers::new()),
                Measure::Value(reducer) => Kept::Value(Box::new(Fold::new(reducer))),
            },
        }
    }

    /// Takes another probe in, before the first row, if it wants to know of the same events what is kept of them anyway.
    pub(super) fn takes(&mut self, probe: &Probe<'c>, places: Places, scanned: Window) -> bool {
        let (Kept::Value(fold), Measure::Value(reducer)) = (&mut self.kept, &probe.measure) else { return false };
        let same = self.window == within(probe.window, scanned) && self.places.selection == places.selection;
        let takes = same && fold.takes(reducer);
        if takes {
            // Who only counts has no value of an event to read.
            self.places.number = self.places.number.or(places.number);
            self.places.json = self.places.json.or(places.json);
        }
        takes
    }

    /// Adds a batch up, block by block. Where the rows' profiles stand in memory is far apart, and each addition waits for its
    /// place: to look at the places of a block first lets the processor fetch them all at the same time.
    pub(super) fn add_all(&mut self, batch: &Batch) {
        for block in batch.blocks() {
            let places = block.clone().filter(|row| self.admits(*row)).map(|row| self.touch(row.id()));
            std::hint::black_box(places.fold(0, |all, place| all ^ place));
            block.for_each(|row| self.add(row));
        }
    }

    fn touch(&self, id: u32) -> u32 {
        match &self.kept {
            Kept::Counts(counts) => counts.get(id),
            Kept::Sums(sums) => sums.get(id) as u32,
            Kept::Value(fold) => fold.touch(id),
            Kept::Ids(_) | Kept::Unfit => 0,
        }
    }

    #[inline]
    fn admits(&self, row: Read<'_>) -> bool {
        self.window.is_none_or(|(after, until)| row.instant() > after && row.instant() <= until)
            && self.places.selection.is_none_or(|place| row.is_selected(place))
    }

    #[inline]
    fn add(&mut self, row: Read<'_>) {
        if !self.admits(row) {
            return;
        }
        let amount = || self.places.number.and_then(|place| row.number(place));
        match &mut self.kept {
            Kept::Ids(ids) => ids.insert(row.id()),
            Kept::Counts(counts) => counts.increment(row.id()),
            Kept::Sums(sums) => match amount() {
                None => {}
                Some(Amount::Millionths(value)) => {
                    let sum = sums.at(row.id());
                    match sum.checked_add(*value) {
                        Some(total) => *sum = total,
                        None => self.kept = Kept::Unfit,
                    }
                }
                Some(Amount::Other(_)) => self.kept = Kept::Unfit,
            },
            Kept::Value(fold) => fold.add(Event {
                id: row.id(),
                at: row.instant(),
                message: row.message(),
                amount: amount(),
                json: self.places.json.and_then(|place| row.json(place)),
            }),
            Kept::Unfit => {}
        }
    }

    /// The memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Ids(ids) => ids.bytes(),
            Kept::Counts(counts) => counts.bytes(),
            Kept::Sums(sums) => sums.bytes(),
            Kept::Value(fold) => fold.bytes(),
            Kept::Unfit => 0,
        }
    }

    /// Forgets the profiles from `end` on, a multiple of 65,536.
    pub(super) fn cut(&mut self, end: u32) {
        match &mut self.kept {
            Kept::Ids(ids) => ids.cut(end),
            Kept::Counts(counts) => counts.cut(end),
            Kept::Sums(sums) => sums.cut(end),
            Kept::Value(fold) => fold.cut(end),
            Kept::Unfit => {}
        }
    }

    /// After the last row, before what it says of any probe.
    pub(super) fn settle(&mut self) {
        if let Kept::Value(fold) = &mut self.kept {
            fold.settle();
        }
    }

    /// What it says of a probe that it took in. Of its values so many bytes may wait as they are.
    pub(super) fn found(&self, probe: &Probe<'_>, bytes: usize) -> Found {
        let ids = match (&self.kept, &probe.measure) {
            (Kept::Ids(ids), _) => ids.to_bitmap(),
            (Kept::Counts(counts), Measure::Count(threshold)) => {
                counts.select(|count| threshold.passes(i128::from(count)) != probe.negated)
            }
            (Kept::Sums(sums), Measure::Sum(_, threshold)) => {
                sums.select(|sum| threshold.passes(i128::from(sum)) != probe.negated)
            }
            (Kept::Value(fold), Measure::Value(reducer)) => {
                let mut values = Values::within(bytes);
                fold.write(reducer, &mut values);
                values.close();
                return Found::Values(values);
            }
            _ => return Found::Unfit,
        };
        Found::Members(Members { ids, all_but: probe.negated })
    }
}

/// The probe's window in microseconds since 2000; `None` if it is the scan's.
fn within(window: Window, scanned: Window) -> Option<(i64, i64)> {
    let micros = |instant: DateTime<Utc>| instant.timestamp_micros().saturating_sub(POSTGRES_EPOCH);
    (window != scanned).then(|| (window.after.map_or(i64::MIN, micros), micros(window.until)))
}
