//! What is different between a configuration and what the store knows of it? Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, AudienceChange, DestinationChange, Field};
use crate::{
    audience::{self, Class, catalogue::Audience, options::Options},
    config::{Config, OnDelete, Strategy},
    registry::configured::{self, Configured, Settings},
};

/// What becomes of each audience that changes, and of those that refer to one: in the order of the configuration's
/// dependencies, removed ones last. `configured` are all keys of the configuration, also of those that cannot be understood, of
/// which nothing can be said.
pub fn audiences(wanted: &[Audience], configured: &BTreeSet<String>, stored: &[Configured]) -> Vec<AudienceChange> {
    let stored: BTreeMap<&str, &Configured> = stored.iter().map(|of| (of.key.as_str(), of)).collect();
    let mut changes = Vec::new();
    for of in wanted {
        let known = stored.get(of.key.as_str()).copied();
        let mut change = match known.filter(|known| known.state != "deleted") {
            Some(known) => changed(of, known),
            None => added(of, known),
        };
        let follows = of
            .references
            .iter()
            .find(|key| changes.iter().any(|other: &AudienceChange| other.key == **key && other.needs_sync));
        if let Some(other) = follows
            && of.enabled
            && !change.needs_sync
        {
            change.needs_sync = true;
            change.notes.push(format!("refers to '{other}', so it changes with it"));
            if change.fields.is_empty() {
                change.action = Action::Follow;
            }
        }
        if !change.fields.is_empty() || change.needs_sync {
            changes.push(change);
        }
    }
    let gone = stored.values().filter(|known| known.state != "deleted" && !configured.contains(&known.key));
    changes.extend(gone.map(|known| removed(known)));
    hint_at_renames(&mut changes, wanted, &stored);
    changes
}

fn added(of: &Audience, deleted: Option<&Configured>) -> AudienceChange {
    let mut fields = vec![field("query", None, Some(of.query.trim_end().to_owned()))];
    fields.extend(differences(&Settings::new(), &texts(&of.options)));
    fields.extend(differences(&Settings::new(), &of.settings()));
    if !of.enabled {
        fields.push(field("enabled", None, Some("false".into())));
    }
    let reuse = deleted.map(|old| {
        format!("takes the key of the deleted audience '{}' and goes on from what was told under it", old.name)
    });
    AudienceChange {
        action: Action::Add,
        version: deleted.map(|old| old.version),
        needs_sync: of.enabled,
        notes: reuse.into_iter().collect(),
        ..change(&of.key, &of.name, of.computed.class(), fields)
    }
}

fn changed(of: &Audience, known: &Configured) -> AudienceChange {
    let mut fields = Vec::new();
    let mut notes = Vec::new();
    let mut needs_sync = false;
    if of.name != known.name {
        fields.push(field("name", Some(known.name.clone()), Some(of.name.clone())));
    }
    if of.query != known.query {
        fields.push(field("query", Some(known.query.trim_end().into()), Some(of.query.trim_end().into())));
        if same_meaning(&of.query, &known.query) {
            notes.push("the definition means the same as before".into());
        } else {
            needs_sync = true;
        }
    }
    if of.options != known.options {
        fields.extend(differences(&texts(&known.options), &texts(&of.options)));
        // Who can be a member at all.
        needs_sync |= of.options.counting_types() != known.options.counting_types();
        let told = |options: &Options| (options.include_traits.clone(), options.id_sync.clone());
        if told(&of.options) != told(&known.options) {
            notes.push("holds for what is told from now on; whoever was told already is not told again".into());
        }
    }
    let enabled = known.state == "enabled";
    if of.enabled != enabled {
        fields.push(field("enabled", Some(enabled.to_string()), Some(of.enabled.to_string())));
        needs_sync |= of.enabled;
        if !of.enabled {
            notes.push("paused: nothing is computed or told until it is enabled again".into());
        }
    }
    if let Some(settings) = &known.settings {
        let changed = differences(settings, &of.settings());
        if let Some(list) = changed.iter().find(|changed| changed.field == "destinations") {
            let (old, new) = (names(list.from.as_ref()), names(list.to.as_ref()));
            needs_sync |= new.difference(&old).next().is_some();
            let whole = match known.class {
                Class::Audience => "the whole membership",
                Class::Trait => "every value",
            };
            for name in new.difference(&old) {
                notes.push(format!("'{name}' is told {whole}"));
            }
            for name in old.difference(&new) {
                notes.push(format!("'{name}' is told nothing of it any more; what it was told stays as it is"));
            }
        }
        fields.extend(changed);
    }
    AudienceChange {
        action: Action::Change,
        version: Some(known.version),
        needs_sync: needs_sync && of.enabled,
        notes,
        ..change(&of.key, &of.name, of.computed.class(), fields)
    }
}

fn removed(known: &Configured) -> AudienceChange {
    let mut fields = vec![field("query", Some(known.query.trim_end().into()), None)];
    let exit = known.options.on_delete == OnDelete::Exit;
    fields.push(field("on_delete", Some(if exit { "exit" } else { "keep" }.into()), None));
    let note = match (known.class, exit) {
        (Class::Trait, true) => "whoever was told a value is told `null` first",
        (Class::Trait, false) => {
            "nobody is told: who was told a value keeps it (`on_delete: exit` would tell them `null`)"
        }
        (Class::Audience, true) => "its members are told `false` first",
        (Class::Audience, false) => {
            "nobody is told: who was told `true` keeps it (`on_delete: exit` would tell them `false`)"
        }
    };
    AudienceChange {
        action: Action::Remove,
        version: Some(known.version),
        notes: vec![note.into()],
        ..change(&known.key, &known.name, known.class, fields)
    }
}

/// What a removed audience leaves its members with.
pub fn on_delete(change: &AudienceChange) -> OnDelete {
    let exit = change.fields.iter().any(|field| field.field == "on_delete" && field.from.as_deref() == Some("exit"));
    if exit { OnDelete::Exit } else { OnDelete::Keep }
}

/// A new name without a `key` gives another key, and so another audience: most often nobody meant that.
fn hint_at_renames(changes: &mut [AudienceChange], wanted: &[Audience], stored: &BTreeMap<&str, &Configured>) {
    let gone: Vec<String> = changes.iter().filter(|of| of.action == Action::Remove).map(|of| of.key.clone()).collect();
    for of in wanted.iter().filter(|of| of.derived_key) {
        let same = |key: &&String| stored.get(key.as_str()).is_some_and(|old| same_meaning(&old.query, &of.query));
        let Some(old) = gone.iter().find(same) else { continue };
        let added = changes.iter_mut().find(|change| change.key == of.key && change.action == Action::Add);
        let Some(added) = added else { continue };
        added.notes.push(format!(
            "has the definition of '{old}', which is removed: if it is only renamed, set `key: {old}`, and it stays what it is"
        ));
    }
}

/// What becomes of each destination that changes.
pub fn destinations(config: &Config, stored: &BTreeMap<String, Settings>) -> Vec<DestinationChange> {
    let mut changes = Vec::new();
    for (name, of) in &config.destinations {
        let new = configured::settings(of);
        let change = match stored.get(name) {
            Some(old) if *old == new => continue,
            Some(old) => {
                let fields = differences(old, &new);
                let mapping = fields.iter().any(|field| field.field.starts_with("mapping "));
                let note = "holds for what is told from now on; what was told already is not told again";
                let notes = mapping.then(|| note.to_owned()).into_iter().collect();
                DestinationChange { name: name.clone(), action: Action::Change, fields, notes }
            }
            None => {
                let fields = differences(&Settings::new(), &new);
                DestinationChange { name: name.clone(), action: Action::Add, fields, notes: Vec::new() }
            }
        };
        changes.push(change);
    }
    for name in stored.keys().filter(|name| !config.destinations.contains_key(*name)) {
        let note = "told nothing any more; its place in the log is kept";
        changes.push(DestinationChange {
            name: name.clone(),
            action: Action::Remove,
            fields: Vec::new(),
            notes: vec![note.into()],
        });
    }
    changes
}

fn change(key: &str, name: &str, class: Class, fields: Vec<Field>) -> AudienceChange {
    AudienceChange {
        key: key.to_owned(),
        name: name.to_owned(),
        class,
        action: Action::Change,
        fields,
        version: None,
        needs_sync: false,
        effect: None,
        failed: None,
        notes: Vec::new(),
    }
}

fn field(name: &str, from: Option<String>, to: Option<String>) -> Field {
    Field { field: name.to_owned(), from, to }
}

fn differences(old: &Settings, new: &Settings) -> Vec<Field> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed.map(|key| field(key, old.get(key).cloned(), new.get(key).cloned())).collect()
}

/// What is not the default, as text.
fn texts(options: &Options) -> Settings {
    let mut texts = Settings::new();
    if options.include_anonymous {
        texts.insert("include_anonymous".into(), "true".into());
    }
    if !options.include_traits.is_empty() {
        texts.insert("include_traits".into(), options.include_traits.join(", "));
    }
    if !options.id_sync.is_empty() {
        let each = options.id_sync.iter().map(|sync| {
            let strategy = match sync.strategy {
                Strategy::First => "first",
                Strategy::Last => "last",
                Strategy::All => "all",
            };
            let to = sync.map_to.as_ref().map(|to| format!(" as {to}")).unwrap_or_default();
            format!("{} {}{to}", strategy, sync.id)
        });
        texts.insert("id_sync".into(), each.collect::<Vec<_>>().join(", "));
    }
    if options.on_delete == OnDelete::Exit {
        texts.insert("on_delete".into(), "exit".into());
    }
    texts
}

fn names(list: Option<&String>) -> BTreeSet<&str> {
    list.map_or("", String::as_str).split(", ").filter(|name| !name.is_empty()).collect()
}

/// Whether two texts are the same definition, however they are written.
fn same_meaning(one: &str, other: &str) -> bool {
    let members = |text: &str| audience::parse("the definition", text).ok();
    let value = |text: &str| audience::parse_trait("the definition", text).ok();
    one == other
        || matches!((members(one), members(other)), (Some(one), Some(other)) if one == other)
        || matches!((value(one), value(other)), (Some(one), Some(other)) if one == other)
}
