//! What must be asked of the store? A definition split into conditions (asked once each, whoever shares them) and the
//! formula that combines their answers.
//!
//! A condition never refers to an audience: a reference is a term of the formula, so conditions read the store alone, and
//! the values of computed traits ([`Scalar::Computed`]), for which those that read some have to wait.
//! A comparison that refers to an audience, wherever in it, is split by cases (Shannon's expansion): the comparison with
//! the reference taken as `'true'`, and as `'false'`, each joined with the referred membership or its complement.
//! `trait('k') = 'true'` needs no case of its own: its two halves are everyone and nobody, and what is left is the membership.

mod canonical;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use self::canonical::{Fold, Folded};
use super::{
    ast::{Comparison, Expr, Operand, Scalar, Segment},
    statement::Statement,
    visit,
};
use crate::{
    error::{Error, Result},
    limits,
};

/// One comparison over one event stream, one trait, or both; its answer is a set of profiles.
///
/// Equal conditions of different audiences are equal values, so that each is evaluated once in a tick.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition(pub Comparison);

/// How the answers combine. Complements are taken within the universe (everyone in the store).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    Everyone,
    Nobody,
    Condition(Condition),
    /// Whom a statement yields: the whole of an audience, never a part of one.
    Statement(Statement),
    /// Membership of the audience with this key, as computed in the same tick or last stored.
    Member(String),
    /// A comparison whose left side is a computed trait, and whose right sides are literals: its values decide, without the store.
    Value(Comparison),
    Not(Box<Formula>),
    And(Vec<Formula>),
    Or(Vec<Formula>),
}

/// What is computed: a `trait(…)` of such a name reads that.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Of all audiences: a trait of such a name is a membership.
    pub audiences: BTreeSet<String>,
    /// Of all computed values, each with the key under which it is stored: another one if several are told together.
    pub traits: BTreeMap<String, String>,
}

/// Splits a definition.
///
/// Fails for account-level definitions, and for references that cannot be split.
pub fn formula(expr: &Expr, keys: &Keys) -> Result<Formula> {
    let parts = |terms: &[Expr]| terms.iter().map(|term| formula(term, keys)).collect::<Result<Vec<_>>>();
    match expr {
        Expr::And(terms) => Ok(Formula::and(parts(terms)?)),
        Expr::Or(terms) => Ok(Formula::or(parts(terms)?)),
        Expr::Not(inner) => Ok(formula(inner, keys)?.not()),
        Expr::Any(_) | Expr::All(_) => Err(account_level()),
        Expr::Compare(comparison) => {
            let references = references_of(comparison, &keys.audiences);
            if references.len() > limits::REFERENCES_PER_COMPARISON {
                return Err(Error::definition(format!(
                    "one comparison refers to {} audiences, and at most {} are possible",
                    references.len(),
                    limits::REFERENCES_PER_COMPARISON
                ))
                .help(
                    "Join references by AND and OR outside of where(…), or define a part as an audience of its own.",
                ));
            }
            by_cases(comparison, &references, &keys.traits, &mut BTreeMap::new())
        }
    }
}

/// Each distinct condition of many formulas, in the order of first use.
pub fn distinct<'f>(formulas: impl IntoIterator<Item = &'f Formula>) -> Vec<&'f Condition> {
    fn walk<'f>(formula: &'f Formula, seen: &mut HashSet<&'f Condition>, found: &mut Vec<&'f Condition>) {
        match formula {
            Formula::Condition(condition) => {
                if seen.insert(condition) {
                    found.push(condition);
                }
            }
            Formula::Not(inner) => walk(inner, seen, found),
            Formula::And(terms) | Formula::Or(terms) => terms.iter().for_each(|term| walk(term, seen, found)),
            Formula::Everyone | Formula::Nobody | Formula::Statement(_) | Formula::Member(_) | Formula::Value(_) => {}
        }
    }
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    formulas.into_iter().for_each(|formula| walk(formula, &mut seen, &mut found));
    found
}

/// The audiences that a definition refers to.
pub fn references(expr: &Expr, audiences: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    visit::comparisons(expr, &mut |comparison| {
        found.extend(comparison.scalars().filter_map(|scalar| reference(scalar, audiences)).cloned());
    });
    found
}

fn references_of(comparison: &Comparison, audiences: &BTreeSet<String>) -> BTreeSet<String> {
    references(&Expr::Compare(comparison.clone()), audiences)
}

/// The key, if this is the membership of an audience.
fn reference<'s>(scalar: &'s Scalar, audiences: &BTreeSet<String>) -> Option<&'s String> {
    match scalar {
        Scalar::Trait(path) => match path.0.as_slice() {
            [Segment::Key(key)] if audiences.contains(key) => Some(key),
            _ => None,
        },
        _ => None,
    }
}

/// Shannon's expansion over the references that no case has been assumed for yet.
fn by_cases(
    comparison: &Comparison,
    references: &BTreeSet<String>,
    traits: &BTreeMap<String, String>,
    assumed: &mut BTreeMap<String, bool>,
) -> Result<Formula> {
    let Some(key) = references.iter().find(|key| !assumed.contains_key(*key)) else {
        return Fold { memberships: assumed, traits }.comparison(comparison).map(Formula::from);
    };
    assumed.insert(key.clone(), true);
    let inside = by_cases(comparison, references, traits, assumed)?;
    assumed.insert(key.clone(), false);
    let outside = by_cases(comparison, references, traits, assumed)?;
    assumed.remove(key);
    if inside == outside {
        return Ok(inside);
    }
    let member = Formula::Member(key.clone());
    Ok(Formula::or(vec![Formula::and(vec![member.clone(), inside]), Formula::and(vec![member.not(), outside])]))
}

/// Whether the values of a computed trait decide.
fn is_value(comparison: &Comparison) -> bool {
    let literal = |operand: &Operand| matches!(operand, Operand::Literal(_));
    matches!(comparison.left, Scalar::Computed(_)) && comparison.comparator.operands().iter().all(literal)
}

pub(super) fn account_level() -> Error {
    Error::definition("ANY and ALL speak of the users of an account, and account-level audiences are not computed yet")
        .help("Remove ANY or ALL to define an audience of users.")
}

impl From<Folded> for Formula {
    fn from(folded: Folded) -> Self {
        fn convert(expr: Expr) -> Formula {
            match expr {
                Expr::Or(terms) => Formula::or(terms.into_iter().map(convert).collect()),
                Expr::And(terms) => Formula::and(terms.into_iter().map(convert).collect()),
                Expr::Not(inner) => convert(*inner).not(),
                // Quantifiers stand above comparisons alone, and were refused there.
                Expr::Any(inner) | Expr::All(inner) => convert(*inner),
                Expr::Compare(comparison) if is_value(&comparison) => Formula::Value(comparison),
                Expr::Compare(comparison) => Formula::Condition(Condition(comparison)),
            }
        }
        match folded {
            Folded::Always => Formula::Everyone,
            Folded::Never => Formula::Nobody,
            Folded::Expr(expr) => convert(expr),
        }
    }
}

impl Condition {
    /// The keys under which the computed traits are stored that it reads, anywhere in it.
    pub fn computed(&self) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        visit::within(&self.0, &mut |comparison| keys.extend(comparison.scalars().filter_map(Scalar::computed)));
        keys
    }
}

impl Scalar {
    /// The key under which it is stored, if this is the value of a computed trait.
    pub fn computed(&self) -> Option<&str> {
        match self {
            Scalar::Computed(path) => match path.0.first() {
                Some(Segment::Key(key)) => Some(key),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Formula {
    /// The keys under which the computed traits are stored that it reads.
    pub fn computed(&self) -> BTreeSet<&str> {
        let mut keys: BTreeSet<&str> = distinct([self]).into_iter().flat_map(Condition::computed).collect();
        self.values(&mut |comparison| keys.extend(comparison.left.computed()));
        keys
    }

    /// Each comparison that the values of a computed trait decide.
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

    fn and(terms: Vec<Formula>) -> Formula {
        Self::join(terms, Formula::Everyone, Formula::Nobody, Formula::And)
    }
    fn or(terms: Vec<Formula>) -> Formula {
        Self::join(terms, Formula::Nobody, Formula::Everyone, Formula::Or)
    }
    fn join(terms: Vec<Formula>, neutral: Formula, decisive: Formula, wrap: fn(Vec<Formula>) -> Formula) -> Formula {
        let mut kept = Vec::new();
        let conjunction = decisive == Formula::Nobody;
        for term in terms {
            let parts = match term {
                Formula::And(parts) if conjunction => parts,
                Formula::Or(parts) if !conjunction => parts,
                term => vec![term],
            };
            for part in parts {
                if part == decisive {
                    return decisive;
                }
                if part != neutral && !kept.contains(&part) {
                    kept.push(part);
                }
            }
        }
        match kept.len() {
            0 => neutral,
            1 => kept.remove(0),
            _ => wrap(kept),
        }
    }
    #[expect(clippy::should_implement_trait, reason = "it simplifies, which nobody expects of an operator")]
    pub fn not(self) -> Formula {
        match self {
            Formula::Everyone => Formula::Nobody,
            Formula::Nobody => Formula::Everyone,
            Formula::Not(inner) => *inner,
            formula => Formula::Not(formula.into()),
        }
    }
}
