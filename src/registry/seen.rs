//! Which names of definitions does the store hold? Events, traits, and who carries a trait that an audience would hide. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use crate::{
    Result,
    audience::{
        self,
        ast::{Expr, Path, Scalar, Segment},
        check::{Known, unknown_names},
        conditions::Keys,
        visit,
    },
    config::Config,
};

/// Profiles whose traits are looked at for names that may be meant.
const SAMPLE: i64 = 20_000;

/// Notes how many profiles carry imported traits whose names are keys of audiences: of enabled ones that the store does not know
/// yet, and of deleted ones that a definition still mentions. Asks nothing where there are none, as after the first sync.
///
/// # Errors
/// The database's own.
pub async fn carried(conn: &mut PgConnection, config: &Config, known: &mut Known) -> Result<()> {
    let stored: BTreeSet<&String> = known.audiences.iter().filter(|of| !of.deleted).map(|of| &of.key).collect();
    let configured: BTreeSet<String> = config.audiences.iter().filter(|of| of.enabled).map(|of| of.key()).collect();
    let new = configured.iter().filter(|key| !stored.contains(key));
    let mentioned = mentioned_traits(config);
    let deleted = known.audiences.iter().filter(|of| of.deleted).map(|of| &of.key);
    let names: BTreeSet<&String> = new.chain(deleted.filter(|key| mentioned.contains(*key))).collect();
    known.carried = carriers(conn, names).await?;
    Ok(())
}

/// How many profiles have an imported trait of each name, of those that any has. One look at all profiles, whatever the number of names.
async fn carriers(conn: &mut PgConnection, names: BTreeSet<&String>) -> Result<BTreeMap<String, u64>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "select name, count(*) from profiles cross join unnest($1::text[]) as keys (name) where traits ? name group by name",
    )
    .bind(names.into_iter().collect::<Vec<_>>())
    .fetch_all(conn)
    .await?;
    Ok(counts.into_iter().map(|(name, count)| (name, count.unsigned_abs())).collect())
}

/// The names in `trait('…')` of all audiences that can be read.
fn mentioned_traits(config: &Config) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let definitions = config.audiences.iter().filter_map(|of| audience::parse("", of.query.as_deref()?).ok());
    definitions.for_each(|definition| traits_of(&definition, &mut names));
    names
}

fn traits_of(definition: &Expr, names: &mut BTreeSet<String>) {
    visit::comparisons(definition, &mut |comparison| {
        names.extend(comparison.scalars().filter_map(|scalar| match scalar {
            Scalar::Trait(Path(segments)) => match segments.first() {
                Some(Segment::Key(name)) => Some(name.clone()),
                _ => None,
            },
            _ => None,
        }));
    });
}

/// Notes the names of events, and of the traits of some profiles, so that a name that nothing has can be told.
///
/// # Errors
/// The database's own.
pub async fn names(conn: &mut PgConnection, config: &Config, known: &mut Known) -> Result<()> {
    let keys: BTreeSet<String> = config.computations().map(|(key, ..)| key).collect();
    mentioned(conn, &mentioned_traits(config), &keys, known).await
}

/// What looks like a mistake in one definition, which stands in no configuration.
///
/// # Errors
/// The database's own.
pub async fn warnings(conn: &mut PgConnection, definition: &Expr, keys: &Keys) -> Result<Vec<String>> {
    let mut known = Known::default();
    let computed = keys.audiences.iter().chain(keys.traits.keys()).cloned().collect();
    let mut names = BTreeSet::new();
    traits_of(definition, &mut names);
    mentioned(conn, &names, &computed, &mut known).await?;
    Ok(unknown_names(definition, &known, &computed))
}

/// `names` are those of traits that definitions mention; `keys` those that are computed.
async fn mentioned(
    conn: &mut PgConnection,
    names: &BTreeSet<String>,
    keys: &BTreeSet<String>,
    known: &mut Known,
) -> Result<()> {
    let events: Vec<String> = sqlx::query_scalar("select name from event_names").fetch_all(&mut *conn).await?;
    known.events = events.into_iter().collect();
    let traits: Vec<String> = sqlx::query_scalar(
        "select distinct jsonb_object_keys(traits) from (select traits from profiles order by id desc limit $1) as sampled",
    )
    .bind(SAMPLE)
    .fetch_all(&mut *conn)
    .await?;
    known.traits = traits.into_iter().chain(known.computed.keys().cloned()).collect();
    if known.traits.is_empty() {
        return Ok(());
    }
    // A rare one need not be among those.
    let unseen = names.iter().filter(|name| !known.traits.contains(*name) && !keys.contains(*name)).collect();
    known.traits.extend(carriers(conn, unseen).await?.into_keys());
    Ok(())
}
