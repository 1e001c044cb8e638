//! How many people does each definition decide about since they lack a trait? Asked on the same snapshot as the definition itself.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::{Due, Universe};
use crate::{
    Result,
    audience::missing::{self, Gap, Missing},
    limits,
};

/// A definition with the other answer for who lacks a trait.
pub struct Asked<'d> {
    /// Which of those that are due.
    at: usize,
    key: String,
    gap: Gap,
    universe: &'d Universe,
}

/// What is to be asked of these beside themselves.
pub fn asked<'d>(due: &[Due<'d>]) -> Vec<Asked<'d>> {
    let gaps = due.iter().enumerate().flat_map(|(at, due)| {
        let gaps = missing::gaps(due.formula).into_iter().take(limits::GAPS).enumerate();
        // No audience has such a key.
        gaps.map(move |(n, gap)| Asked { at, key: format!("{}#{n}", due.key), gap, universe: due.universe })
    });
    gaps.collect()
}

impl Asked<'_> {
    /// Itself, to be evaluated after all that are due.
    pub fn due(&self) -> Due<'_> {
        Due { key: &self.key, formula: &self.gap.otherwise, universe: self.universe }
    }
}

/// By key, what was found: `answers` are those of all that are due, then those asked beside. What could not be evaluated is passed over.
pub fn missing(asked: &[Asked<'_>], answers: &[(String, Result<RoaringBitmap>)]) -> BTreeMap<String, Vec<Missing>> {
    let mut found = BTreeMap::<String, Vec<Missing>>::new();
    let beside = answers.iter().skip(answers.len().saturating_sub(asked.len()));
    for (asked, (_, otherwise)) in asked.iter().zip(beside) {
        let (Some((key, Ok(members))), Ok(otherwise)) = (answers.get(asked.at), otherwise) else { continue };
        let told = asked.gap.of(otherwise.difference_len(members), members.difference_len(otherwise));
        found.entry(key.clone()).or_default().extend(told);
    }
    found
}
