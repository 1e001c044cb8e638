//! Which positions does a topic have, once, and in their order? A bitmap a stream; what each partition had last. Pure.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use roaring::RoaringTreemap;

/// What one topic has of the lanes, live and bulk.
#[derive(Debug, Default)]
pub struct Seen {
    /// The positions that it has, by lane.
    pub positions: [RoaringTreemap; 2],
    partitions: Vec<Partition>,
    /// The records of changes that have several, each by a hash of what it is.
    several: std::collections::HashSet<u64, FixedState>,
}

/// What one partition had so far.
#[derive(Debug, Default, Clone)]
struct Partition {
    /// By lane, the first and the last position.
    first: [Option<u64>; 2],
    last: [Option<u64>; 2],
    /// By audience and lane: what must not come any more, since a change that follows it over the lanes has come.
    passed: HashMap<usize, [u64; 2], FixedState>,
}

/// A record's place among the changes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// 0 for the live lane, 1 for bulk.
    pub lane: usize,
    pub position: u64,
    pub audience: usize,
    /// The position of the other lane that must come before.
    pub after: u64,
    /// A hash of the record, where its change may have several.
    pub several: Option<u64>,
}

/// What is wrong with a record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wrong {
    pub repeated: bool,
    pub out_of_order: bool,
}

impl Seen {
    /// Of a topic with so many partitions.
    pub fn of(partitions: usize) -> Seen {
        Seen { partitions: vec![Partition::default(); partitions], ..Seen::default() }
    }

    /// Takes in a record's place.
    pub fn take(&mut self, partition: usize, place: Place) -> Wrong {
        let Place { lane, position, audience, after, several } = place;
        let is_new = self.positions[lane].insert(position);
        let repeated = match several {
            Some(record) => !self.several.insert(record),
            None => !is_new,
        };
        let Some(partition) = self.partitions.get_mut(partition) else {
            return Wrong { repeated, out_of_order: false };
        };
        let last = partition.last[lane].replace(position);
        partition.first[lane].get_or_insert(position);
        let mut out_of_order = last.is_some_and(|last| position < last);
        // Nearly always nothing lies in the other lane, and then nothing is kept by audience.
        if after > 0 || !partition.passed.is_empty() {
            let passed = partition.passed.entry(audience).or_default();
            out_of_order |= position < passed[lane];
            passed[1 - lane] = passed[1 - lane].max(after);
        }
        Wrong { repeated, out_of_order }
    }

    /// From which position on a lane's records are all in sight, where `cut` says of each partition whether its beginning is not:
    /// the greatest first position of those; `None` if one of them shows nothing of the lane.
    pub fn in_sight_from(&self, lane: usize, cut: impl Fn(usize) -> bool) -> Option<u64> {
        let cut = self.partitions.iter().enumerate().filter(|(index, _)| cut(*index));
        cut.map(|(_, partition)| partition.first[lane]).try_fold(0, |from, first| Some(from.max(first?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lane: usize, position: u64, after: u64) -> Place {
        Place { lane, position, audience: 0, after, several: None }
    }

    const FINE: Wrong = Wrong { repeated: false, out_of_order: false };
    const LATE: Wrong = Wrong { repeated: false, out_of_order: true };

    #[test]
    fn a_partition_goes_forward_and_nothing_comes_twice() {
        let mut seen = Seen::of(2);
        assert_eq!(seen.take(0, place(0, 1, 0)), FINE);
        assert_eq!(seen.take(1, place(0, 0, 0)), FINE);
        assert_eq!(seen.take(1, place(0, 3, 0)), FINE);
        assert_eq!(seen.take(1, place(0, 2, 0)), LATE);
        assert_eq!(seen.take(0, place(0, 3, 0)), Wrong { repeated: true, out_of_order: false });
        assert_eq!(seen.positions[0].len(), 4);
    }

    #[test]
    fn what_must_be_told_before_over_the_lanes_does_not_come_after() {
        let mut seen = Seen::of(1);
        assert_eq!(seen.take(0, place(1, 0, 5)), FINE);
        assert_eq!(seen.take(0, place(0, 5, 0)), FINE);
        assert_eq!(seen.take(0, place(0, 6, 1)), FINE);
        let mut seen = Seen::of(1);
        assert_eq!(seen.take(0, place(1, 0, 5)), FINE);
        assert_eq!(seen.take(0, place(0, 4, 0)), LATE);
    }

    #[test]
    fn a_change_told_under_several_names_has_each_once() {
        let mut seen = Seen::of(1);
        let name = |name| Place { several: Some(name), ..place(0, 0, 0) };
        assert_eq!(seen.take(0, name(1)), FINE);
        assert_eq!(seen.take(0, name(2)), FINE);
        assert!(seen.take(0, name(1)).repeated);
    }

    #[test]
    fn what_retention_took_ends_before_the_last_partition_that_it_cut_begins() {
        let mut seen = Seen::of(3);
        seen.take(0, place(0, 7, 0));
        seen.take(1, place(0, 9, 0));
        assert_eq!(seen.in_sight_from(0, |partition| partition < 2), Some(9));
        assert_eq!(seen.in_sight_from(0, |_| true), None);
        assert_eq!(seen.in_sight_from(0, |_| false), Some(0));
    }
}
