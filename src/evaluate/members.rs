//! How do the answers of conditions combine? Formulas as bitmap algebra; pure.
//!
//! A complement is never written out: a set is kept as "all but these" until it meets a universe.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use crate::{Result, audience::conditions::Formula};

/// A set of profiles: these, or all but these.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Members {
    pub ids: RoaringBitmap,
    pub all_but: bool,
}

impl Members {
    pub(super) fn answer(&self) -> Answer<'_> {
        (&self.ids, self.all_but)
    }

    pub(super) fn within(&self, universe: &RoaringBitmap) -> RoaringBitmap {
        if self.all_but { universe - &self.ids } else { universe & &self.ids }
    }
}

/// A set that may be borrowed from where it is shared.
struct Set<'m> {
    ids: Cow<'m, RoaringBitmap>,
    all_but: bool,
}

impl Set<'_> {
    fn negated(mut self) -> Self {
        self.all_but = !self.all_but;
        self
    }

    /// The four cases of an intersection of sets that may be complements.
    fn and(self, other: Self) -> Self {
        let (a, b) = (self, other);
        let (ids, all_but) = match (a.all_but, b.all_but) {
            (false, false) => (meet(a.ids, b.ids), false),
            (false, true) => (drop(a.ids, &b.ids), false),
            (true, false) => (drop(b.ids, &a.ids), false),
            (true, true) => (join(a.ids, b.ids), true),
        };
        Set { ids, all_but }
    }
}

fn meet<'m>(a: Cow<'m, RoaringBitmap>, b: Cow<'m, RoaringBitmap>) -> Cow<'m, RoaringBitmap> {
    Cow::Owned(match (a, b) {
        (Cow::Owned(a), b) => a & &*b,
        (a, Cow::Owned(b)) => b & &*a,
        (a, b) => &*a & &*b,
    })
}

fn join<'m>(a: Cow<'m, RoaringBitmap>, b: Cow<'m, RoaringBitmap>) -> Cow<'m, RoaringBitmap> {
    Cow::Owned(match (a, b) {
        (Cow::Owned(a), b) => a | &*b,
        (a, Cow::Owned(b)) => b | &*a,
        (a, b) => &*a | &*b,
    })
}

fn drop<'m>(a: Cow<'m, RoaringBitmap>, b: &RoaringBitmap) -> Cow<'m, RoaringBitmap> {
    Cow::Owned(match a {
        Cow::Owned(a) => a - b,
        Cow::Borrowed(a) => a - b,
    })
}

/// What a part of a formula that has no parts was answered: these profiles, or all but these.
pub(super) type Answer<'m> = (&'m RoaringBitmap, bool);

/// The members of a formula within a universe, by the answers to its conditions, statements, references and values.
pub(super) fn members<'m>(
    formula: &Formula,
    universe: &RoaringBitmap,
    answer: &dyn Fn(&Formula) -> Result<Answer<'m>>,
) -> Result<RoaringBitmap> {
    let Set { ids, all_but } = set(formula, answer)?;
    Ok(Members { ids: ids.into_owned(), all_but }.within(universe))
}

fn set<'m>(formula: &Formula, answer: &dyn Fn(&Formula) -> Result<Answer<'m>>) -> Result<Set<'m>> {
    let everyone = || Set { ids: Cow::Owned(RoaringBitmap::new()), all_but: true };
    Ok(match formula {
        Formula::Everyone => everyone(),
        Formula::Nobody => everyone().negated(),
        Formula::Condition(_) | Formula::Statement(_) | Formula::Value(_) | Formula::Member(_) => {
            let (ids, all_but) = answer(formula)?;
            Set { ids: Cow::Borrowed(ids), all_but }
        }
        Formula::Not(inner) => set(inner, answer)?.negated(),
        Formula::And(terms) => {
            let mut all = everyone();
            for term in terms {
                all = all.and(set(term, answer)?);
            }
            all
        }
        // De Morgan: some hold if not all fail.
        Formula::Or(terms) => {
            let mut none = everyone();
            for term in terms {
                none = none.and(set(term, answer)?.negated());
            }
            none.negated()
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn formula() -> impl Strategy<Value = Formula> {
        let leaf = prop_oneof![Just(Formula::Everyone), Just(Formula::Nobody), "[a-d]".prop_map(Formula::Member),];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| Formula::Not(inner.into())),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Formula::And),
                prop::collection::vec(inner, 2..4).prop_map(Formula::Or),
            ]
        })
    }

    fn holds(formula: &Formula, id: u32) -> bool {
        match formula {
            Formula::Everyone => true,
            Formula::Nobody | Formula::Condition(_) | Formula::Statement(_) | Formula::Value(_) => false,
            // Each id has its own combination of the four memberships.
            Formula::Member(key) => id >> (key.as_bytes()[0] - b'a') & 1 == 1,
            Formula::Not(inner) => !holds(inner, id),
            Formula::And(terms) => terms.iter().all(|term| holds(term, id)),
            Formula::Or(terms) => terms.iter().any(|term| holds(term, id)),
        }
    }

    proptest! {
        #[test]
        fn a_bitmap_says_the_same_as_the_formula_for_each_profile(formula in formula()) {
            let memberships: Vec<RoaringBitmap> =
                (0..4).map(|bit| (0..32).filter(|id| id >> bit & 1 == 1).collect()).collect();
            // Ids from 16 on have no identifier that counts.
            let universe: RoaringBitmap = (0..16).collect();
            let got = members(
                &formula,
                &universe,
                &|leaf| match leaf {
                    Formula::Member(key) => Ok((&memberships[usize::from(key.as_bytes()[0] - b'a')], false)),
                    _ => Err(crate::Error::internal("there are only references here")),
                },
            )
            .unwrap();
            prop_assert_eq!(got, (0..16).filter(|id| holds(&formula, *id)).collect());
        }
    }
}
