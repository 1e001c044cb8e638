//! Which comparisons speak of a computed trait? Those are answered from its values, not from the store.

use std::collections::BTreeMap;

use super::{Condition, Formula};
use crate::{
    audience::{
        ast::{Comparison, Expr, Operand, Scalar, Segment},
        visit,
    },
    error::{Error, Result},
};

impl Formula {
    /// Takes comparisons with a computed trait for what they are. `traits` are the keys of all computed values, each with the key
    /// under which it is stored: another one if several are told together, and then the path leads through that.
    ///
    /// # Errors
    /// [`crate::Kind::Definition`] where a computed trait is held against anything but literals, or within `where(…)`.
    pub fn with_values(self, traits: &BTreeMap<String, String>) -> Result<Formula> {
        let all = |terms: Vec<Formula>| terms.into_iter().map(|term| term.with_values(traits)).collect::<Result<_>>();
        Ok(match self {
            Formula::Condition(Condition(comparison)) => match computed(&comparison, traits) {
                None => Formula::Condition(Condition(comparison)),
                Some(_) if stands_alone(&comparison, traits) => Formula::Value(through(comparison, traits)),
                Some(key) => {
                    return Err(Error::definition(format!(
                        "the computed trait `{key}` is held against something else than a literal"
                    ))
                    .help(format!(
                        "Write trait('{key}') on the left, outside of where(…), and literals on the right."
                    )));
                }
            },
            Formula::Not(inner) => inner.with_values(traits)?.not(),
            Formula::And(terms) => Formula::And(all(terms)?),
            Formula::Or(terms) => Formula::Or(all(terms)?),
            formula => formula,
        })
    }

    /// Each comparison with a computed trait.
    pub fn values<'f>(&'f self, see: &mut dyn FnMut(&'f Comparison)) {
        match self {
            Formula::Value(comparison) => see(comparison),
            Formula::Not(inner) => inner.values(see),
            Formula::And(terms) | Formula::Or(terms) => terms.iter().for_each(|term| term.values(see)),
            Formula::Everyone
            | Formula::Nobody
            | Formula::Condition(_)
            | Formula::Statement(_)
            | Formula::Member(_) => {}
        }
    }
}

fn through(mut comparison: Comparison, traits: &BTreeMap<String, String>) -> Comparison {
    if let Scalar::Trait(path) = &mut comparison.left
        && let Some(Segment::Key(key)) = path.0.first()
        && let Some(stored) = traits.get(key).filter(|stored| *stored != key)
    {
        path.0.insert(0, Segment::Key(stored.clone()));
    }
    comparison
}

/// The first computed trait that a comparison speaks of.
fn computed(comparison: &Comparison, traits: &BTreeMap<String, String>) -> Option<String> {
    let mut found = None;
    visit::comparisons(&Expr::Compare(comparison.clone()), &mut |comparison| {
        let mut keys = comparison.scalars().filter_map(|scalar| key(scalar, traits));
        found = found.take().or_else(|| keys.next().cloned());
    });
    found
}

fn stands_alone(comparison: &Comparison, traits: &BTreeMap<String, String>) -> bool {
    let operands = comparison.comparator.operands();
    key(&comparison.left, traits).is_some() && operands.iter().all(|operand| matches!(operand, Operand::Literal(_)))
}

fn key<'s>(scalar: &'s Scalar, traits: &BTreeMap<String, String>) -> Option<&'s String> {
    match scalar {
        Scalar::Trait(path) => match path.0.first() {
            Some(Segment::Key(key)) if traits.contains_key(key) => Some(key),
            _ => None,
        },
        _ => None,
    }
}
