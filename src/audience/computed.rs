//! What is computed of each profile: whether it is in, or a value? Pure.

use super::{
    ComputedTrait,
    ast::{Comparator, Comparison, Expr, Scalar},
    conditions::Formula,
    statement::Statement,
};
/// What is computed.
#[derive(Debug, Clone)]
pub enum Computed {
    /// An audience: who is in.
    Members { definition: Definition, formula: Formula },
    /// A computed trait: which value each has.
    Value(ComputedTrait),
    /// Several, told together, by their keys.
    Columns(Vec<(String, ComputedTrait)>),
    /// The columns that a statement yields for each user.
    Sql(Sql),
}

/// What an audience is defined by.
#[derive(Debug, Clone, PartialEq)]
pub enum Definition {
    /// The audience language.
    Query(Expr),
    /// A statement that yields user ids.
    Statement(Statement),
}

/// A trait whose values come out of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// Yields `user_id` and the columns.
    pub statement: Statement,
    /// Whether users that it no longer yields keep their values.
    pub additive: bool,
}

/// Audience or trait, as the store and the peer's `computation_class` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    #[default]
    Audience,
    Trait,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Audience => "audience",
            Class::Trait => "trait",
        }
    }

    pub fn with_article(self) -> &'static str {
        match self {
            Class::Audience => "an audience",
            Class::Trait => "a computed trait",
        }
    }

    /// Of what the store holds.
    pub fn of(stored: &str) -> Class {
        if stored == "trait" { Class::Trait } else { Class::Audience }
    }
}

impl Computed {
    pub fn class(&self) -> Class {
        match self {
            Computed::Members { .. } => Class::Audience,
            Computed::Value(_) | Computed::Columns(_) | Computed::Sql(_) => Class::Trait,
        }
    }

    /// The definitions over events, in the order of columns.
    pub fn definitions(&self) -> Vec<&ComputedTrait> {
        match self {
            Computed::Value(definition) => vec![definition],
            Computed::Columns(columns) => columns.iter().map(|(_, definition)| definition).collect(),
            Computed::Members { .. } | Computed::Sql(_) => Vec::new(),
        }
    }

    /// How members follow from conditions; none for a trait.
    pub fn formula(&self) -> Option<&Formula> {
        match self {
            Computed::Members { formula, .. } => Some(formula),
            Computed::Value(_) | Computed::Columns(_) | Computed::Sql(_) => None,
        }
    }
}

/// The trait as an expression, for whoever walks over expressions.
pub fn as_expr(definition: &ComputedTrait) -> Expr {
    let left = Scalar::Reduce(definition.stream.clone().into(), definition.reducer.clone());
    Expr::Compare(Comparison { left, comparator: Comparator::Exists })
}
