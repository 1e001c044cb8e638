//! Which comparisons of a definition answer for people who lack a trait, where its author may not think of them? Pure.
//!
//! `trait('plan') != 'pro'` is false for who has no plan, as the language says; negations are true for them. Neither is wrong, so each
//! is told with how many people it decides about, and with what says the other.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::{
    ast::{Comparator, Comparison, Operand, Path, Scalar, Segment},
    conditions::{Condition, Formula},
};

/// A comparison that decides about people who lack its trait.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// As it stands in the definition.
    said: String,
    /// What has the other answer for them.
    instead: String,
    named: String,
    /// The whole definition, with the other answer for them.
    pub otherwise: Formula,
}

/// How many people a comparison decides about who lack its trait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub comparison: String,
    #[serde(rename = "trait")]
    pub named: String,
    /// People who lack the trait and are out, and would be in.
    pub left_out: u64,
    /// People who lack the trait and are in, and would be out.
    pub counted_in: u64,
    /// What has the other answer for them.
    pub instead: String,
}

impl Gap {
    /// What it means for so many people; none if it means nothing.
    pub fn of(&self, left_out: u64, counted_in: u64) -> Option<Missing> {
        let Gap { said, instead, named, .. } = self.clone();
        (left_out + counted_in > 0).then_some(Missing { comparison: said, named, left_out, counted_in, instead })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { comparison, named, left_out, counted_in, instead } = self;
        let people = |n: u64| if n == 1 { "1 person who has".into() } else { format!("{n} people who have") };
        if *left_out > 0 {
            write!(
                f,
                "`{comparison}` leaves out {} no '{named}': to count them in, write `{instead}` instead",
                people(*left_out)
            )?;
        }
        if *counted_in > 0 {
            let joint = if *left_out > 0 { "; it " } else { "" };
            let subject = if *left_out > 0 { String::new() } else { format!("`{comparison}` ") };
            write!(
                f,
                "{joint}{subject}counts in {} no '{named}': to leave them out, write `{instead}` instead",
                people(*counted_in)
            )?;
        }
        Ok(())
    }
}

/// Each comparison of that kind, once.
pub fn gaps(formula: &Formula) -> Vec<Gap> {
    let mut terms = BTreeSet::new();
    collect(formula, &mut terms);
    let of = |(comparison, negated): (Comparison, bool)| {
        let named = first(&comparison.left)?.to_owned();
        let not = |comparison: &Comparison| format!("NOT {comparison}");
        let with = |comparator| Comparison { left: comparison.left.clone(), comparator };
        let exists = with(Comparator::Exists);
        let (said, instead) = match &comparison.comparator {
            Comparator::Differs(operand) if !negated => {
                (comparison.to_string(), not(&with(Comparator::Equals(operand.clone()))))
            }
            _ if negated => (not(&comparison), format!("{} AND {exists}", not(&comparison))),
            _ => (comparison.to_string(), format!("{comparison} AND {exists}")),
        };
        let otherwise = replaced(formula, &comparison, negated);
        Some(Gap { said, instead, named, otherwise })
    };
    terms.into_iter().filter_map(of).collect()
}

/// The comparisons that decide about who lacks their trait, each with whether a `NOT` stands right before it.
fn collect(formula: &Formula, terms: &mut BTreeSet<(Comparison, bool)>) {
    let found = match formula {
        Formula::And(parts) | Formula::Or(parts) => return parts.iter().for_each(|part| collect(part, terms)),
        Formula::Not(inner) => match leaf(inner) {
            Some(comparison) if is_false_without(&comparison.comparator) => Some((comparison.clone(), true)),
            _ => return collect(inner, terms),
        },
        _ => leaf(formula).filter(|of| decides(&of.comparator)).map(|comparison| (comparison.clone(), false)),
    };
    terms.extend(found);
}

/// A comparison of a trait with literals.
fn leaf(formula: &Formula) -> Option<&Comparison> {
    let (Formula::Condition(Condition(comparison)) | Formula::Value(comparison)) = formula else { return None };
    let literal = |operand: &Operand| matches!(operand, Operand::Literal(_));
    (first(&comparison.left).is_some() && comparison.comparator.operands().iter().all(literal)).then_some(comparison)
}

fn first(scalar: &Scalar) -> Option<&str> {
    let (Scalar::Trait(Path(path)) | Scalar::Computed(Path(path))) = scalar else { return None };
    match path.first() {
        Some(Segment::Key(name)) => Some(name),
        _ => None,
    }
}

/// Denies something, and so decides about who lacks the trait.
fn decides(comparator: &Comparator) -> bool {
    matches!(comparator, Comparator::Differs(_) | Comparator::Omits(_) | Comparator::NoneOf(_))
}

/// Affirms something, of which a `NOT` before it is true for who lacks the trait.
fn is_false_without(comparator: &Comparator) -> bool {
    !decides(comparator) && !matches!(comparator, Comparator::Exists | Comparator::Absent)
}

/// The definition in which that comparison has the other answer for who lacks its trait.
fn replaced(formula: &Formula, comparison: &Comparison, negated: bool) -> Formula {
    let parts = |parts: &[Formula]| parts.iter().map(|part| replaced(part, comparison, negated)).collect();
    let like = |formula: &Formula, comparator| match formula {
        Formula::Value(_) => Formula::Value(Comparison { left: comparison.left.clone(), comparator }),
        _ => Formula::Condition(Condition(Comparison { left: comparison.left.clone(), comparator })),
    };
    match formula {
        Formula::Not(inner) if negated && leaf(inner) == Some(comparison) => {
            Formula::And(vec![formula.clone(), like(inner, Comparator::Exists)])
        }
        Formula::Not(inner) => replaced(inner, comparison, negated).not(),
        Formula::And(terms) => Formula::And(parts(terms)),
        Formula::Or(terms) => Formula::Or(parts(terms)),
        _ if negated || leaf(formula) != Some(comparison) => formula.clone(),
        _ => match &comparison.comparator {
            Comparator::Differs(operand) => like(formula, Comparator::Equals(operand.clone())).not(),
            _ => Formula::And(vec![formula.clone(), like(formula, Comparator::Exists)]),
        },
    }
}
