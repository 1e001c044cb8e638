//! Which values of a computed trait does an audience read? Those of the same tick, unless the guard will hold them; else those
//! that are stored. Pure.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::settle::Settled;
use crate::{
    Error, Result,
    membership::guard::{self, Counts, Limit},
};

/// What became of the computed traits in this tick, and what was before.
#[derive(Debug)]
pub(crate) struct Current<'v> {
    pub settled: &'v [(String, Result<Settled>)],
    /// Who has a stored value, by key.
    pub stored: &'v HashMap<String, RoaringBitmap>,
    pub limits: &'v HashMap<String, Limit>,
}

impl<'v> Current<'v> {
    /// What was settled of a trait and counts; none if its stored values do.
    ///
    /// # Errors
    /// If the trait failed, or has no values that count.
    pub(crate) fn of(&self, key: &str) -> Result<Option<&'v Settled>> {
        let settled = match self.settled.iter().find(|(known, _)| known == key) {
            Some((_, Ok(settled))) => Some(settled),
            Some((_, Err(error))) => {
                return Err(Error::new(error.kind, format!("it refers to the computed trait `{key}`, which failed")));
            }
            None => None,
        };
        let before = self.stored.get(key).map(RoaringBitmap::len);
        let held = |settled: &Settled| {
            let counts = Counts { entered: settled.change.entered.len(), exited: settled.change.exited.len() };
            let judge = |limit| guard::judge_values(before.is_none(), counts, settled.standing, limit);
            self.limits.get(key).is_some_and(|limit| judge(limit).is_some())
        };
        let settled = settled.filter(|settled| !held(settled));
        if settled.is_none() && before.is_none() {
            return Err(Error::definition(format!("it refers to the computed trait `{key}`, which has no values yet"))
                .help(format!("Compute `{key}` first, or in the same run.")));
        }
        Ok(settled)
    }
}
