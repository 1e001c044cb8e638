//! Which statement of a user's own is meant, and in whose database does it run? Pure.

use std::hash::{Hash, Hasher};

use crate::{
    Error, Result,
    config::{Config, Secret},
};

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
