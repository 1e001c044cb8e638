//! Is this change too large to be told without a person? A broken upstream load must not send five million `false`. Pure.
//!
//! A run that is judged so is *held*: its result is kept, and nothing else is touched. Both directions count, since a broken
//! load may as well let everyone in.

use std::fmt;

use roaring::RoaringBitmap;

use crate::audience::Class;
pub use crate::config::Bounds;

/// How many entered and left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub entered: u64,
    pub exited: u64,
}

impl Counts {
    /// Without making the bitmaps of it.
    pub fn between(before: &RoaringBitmap, members: &RoaringBitmap) -> Counts {
        Counts { entered: members.difference_len(before), exited: before.difference_len(members) }
    }

    pub fn changes(self) -> u64 {
        self.entered + self.exited
    }

    /// Whether somebody who confirmed `self` can be taken to agree with `other`: a tenth more in either direction passes, since
    /// people come and go between the look and the run.
    pub fn covers(self, other: Counts) -> bool {
        let slack = self.changes().div_ceil(10);
        other.entered <= self.entered + slack && other.exited <= self.exited + slack
    }
}

/// What is allowed to one audience's next run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// None: everything.
    pub bounds: Option<Bounds>,
    /// What a person has seen and confirmed.
    pub confirmed: Option<Counts>,
}

/// What a run of a computed trait puts at stake, held against the values before.
///
/// Most values of a window are others a week later, as they should be: no share of those says that something is wrong. So
/// a trait is judged as the audience of those *for whom it is something*: a value, and not the 0 that nothing adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// For how many it was something.
    pub before: u64,
    /// Entered: for whom it became something. Exited: for whom nothing is left of it.
    pub change: Counts,
}

/// Why a run is held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// None: there was no run before.
    pub before: Option<u64>,
    pub change: Counts,
    bound: Bound,
    class: Class,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Share(f64),
    Changes(u64),
}

/// Whether a run is to be held that makes this change to a membership of `before`.
///
/// Without a run before there is no share: a first run is told, unless it is beyond `max_changes`.
pub fn judge(before: Option<u64>, change: Counts, limit: &Limit) -> Option<Held> {
    let bounds = limit.bounds?;
    if limit.confirmed.is_some_and(|confirmed| confirmed.covers(change)) {
        return None;
    }
    let held = |bound| Some(Held { before, change, bound, class: Class::Audience });
    match (before, bounds.max_changes) {
        (_, Some(most)) if change.changes() > most => held(Bound::Changes(most)),
        (Some(before), _) if before > bounds.over && change.changes() as f64 > bounds.share * before as f64 => {
            held(Bound::Share(bounds.share))
        }
        _ => None,
    }
}

/// The same for a computed trait whose run tells `change`: `max_changes` bounds all that is told, the share is of those for whom
/// the trait was something. `first` if there was no run before.
pub fn judge_values(first: bool, change: Counts, standing: Standing, limit: &Limit) -> Option<Held> {
    let bounds = limit.bounds?;
    if limit.confirmed.is_some_and(|confirmed| confirmed.covers(change)) {
        return None;
    }
    let before = (!first).then_some(standing.before);
    let of = |bounds, change| judge(before, change, &Limit { bounds: Some(bounds), confirmed: None });
    let told = bounds.max_changes.and_then(|_| of(Bounds { over: u64::MAX, ..bounds }, change));
    let held = told.or_else(|| of(Bounds { max_changes: None, ..bounds }, standing.change))?;
    Some(Held { class: Class::Trait, ..held })
}

/// The same for the bitmaps themselves.
pub fn judge_members(before: Option<&RoaringBitmap>, members: &RoaringBitmap, limit: &Limit) -> Option<Held> {
    let change = match before {
        Some(before) => Counts::between(before, members),
        None => Counts { entered: members.len(), exited: 0 },
    };
    judge(before.map(RoaringBitmap::len), change, limit)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { entered, exited } = self.change;
        match (self.class, self.bound, self.before) {
            (Class::Trait, Bound::Changes(_), _) => {
                write!(f, "{entered} would get another value and {exited} lose theirs")?;
            }
            (Class::Trait, Bound::Share(_), before) => {
                let before = before.unwrap_or(0);
                write!(
                    f,
                    "{entered} who have nothing would get a value and {exited} of the {before} who have one lose it"
                )?;
            }
            (Class::Audience, _, Some(before)) => {
                write!(f, "{entered} would enter and {exited} leave a membership of {before}")?
            }
            (Class::Audience, _, None) => write!(f, "{entered} would enter with the first run")?,
        }
        match self.bound {
            Bound::Share(share) => write!(f, ": more than the share of {share} that the guard lets through"),
            Bound::Changes(most) => write!(f, ": more than the {most} changes that the guard lets through"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> impl Strategy<Value = Limit> {
        let bounds = (0.0..2.0f64, 0..50u64, prop::option::of(0..200u64))
            .prop_map(|(share, over, max_changes)| Bounds { share, over, max_changes });
        let confirmed = (0..100u64, 0..100u64).prop_map(|(entered, exited)| Counts { entered, exited });
        (prop::option::of(bounds), prop::option::of(confirmed))
            .prop_map(|(bounds, confirmed)| Limit { bounds, confirmed })
    }

    fn membership() -> impl Strategy<Value = RoaringBitmap> {
        prop::collection::btree_set(0..150u32, 0..100).prop_map(|ids| ids.into_iter().collect())
    }

    proptest! {
        /// Written out as the sentence in the documents says it, over sets of ids instead of counts.
        #[test]
        fn a_run_is_held_exactly_when_it_is_beyond_a_bound_that_nobody_confirmed(
            before in prop::option::of(membership()), members in membership(), limit in limits(),
        ) {
            let known: Vec<u32> = before.iter().flatten().collect();
            let (entered, exited) = (
                members.iter().filter(|id| !known.contains(id)).count(),
                known.iter().filter(|id| !members.contains(**id)).count(),
            );
            let changes = entered + exited;
            let expected = limit.bounds.is_some_and(|bounds| {
                let share = before.is_some() && known.len() as u64 > bounds.over
                    && changes as f64 / known.len() as f64 > bounds.share;
                share || bounds.max_changes.is_some_and(|most| changes as u64 > most)
            });
            let confirmed = limit.confirmed.is_some_and(|seen| {
                let slack = ((seen.entered + seen.exited) as f64 / 10.0).ceil() as usize;
                entered <= seen.entered as usize + slack && exited <= seen.exited as usize + slack
            });
            prop_assert_eq!(judge_members(before.as_ref(), &members, &limit).is_some(), expected && !confirmed);
        }

        #[test]
        fn an_emptied_source_is_held_whatever_the_share_below_one(members in 1_001..u64::from(u32::MAX), share in 0.0..1.0f64) {
            let limit = Limit { bounds: Some(Bounds { share, ..Bounds::default() }), confirmed: None };
            let all_leave = Counts { entered: 0, exited: members };
            prop_assert!(judge(Some(members), all_leave, &limit).is_some());
            // Whoever confirmed another change did not confirm this one.
            let confirmed = Limit { confirmed: Some(Counts { entered: members, exited: 0 }), ..limit };
            prop_assert_eq!(judge(Some(members), all_leave, &confirmed).is_some(), members.div_ceil(10) < members);
        }
    }

    #[test]
    fn the_default_holds_more_than_half_of_more_than_a_thousand() {
        let limit = Limit { bounds: Some(Bounds::default()), confirmed: None };
        let held = |before, entered, exited| judge(before, Counts { entered, exited }, &limit).is_some();
        assert!(!held(Some(1_000), 0, 1_000), "small ones may come and go");
        assert!(!held(Some(2_000), 500, 500), "half is not more than half");
        assert!(held(Some(2_000), 500, 501) && held(Some(2_000), 1_001, 0) && held(Some(2_000), 0, 2_000));
        assert!(!held(None, 5_000_000, 0), "a first run");
        let told = judge(Some(2_000), Counts { entered: 1, exited: 2_000 }, &limit).unwrap();
        assert_eq!(
            told.to_string(),
            "1 would enter and 2000 leave a membership of 2000: more than the share of 0.5 that the guard lets through"
        );
    }

    #[test]
    fn an_absolute_bound_holds_first_runs_and_small_memberships_too() {
        let limit = Limit { bounds: Some(Bounds { max_changes: Some(10), ..Bounds::default() }), confirmed: None };
        assert!(judge(None, Counts { entered: 11, exited: 0 }, &limit).is_some());
        assert!(judge(Some(3), Counts { entered: 8, exited: 3 }, &limit).is_some());
        assert!(judge(Some(3), Counts { entered: 7, exited: 3 }, &limit).is_none());
    }

    #[test]
    fn a_trait_is_held_when_nothing_is_left_for_many_and_not_when_all_values_are_others() {
        let limit = Limit { bounds: Some(Bounds::default()), confirmed: None };
        let counts = |entered, exited| Counts { entered, exited };
        let standing = |entered, exited| Standing { before: 2_000, change: counts(entered, exited) };
        assert!(judge_values(false, counts(2_000, 0), standing(0, 0), &limit).is_none(), "a window slides");
        // Counters tell 0, other values null: for either nothing is left.
        let told = judge_values(false, counts(1_500, 0), standing(0, 1_500), &limit).unwrap();
        assert_eq!(
            told.to_string(),
            "0 who have nothing would get a value and 1500 of the 2000 who have one lose it: more than the share of 0.5 that the guard lets through"
        );
        assert!(judge_values(false, counts(0, 1_500), standing(0, 1_500), &limit).is_some());
        assert!(judge_values(false, counts(1_500, 0), standing(1_500, 0), &limit).is_some(), "a mass entry");
        assert!(judge_values(true, counts(5_000, 0), Standing::default(), &limit).is_none(), "a first run");
        let confirmed = Limit { confirmed: Some(counts(1_500, 0)), ..limit };
        assert!(judge_values(false, counts(1_500, 0), standing(0, 1_500), &confirmed).is_none());
        // What is counted for `max_changes` is what is told.
        let most = Limit { bounds: Some(Bounds { max_changes: Some(10), ..Bounds::default() }), confirmed: None };
        let told = judge_values(false, counts(8, 3), standing(0, 0), &most).unwrap();
        assert_eq!(
            told.to_string(),
            "8 would get another value and 3 lose theirs: more than the 10 changes that the guard lets through"
        );
        assert!(judge_values(false, counts(8, 2), standing(0, 2), &most).is_none());
        assert!(judge_values(true, counts(11, 0), Standing::default(), &most).is_some());
    }
}
