//! What do the definitions say of one person, now and later? Each after those it refers to, as in a run at that instant. Pure.
//!
//! Nothing more is heard of the person. It never says "never" of what refers to a statement, which nobody here can look into.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json};

use super::{
    Class, ComputedTrait,
    ast::Expr,
    catalogue::Audience,
    computed::{Computed, Definition, as_expr},
    explain::{self, Explanation, NextChange},
    interpret::{self, Profile},
};

/// All that is known of one person, and all that is computed.
#[derive(Debug)]
pub struct Outlook<'c> {
    /// Each after those it refers to.
    pub audiences: &'c [Audience],
    /// With the last values of computed traits that are not configured any more among the traits.
    pub history: Profile,
    /// The types of identifiers that the person has.
    pub identifier_types: BTreeSet<String>,
    /// Of computed traits, as JSON text: those of their last runs, then those found here.
    pub values: BTreeMap<String, String>,
    /// The audiences that the person is in as of their last runs.
    pub member_of: BTreeSet<String>,
}

impl<'c> Outlook<'c> {
    /// Whether the person has an identifier under which the audience or trait is told. Without one they are no member.
    pub fn counts(&self, audience: &Audience) -> bool {
        audience.options.counting_types().iter().any(|kind| self.identifier_types.contains(*kind))
    }

    /// Explains an audience's definition at instant `at`, and when time alone changes its answer or one that it refers to.
    pub fn explain(&mut self, audience: &Audience, definition: &Expr, at: DateTime<Utc>) -> Explanation {
        let referred = self.referred(audience);
        self.compute(&referred, at);
        let reason = explain::reason(definition, &self.history, at);
        let statement = |of: &&&Audience| match &of.computed {
            Computed::Sql(_) => true,
            Computed::Members { definition, .. } => matches!(definition, Definition::Statement(_)),
            Computed::Value(_) | Computed::Columns(_) => false,
        };
        let next_change = if !self.counts(audience) {
            NextChange::Never
        } else if referred.iter().find(statement).is_some() {
            NextChange::Unknown
        } else {
            let edges = explain::edges(&self.expressions(definition, &referred), &self.history, at);
            explain::next_change(edges, reason.holds, |later| {
                self.compute(&referred, later);
                interpret::holds(definition, &self.history, later)
            })
        };
        Explanation { holds: reason.holds, evaluated_at: at, next_change, reason }
    }

    /// The value of a computed trait. What is 0 without events is so for whoever had a value, as in a run.
    pub fn value(&mut self, key: &str, definition: &ComputedTrait, at: DateTime<Utc>) -> Option<String> {
        let found = interpret::value(definition, &self.history, at).0;
        if let Some(found) = &found {
            self.values.insert(key.to_owned(), found.clone());
        }
        let is_zero = definition.reducer.is_zero_of_nothing() && self.values.contains_key(key);
        found.or_else(|| is_zero.then(|| "0".to_owned()))
    }

    /// What the audience refers to, directly or not, each after those it refers to itself.
    fn referred(&self, audience: &Audience) -> Vec<&'c Audience> {
        let mut keys = audience.references.clone();
        let mut referred: Vec<&Audience> = Vec::new();
        for of in self.audiences.iter().rev().filter(|of| of.key != audience.key) {
            if keys.contains(&of.key) {
                keys.extend(of.references.iter().cloned());
                referred.push(of);
            }
        }
        referred.reverse();
        referred
    }

    /// Every definition on which the answer depends.
    fn expressions(&self, definition: &Expr, referred: &[&Audience]) -> Vec<Expr> {
        let of = |audience: &&Audience| match &audience.computed {
            Computed::Members { definition: Definition::Query(definition), .. } => vec![definition.clone()],
            computed => computed.definitions().into_iter().map(as_expr).collect(),
        };
        std::iter::once(definition.clone()).chain(referred.iter().flat_map(of)).collect()
    }

    /// Computes these at instant `at`, in their order, and lets the history say so.
    fn compute(&mut self, referred: &[&Audience], at: DateTime<Utc>) {
        for audience in referred {
            match audience.computed.class() {
                Class::Audience => {
                    let member = self.is_member(audience, at);
                    self.history.memberships.insert(audience.key.clone(), member);
                }
                Class::Trait => {
                    let values = self.values_of(audience, at);
                    if let Json::Object(traits) = &mut self.history.traits {
                        traits.extend(values);
                    }
                }
            }
        }
    }

    fn is_member(&self, audience: &Audience, at: DateTime<Utc>) -> bool {
        match &audience.computed {
            Computed::Members { definition: Definition::Query(definition), .. } => {
                self.counts(audience) && interpret::holds(definition, &self.history, at)
            }
            // Whoever refers to it gets its last members.
            _ => self.member_of.contains(&audience.key),
        }
    }

    /// By the keys under which definitions read them: what is told together also below that of the whole, and what a statement
    /// yields there alone.
    fn values_of(&mut self, audience: &Audience, at: DateTime<Utc>) -> Map<String, Json> {
        let counts = self.counts(audience);
        let mut value =
            |key: &str, definition: &ComputedTrait| json(self.value(key, definition, at).filter(|_| counts).as_deref());
        match &audience.computed {
            Computed::Value(definition) => Map::from_iter([(audience.key.clone(), value(&audience.key, definition))]),
            Computed::Columns(columns) => {
                let all = columns.iter().map(|(key, definition)| (key.clone(), value(key, definition)));
                let mut all = Map::from_iter(all);
                let there: Map<_, _> = all.clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
                all.insert(audience.key.clone(), if there.is_empty() { Json::Null } else { there.into() });
                all
            }
            _ => Map::from_iter([(audience.key.clone(), json(self.values.get(&audience.key).map(String::as_str)))]),
        }
    }
}

/// A stored value; null for none.
pub fn json(text: Option<&str>) -> Json {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Json::Null)
}
