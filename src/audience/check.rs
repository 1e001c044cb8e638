//! Do the definitions of a configuration hold together? References, the order of computation, and what is not known.
//!
//! One bad audience stops itself and those that refer to it, never the others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ast::{EventValue, Expr, Path, Reducer, Scalar, Segment, Source},
    computed::Definition,
    conditions::{Formula, Keys, account_level, formula, references},
    key::Taken,
    parse::nearest,
    visit,
};
use crate::error::{Error, Result};

/// What is known of the store's contents. Empty where nothing is known.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Every audience that the store knows, deleted ones too. Those that are not configured are not computed any more: whoever
    /// refers to one gets its last members, and is refused if it was deleted.
    pub audiences: Vec<Taken>,
    /// Every computed trait that the store knows, by key with its name; deleted ones are above. Whoever refers to one that is
    /// not configured gets its last values.
    pub computed: BTreeMap<String, String>,
    pub events: BTreeSet<String>,
    /// First names of trait paths, computed traits included.
    pub traits: BTreeSet<String>,
    /// By event name: first names of property paths.
    pub properties: BTreeMap<String, BTreeSet<String>>,
    /// Imported traits by the name of an audience or computed trait that is new or deleted, with how many profiles carry each.
    pub carried: BTreeMap<String, u64>,
}

/// The audiences of a configuration, ready to be computed.
#[derive(Debug, Default)]
pub struct Checked {
    /// Each after those it refers to.
    pub order: Vec<String>,
    /// By key, of those in `order`.
    pub formulas: BTreeMap<String, Formula>,
    /// By key, the audiences and computed traits that a definition refers to, by the keys under which they are stored.
    pub references: BTreeMap<String, BTreeSet<String>>,
    /// By key, why an audience cannot be computed.
    pub refused: BTreeMap<String, Error>,
    /// By key, what looks like a mistake and need not be one.
    pub warnings: Vec<(String, String)>,
}

/// Checks all audiences together. `audiences` are definitions by key; `None` is one that could not be read, which keeps
/// its key: what refers to it must not take it for a trait.
///
/// `traits` are the keys of computed values, each with the key under which it is stored; none where it cannot be computed.
pub fn check(
    audiences: &BTreeMap<String, Option<Definition>>,
    traits: &BTreeMap<String, Option<String>>,
    known: &Known,
) -> Checked {
    let others: BTreeMap<&str, bool> = known
        .audiences
        .iter()
        .filter(|other| !audiences.contains_key(&other.key) && !traits.contains_key(&other.key))
        // What hid an imported trait hides it no longer.
        .filter(|other| !other.deleted || !known.carried.contains_key(&other.key))
        .map(|other| (other.key.as_str(), other.deleted))
        .collect();
    let keys: BTreeSet<String> = audiences.keys().cloned().chain(others.keys().map(ToString::to_string)).collect();
    let unconfigured = known.computed.keys().filter(|key| !audiences.contains_key(*key));
    let computed: BTreeSet<String> = traits.keys().chain(unconfigured).cloned().collect();
    let stored = |key: &String| (key.clone(), traits.get(key).and_then(Option::as_ref).unwrap_or(key).clone());
    let named: BTreeSet<String> = keys.union(&computed).cloned().collect();
    let keys = Keys { audiences: keys, traits: computed.iter().map(stored).collect() };
    let mut checked = Checked::default();
    let mut edges = BTreeMap::new();
    for (key, definition) in audiences {
        let definition = match definition {
            Some(Definition::Query(definition)) => definition,
            Some(Definition::Statement(statement)) => {
                // What it reads, nobody here knows; audiences it does not refer to.
                edges.insert(key.as_str(), BTreeSet::new());
                checked.formulas.insert(key.clone(), Formula::Statement(statement.clone()));
                continue;
            }
            None => continue,
        };
        edges.insert(key.as_str(), references(definition, &keys.audiences));
        for warning in unknown_names(definition, known, &named) {
            checked.warnings.push((key.clone(), warning));
        }
        if let Some(gone) = edges[key.as_str()].iter().find(|other| others.get(other.as_str()) == Some(&true)) {
            let error = Error::definition(format!("it refers to '{gone}', which is deleted"))
                .help("Nobody computes that any more: leave it out of the definition, or define the audience again.");
            checked.refused.insert(key.clone(), error);
        }
        if let Some(bad) = refused_trait(definition, traits) {
            let error = Error::definition(format!("it refers to the computed trait '{bad}', which cannot be computed"));
            checked.refused.insert(key.clone(), error.help("Mend that one first."));
        }
        let formula = users_level(definition).and_then(|()| formula(definition, &keys));
        match formula {
            Ok(formula) => drop(checked.formulas.insert(key.clone(), formula)),
            Err(error) => drop(checked.refused.insert(key.clone(), error)),
        }
    }
    for key in edges.keys().copied() {
        if let Some(path) = cycle(key, &edges) {
            checked.refused.entry(key.to_owned()).or_insert_with(|| {
                Error::definition("The audience would create a cycle by referencing another audience")
                    .help(format!("Break the circle {}.", path.join(" → ")))
            });
        }
    }
    order(&edges, &others, &mut checked);
    checked.formulas.retain(|key, _| !checked.refused.contains_key(key));
    checked.references = edges.into_iter().map(|(key, references)| (key.to_owned(), references)).collect();
    for (key, formula) in &checked.formulas {
        let traits = formula.computed().into_iter().map(ToOwned::to_owned);
        checked.references.entry(key.clone()).or_default().extend(traits);
    }
    checked
}

/// A computed trait that a definition reads and that cannot be computed.
fn refused_trait<'d>(definition: &'d Expr, traits: &BTreeMap<String, Option<String>>) -> Option<&'d str> {
    let mut bad = None;
    visit::comparisons(definition, &mut |comparison| {
        let named = comparison.scalars().filter_map(|scalar| match scalar {
            Scalar::Trait(path) => Some(first(path)),
            _ => None,
        });
        bad = bad.or(named.into_iter().find(|key| traits.get(*key) == Some(&None)));
    });
    bad
}

/// Refuses what is read but not computed yet.
fn users_level(definition: &Expr) -> Result<()> {
    match definition {
        Expr::Any(_) | Expr::All(_) => return Err(account_level()),
        Expr::Not(inner) => users_level(inner)?,
        Expr::And(terms) | Expr::Or(terms) => terms.iter().try_for_each(users_level)?,
        Expr::Compare(_) => {}
    }
    without_entities(definition)
}

/// Refuses linked audiences; of a computed trait, too.
pub(super) fn without_entities(definition: &Expr) -> Result<()> {
    let mut entity = None;
    visit::comparisons(definition, &mut |comparison| {
        for scalar in comparison.scalars() {
            if let Scalar::Reduce(stream, _) = scalar
                && let Source::Entity(name) = &stream.source
            {
                entity.get_or_insert(name.clone());
            }
        }
    });
    match entity {
        Some(name) => {
            Err(Error::definition(format!("entity('{name}') is of a linked audience, and those are not computed yet"))
                .help("Import what the entity holds as events or traits, and refer to these."))
        }
        None => Ok(()),
    }
}

/// The shortest way from an audience back to itself along references.
fn cycle(key: &str, edges: &BTreeMap<&str, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut paths = vec![vec![key.to_owned()]];
    let mut seen = BTreeSet::new();
    let mut at = 0;
    while at < paths.len() {
        let path = paths[at].clone();
        at += 1;
        for next in path.last().and_then(|last| edges.get(last.as_str())).into_iter().flatten() {
            let longer: Vec<_> = path.iter().cloned().chain([next.clone()]).collect();
            if next == key {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                paths.push(longer);
            }
        }
    }
    None
}

/// Takes audiences whose references are all taken, until none is left but those that hang on refused ones.
/// `others` are not configured, so they have their members already.
fn order(edges: &BTreeMap<&str, BTreeSet<String>>, others: &BTreeMap<&str, bool>, checked: &mut Checked) {
    let mut waiting: BTreeMap<&str, &BTreeSet<String>> = edges
        .iter()
        .filter(|(key, _)| !checked.refused.contains_key(**key))
        .map(|(key, references)| (*key, references))
        .collect();
    let mut taken: BTreeSet<String> = others.keys().map(ToString::to_string).collect();
    loop {
        let ready: Vec<String> = waiting
            .iter()
            .filter(|(_, references)| references.is_subset(&taken))
            .map(|(key, _)| (*key).to_owned())
            .collect();
        if ready.is_empty() {
            break;
        }
        for key in ready {
            waiting.remove(key.as_str());
            taken.insert(key.clone());
            checked.order.push(key);
        }
    }
    for (key, references) in waiting {
        let bad: Vec<_> = references.difference(&taken).map(|key| format!("'{key}'")).collect();
        let error = Error::definition(format!("it refers to {}, which cannot be computed", bad.join(" and ")))
            .help("Mend that one first.");
        checked.refused.insert(key.to_owned(), error);
    }
}

/// Names that nothing in the store has; none where nothing is known.
pub fn unknown_names(definition: &Expr, known: &Known, audiences: &BTreeSet<String>) -> Vec<String> {
    let mut warnings = BTreeSet::new();
    let mut see = |what: &str, name: &str, names: &mut dyn Iterator<Item = &str>| {
        let names: BTreeSet<&str> = names.collect();
        if names.is_empty() || names.contains(name) {
            return;
        }
        let hint = nearest(name, names).map_or(String::new(), |name| format!(" (did you mean '{name}'?)"));
        warnings.insert(format!("no {what} '{name}' has been seen yet{hint}"));
    };
    visit::comparisons(definition, &mut |comparison| {
        for scalar in comparison.scalars() {
            match scalar {
                Scalar::Trait(path) => {
                    let traits = known.traits.iter().map(String::as_str);
                    // Without known traits there is no telling an audience from a trait.
                    let audiences = audiences.iter().map(String::as_str).filter(|_| !known.traits.is_empty());
                    see("trait", first(path), &mut traits.chain(audiences));
                }
                Scalar::Reduce(stream, reducer) => {
                    let Source::Event(event) = &stream.source else { continue };
                    see("event", event, &mut known.events.iter().map(String::as_str));
                    let properties = known.properties.get(event).into_iter().flatten().map(String::as_str);
                    if let Some(EventValue::Property(path)) = reducer.value() {
                        see(&format!("property of '{event}'"), first(path), &mut properties.clone());
                    }
                    for condition in stream.conditions() {
                        direct_properties(condition, &mut |path| {
                            see(&format!("property of '{event}'"), first(path), &mut properties.clone());
                        });
                    }
                }
                _ => {}
            }
        }
    });
    warnings.into_iter().collect()
}

/// Properties of the event whose `where(…)` this is, not of events within it.
fn direct_properties(condition: &Expr, see: &mut dyn FnMut(&Path)) {
    match condition {
        Expr::And(terms) | Expr::Or(terms) => terms.iter().for_each(|term| direct_properties(term, see)),
        Expr::Not(inner) | Expr::Any(inner) | Expr::All(inner) => direct_properties(inner, see),
        Expr::Compare(comparison) => comparison.scalars().for_each(|scalar| {
            if let Scalar::Property(path) = scalar {
                see(path);
            }
        }),
    }
}

fn first(path: &Path) -> &str {
    match path.0.first() {
        Some(Segment::Key(name)) => name,
        _ => "$",
    }
}

impl Reducer {
    /// What it reads of each event; `count()` reads nothing.
    pub fn value(&self) -> Option<&EventValue> {
        match self {
            Reducer::Count => None,
            Reducer::Sum(value)
            | Reducer::Avg(value)
            | Reducer::Min(value, _)
            | Reducer::Max(value, _)
            | Reducer::Mode { value, .. }
            | Reducer::First(value)
            | Reducer::Last(value)
            | Reducer::Unique(value)
            | Reducer::UniqueCount(value) => Some(value),
        }
    }
}
