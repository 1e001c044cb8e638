//! What must be asked of the store? A definition split into conditions (asked once each, whoever shares them) and the
//! formula that combines their answers.
//!
//! A condition never refers to an audience: a reference is a term of the formula, so conditions read the store alone.
//! A reference inside `where(…)` is split off by cases: the condition with the reference taken as `'true'`, and as
//! `'false'`, each joined with the referred membership or its complement.

use super::ast::Comparison;

/// One comparison over one event stream, one trait, or both; its answer is a set of profiles.
///
/// Equal conditions of different audiences are equal values, so that each is evaluated once in a tick.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Condition(pub Comparison);

/// How the answers combine. Complements are taken within the universe (everyone in the store).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    Everyone,
    Nobody,
    Condition(Condition),
    /// Membership of the audience with this key, as computed in the same tick or last stored.
    Member(String),
    Not(Box<Formula>),
    And(Vec<Formula>),
    Or(Vec<Formula>),
}
