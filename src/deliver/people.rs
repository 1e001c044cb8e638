//! Who are the profiles of a page? Their identifiers and traits, as far as its runs ask for them, in one snapshot.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Row as _};

use crate::{
    Result,
    audience::identities::{Identity, identities},
    config::Strategy,
    delta::{self, SealedRun},
    identify::Person,
    ids::{AudienceId, ProfileId},
    limits,
    membership::merges::Merges,
    profile::{lookup, merges},
    values,
};

/// What is known of a page's profiles, as far as was asked for and fits.
pub struct People {
    /// Ascending by id.
    known: Vec<(ProfileId, Person)>,
    /// Profiles from this id on were too much to read.
    pub cut: Option<ProfileId>,
    /// Those since the runs were sealed.
    merges: Merges,
    /// Profiles that any of them is about.
    merged: RoaringBitmap,
    /// By moment, whom a run asks about that tells under newer identifiers alone: by which they were known then.
    then: HashMap<String, HashMap<ProfileId, Vec<(String, String)>>>,
}

impl People {
    /// Whom a change of that run is told to: its profile, or the one that this was merged into since.
    pub fn hears(&self, profile: ProfileId, run: &SealedRun) -> Option<ProfileId> {
        match self.merged.contains(profile.0) {
            false => Some(profile),
            true => self.merges.hears(profile, run.last_merge, &run.options),
        }
    }

    pub fn get(&self, profile: ProfileId) -> Option<&Person> {
        let found = self.known.binary_search_by_key(&profile, |(id, _)| *id).ok()?;
        Some(&self.known[found].1)
    }

    /// Under which names the run is told to a profile: all of today, or where it was told under others, those that came since.
    pub fn identities<'a>(&'a self, profile: ProfileId, run: &'a SealedRun) -> Vec<Identity<'a>> {
        let Some(person) = self.get(profile) else { return Vec::new() };
        let mut names = identities(&person.identifiers, &run.options);
        let then = run.identified_since.as_ref().and_then(|moment| self.then.get(moment)?.get(&profile));
        if let Some(then) = then {
            let known = identities(then, &run.options);
            names.retain(|identity| !known.contains(identity));
        }
        names
    }
}

/// Reads identifiers and traits, and only those that the runs' options ask for: where no trait is, the identifiers'
/// covering index alone is touched.
pub async fn people(pool: &PgPool, changes: &[delta::Page]) -> Result<People> {
    let mut ids: Vec<i64> = changes.iter().flat_map(|part| &part.changes).map(|(id, _)| i64::from(id.0)).collect();
    let runs: Vec<&SealedRun> = changes.iter().map(|part| &*part.run).collect();
    // One snapshot: between two of them a merge could move the identifiers of a profile that was just looked up.
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let sealed_as_of = runs.iter().map(|run| run.last_merge).min().unwrap_or(0);
    let merges = Merges(merges::concerning(&mut tx, sealed_as_of, &ids).await?);
    let merged = merges.0.iter().flat_map(|merge| [Some(merge.from), merge.into]).flatten().map(|id| id.0).collect();
    ids.extend(merges.0.iter().filter_map(|merge| merge.into).map(|id| i64::from(id.0)));
    ids.sort_unstable();
    ids.dedup();
    let (types, history) = identifier_types(&runs);
    let known = Vec::with_capacity(ids.len());
    let mut people = People { known, cut: None, merges, merged, then: HashMap::new() };
    let mut bytes = 0;
    {
        // Oldest first, as `Person` has them.
        let sql = if history {
            "select profile_id, type, value from identifiers where profile_id = any($1) and type = any($2)
             order by profile_id, type, added_at, value"
        } else {
            "select distinct on (profile_id, type) profile_id, type, value from identifiers
             where profile_id = any($1) and type = any($2) order by profile_id, type, added_at desc, value desc"
        };
        let mut rows = sqlx::query(sql).bind(&ids).bind(&types).fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            let id = ProfileId(row.try_get::<i64, _>(0)? as u32);
            let (kind, value): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            bytes += kind.len() + value.len() + size_of::<Person>();
            match people.known.last_mut() {
                Some((last, person)) if *last == id => person.identifiers.push((kind, value)),
                // Of one profile all is read, so that a page always gets on.
                Some(_) if bytes > limits::PAGE_BYTES => {
                    people.cut = Some(id);
                    break;
                }
                _ => people.known.push((id, Person { identifiers: vec![(kind, value)], traits: Vec::new() })),
            }
        }
    }
    for moment in runs.iter().filter_map(|run| run.identified_since.as_ref()) {
        if !people.then.contains_key(moment) {
            people.then.insert(moment.clone(), lookup::identifiers(&mut tx, &ids, &types, Some(moment)).await?);
        }
    }
    traits(&mut tx, &runs, &mut people).await?;
    tx.commit().await?;
    Ok(people)
}

/// The types that any of the runs tells, and whether more than the latest of each is told.
fn identifier_types(runs: &[&SealedRun]) -> (Vec<String>, bool) {
    let mut types = vec!["user_id".to_owned()];
    let mut history = false;
    for run in runs {
        if run.options.include_anonymous || !run.options.id_sync.is_empty() {
            types.push("anonymous_id".to_owned());
        }
        types.extend(run.options.id_sync.iter().map(|sync| sync.id.clone()));
        history |= run.options.id_sync.iter().any(|sync| sync.strategy != Strategy::Last);
    }
    types.sort_unstable();
    types.dedup();
    (types, history)
}

async fn traits(conn: &mut PgConnection, runs: &[&SealedRun], people: &mut People) -> Result<()> {
    let mut names: Vec<&str> = runs.iter().flat_map(|run| &run.options.include_traits).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = people.known.iter().map(|(id, _)| i64::from(id.0)).collect();
    let mut rows = sqlx::query(
        "select id, (select jsonb_object_agg(name, traits -> name) from unnest($2::text[]) name where traits ? name)
         from profiles where id = any($1) order by id",
    )
    .bind(&ids)
    .bind(&names)
    .fetch(&mut *conn);
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let id = ProfileId(row.try_get::<i64, _>(0)? as u32);
        let Some(found) = row.try_get::<Option<&sqlx::types::JsonRawValue>, _>(1)? else { continue };
        if bytes > limits::PAGE_BYTES {
            people.cut = Some(people.cut.map_or(id, |cut| cut.min(id)));
            break;
        }
        bytes += found.get().len();
        let Ok(Value::Object(found)) = serde_json::from_str(found.get()) else { continue };
        if let Ok(at) = people.known.binary_search_by_key(&id, |(id, _)| *id) {
            people.known[at].1.traits = found.into_iter().collect();
        }
    }
    drop(rows);
    computed(conn, &names, people).await
}

/// Computed traits as of their last run. They go before imported ones of the same name.
async fn computed(conn: &mut PgConnection, names: &[&str], people: &mut People) -> Result<()> {
    let keys: Vec<(AudienceId, String)> = sqlx::query_as(
        "select id, key from audiences where class = 'trait' and state <> 'deleted' and (key = any($1) or columns && $1)
         order by key",
    )
    .bind(names)
    .fetch_all(&mut *conn)
    .await?;
    if keys.is_empty() {
        return Ok(());
    }
    let ids: Vec<ProfileId> = people.known.iter().map(|(id, _)| *id).collect();
    for (audience, key) in keys {
        for (id, value) in values::of(conn, audience, &ids).await? {
            let (Ok(at), Ok(value)) =
                (people.known.binary_search_by_key(&id, |(id, _)| *id), serde_json::from_str::<Value>(&value))
            else {
                continue;
            };
            let told = match value {
                Value::Object(members) if !names.contains(&key.as_str()) => members.into_iter().collect(),
                value => vec![(key.clone(), value)],
            };
            let traits = &mut people.known[at].1.traits;
            for (key, value) in told.into_iter().filter(|(key, _)| names.contains(&key.as_str())) {
                traits.retain(|(name, _)| *name != key);
                traits.push((key, value));
            }
        }
    }
    Ok(())
}
