//! Which audiences and traits does a configuration define, and in which order are they computed? Pure.
//!
//! One bad audience stops itself and those that refer to it, never the others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ComputedTrait,
    check::{self, Known},
    computed::{self, Computed, Definition, Sql},
    key::{self, Taken},
    options::Options,
    parse, parse_trait,
    statement::Statement,
};
use crate::{Error, Result, config};

/// An audience or a computed trait, understood: parsed, checked, and an audience split into conditions.
#[derive(Debug, Clone)]
pub struct Audience {
    pub key: String,
    pub name: String,
    pub query: String,
    pub enabled: bool,
    pub options: Options,
    pub computed: Computed,
    /// The audiences and computed traits it refers to, by the keys under which they are stored.
    pub references: BTreeSet<String>,
    /// Identify events told a second, where that is limited.
    pub rate_limit: Option<u32>,
    /// Who is told, by name.
    pub destinations: Vec<String>,
    /// Whether the key was derived from the name.
    pub derived_key: bool,
    /// When it is computed, for people.
    pub schedule: Option<String>,
    /// Whether it may take the key of a deleted audience.
    pub reuse_deleted_key: bool,
    /// What a run may change without being held; none: everything.
    pub guard: Option<config::Bounds>,
}

impl Audience {
    /// What the configuration says of it that neither decides who is in nor how they are told; as text, by its key there.
    pub fn settings(&self) -> BTreeMap<String, String> {
        // The usual guard is not worth a word.
        let guard = match self.guard {
            Some(bounds) if bounds == config::Bounds::default() => None,
            Some(bounds) => Some(bounds.to_string()),
            None => Some("off".into()),
        };
        let settings = [
            ("schedule", self.schedule.clone()),
            ("destinations", Some(self.destinations.join(", "))),
            ("guard", guard),
            ("rate_limit", self.rate_limit.map(|rate| rate.to_string())),
        ];
        settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// All audiences and traits of a configuration.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Each after those it refers to; so traits come first.
    pub audiences: Vec<Audience>,
    /// By key (or name, where no key can be had), why an audience cannot be computed.
    pub refused: BTreeMap<String, Error>,
    /// By key, what looks like a mistake and need not be one.
    pub warnings: Vec<(String, String)>,
}

impl Catalogue {
    /// Reads every definition. `known` is what the store holds; empty where it was not asked.
    pub fn of(config: &config::Config, known: &Known) -> Catalogue {
        let mut catalogue = Catalogue::default();
        let mut taken: Vec<Taken> = known.audiences.iter().filter(|other| other.deleted).cloned().collect();
        let mut configured = BTreeMap::new();
        let mut definitions = BTreeMap::new();
        for audience in &config.audiences {
            match read(config, audience, &taken, known) {
                Ok(key) => {
                    taken.push(Taken { key: key.clone(), name: audience.name.clone(), deleted: false });
                    let definition = match define(config, &key, audience) {
                        Ok(definition) => Some(definition),
                        Err(error) => {
                            catalogue.refused.insert(key.clone(), error);
                            None
                        }
                    };
                    definitions.insert(key.clone(), definition);
                    configured.insert(key, audience);
                }
                Err(error) => drop(catalogue.refused.insert(audience.name.clone(), error)),
            }
        }
        let mut traits = BTreeMap::new();
        for computed in &config.traits {
            let key = key::key_of(&computed.name, computed.key.as_deref()).and_then(|key| {
                key::check_free(&computed.name, &key, &taken, computed.reuse_deleted_key)?;
                // A computed trait that takes the place of an imported one has always been meant.
                not_hidden(config, &computed.name, &key, &Known::default(), computed.hides_trait).map(|()| key)
            });
            match key {
                Ok(key) => {
                    taken.push(Taken { key: key.clone(), name: computed.name.clone(), deleted: false });
                    traits.insert(key, computed);
                }
                Err(error) => drop(catalogue.refused.insert(computed.name.clone(), error)),
            }
        }
        let columns = traits.values().flat_map(|of| of.queries.iter().flat_map(|queries| queries.keys().cloned()));
        let keys = taken.iter().map(|taken| taken.key.clone()).chain(columns).collect();
        for (key, computed) in &traits {
            catalogue.take(config, key.clone(), computed, &keys, known);
        }
        let mut stored: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (key, computed) in &traits {
            let sound = (!catalogue.refused.contains_key(key)).then(|| key.clone());
            let columns = computed.queries.iter().flat_map(|queries| queries.keys());
            stored.extend(columns.chain([key]).map(|name| (name.clone(), sound.clone())));
        }
        let mut checked = check::check(&definitions, &stored, known);
        catalogue.refused.append(&mut checked.refused);
        catalogue.warnings.append(&mut checked.warnings);
        for key in checked.order {
            let (Some(audience), Some(formula), Some(Some(definition))) =
                (configured.get(&key), checked.formulas.remove(&key), definitions.remove(&key))
            else {
                continue;
            };
            catalogue.audiences.push(Audience {
                name: audience.name.clone(),
                query: audience.definition(),
                enabled: audience.enabled,
                options: Options::of(audience),
                rate_limit: audience.rate_limit.map(std::num::NonZeroU32::get),
                computed: Computed::Members { definition, formula },
                references: checked.references.remove(&key).unwrap_or_default(),
                destinations: match &audience.destinations {
                    Some(destinations) => destinations.clone(),
                    None => config.destinations.keys().cloned().collect(),
                },
                derived_key: audience.key.is_none(),
                schedule: audience.schedule.as_ref().map(ToString::to_string),
                reuse_deleted_key: audience.reuse_deleted_key,
                guard: config::Guard::bounds(audience.guard.as_ref(), config.guard.as_ref()),
                key,
            });
        }
        catalogue
    }

    /// Reads a computed trait's definition. `keys` are those of everything that is computed.
    fn take(
        &mut self,
        config: &config::Config,
        key: String,
        computed: &config::Trait,
        keys: &BTreeSet<String>,
        known: &Known,
    ) {
        let mut read = |key: &str, query: &str| -> Result<ComputedTrait> {
            let definition = parse_trait(&format!("trait '{key}'"), query)?;
            parse::without_references(&format!("trait '{key}'"), query, keys)?;
            check::without_entities(&computed::as_expr(&definition))?;
            let warnings = check::unknown_names(&computed::as_expr(&definition), known, keys);
            self.warnings.extend(warnings.into_iter().map(|warning| (key.to_owned(), warning)));
            Ok(definition)
        };
        let definition = match (&computed.query, &computed.queries, &computed.sql) {
            (Some(query), None, None) => read(&key, query).map(Computed::Value),
            (None, Some(queries), None) => {
                let columns = queries.iter().map(|(key, query)| Ok((key.clone(), read(key, query)?)));
                columns.collect::<Result<_>>().map(Computed::Columns)
            }
            (None, None, Some(sql)) => Statement::of(config, sql, computed.source.as_deref())
                .map(|statement| Computed::Sql(Sql { statement, additive: computed.additive })),
            _ => Err(Error::settings(format!("trait '{key}' has no definition, or several"))
                .help("Give it one of `query`, `queries` and `sql`.")),
        };
        let definition = match definition {
            Ok(definition) => definition,
            Err(error) => return drop(self.refused.insert(key, error)),
        };
        self.audiences.push(Audience {
            name: computed.name.clone(),
            query: computed.definition(),
            enabled: computed.enabled,
            options: Options::of_trait(computed),
            computed: definition,
            references: BTreeSet::new(),
            rate_limit: computed.rate_limit.map(std::num::NonZeroU32::get),
            destinations: match &computed.destinations {
                Some(destinations) => destinations.clone(),
                None => config.destinations.keys().cloned().collect(),
            },
            derived_key: computed.key.is_none(),
            schedule: computed.schedule.as_ref().map(ToString::to_string),
            reuse_deleted_key: computed.reuse_deleted_key,
            guard: config::Guard::bounds(computed.guard.as_ref(), config.guard.as_ref()),
            key,
        });
    }

    /// Keeps the audiences and traits of these keys, or all enabled ones when none is given.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] for a key that none has; the refused ones' own errors stay in `refused`.
    pub fn select(mut self, keys: &[String]) -> Result<Catalogue> {
        if keys.is_empty() {
            self.audiences.retain(|audience| audience.enabled);
            return Ok(self);
        }
        for key in keys {
            let known = self.audiences.iter().map(|audience| audience.key.as_str());
            let known: Vec<&str> = known.chain(self.refused.keys().map(String::as_str)).collect();
            if !known.contains(&key.as_str()) {
                let near = parse::nearest(key, known.iter().copied());
                let help = near.map(|near| format!("Did you mean '{near}'? ")).unwrap_or_default();
                return Err(Error::settings(format!("no audience or trait has the key '{key}'"))
                    .help(format!("{help}`rollcall audiences` lists them.")));
            }
        }
        self.audiences.retain(|audience| keys.contains(&audience.key));
        self.refused.retain(|key, _| keys.contains(key));
        Ok(self)
    }
}

/// Who is in, as it is written.
fn define(config: &config::Config, key: &str, audience: &config::Audience) -> Result<Definition> {
    match (&audience.query, &audience.sql) {
        (Some(query), None) => parse(&format!("audience '{key}'"), query).map(Definition::Query),
        (None, Some(sql)) => Statement::of(config, sql, audience.source.as_deref()).map(Definition::Statement),
        _ => Err(Error::settings(format!("audience '{key}' has no definition, or two"))
            .help("Give it one of `query` and `sql`.")),
    }
}

fn read(config: &config::Config, audience: &config::Audience, taken: &[Taken], known: &Known) -> Result<String> {
    let key = key::key_of(&audience.name, audience.key.as_deref())?;
    key::check_free(&audience.name, &key, taken, audience.reuse_deleted_key)?;
    not_hidden(config, &audience.name, &key, known, audience.hides_trait)?;
    Ok(key)
}

fn not_hidden(config: &config::Config, name: &str, key: &str, known: &Known, hides: bool) -> Result<()> {
    let types: Vec<&str> = config.identity.identifiers.iter().map(|of| of.kind.as_str()).collect();
    key::check_hidden(name, key, &types, known.carried.get(key).copied(), hides)
}
