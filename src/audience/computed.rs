//! What is computed of each profile: whether it is in, or a value? Pure.

use std::hash::{Hash, Hasher};

use super::{
    ComputedTrait,
    ast::{Comparator, Comparison, Expr, Scalar},
    conditions::Formula,
};
use crate::{
    Error, Result,
    config::{Config, Secret},
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

/// A statement that yields users, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Statement {
    pub text: String,
    /// None: in the store's own database.
    pub elsewhere: Option<Elsewhere>,
}

impl Statement {
    /// In the database of the source of this name, or in the store's own.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if there is no such source.
    pub fn of(config: &Config, text: &str, source: Option<&str>) -> Result<Statement> {
        let elsewhere = source.map(|name| Elsewhere::of(config, name)).transpose()?.flatten();
        Ok(Statement { text: text.to_owned(), elsewhere })
    }
}

/// The database of a source that is not the store's own.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub source: String,
    pub database: Secret,
}

/// In one configuration a name stands for one database.
impl PartialEq for Elsewhere {
    fn eq(&self, other: &Elsewhere) -> bool {
        self.source == other.source
    }
}

impl Eq for Elsewhere {}

impl Hash for Elsewhere {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl Elsewhere {
    /// Where the source's tables are; none if that is the store's own database.
    fn of(config: &Config, source: &str) -> Result<Option<Elsewhere>> {
        let found = config.sources.get(source).ok_or_else(|| {
            Error::settings(format!("there is no source '{source}'"))
                .help("Define it under `sources`; its `database` is enough.")
        })?;
        Ok(found.database.clone().map(|database| Elsewhere { source: source.to_owned(), database }))
    }
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
