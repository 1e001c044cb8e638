//! What would a run find, and whom would it tell? Evaluated on one read-only snapshot, storing nothing.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{PgConnection, PgPool, Row};

use crate::{
    Error, Result,
    audience::{Class, Computed, catalogue::Audience, missing::Missing},
    evaluate::{
        Due, DueValue, Settings, Universe, evaluate_all,
        gaps::{self, Asked},
    },
    ids::ProfileId,
    membership::{
        diff::{self, Change},
        guard::{self, Counts, Held, Limit, Standing},
        stored,
    },
    profile::lookup::{self, Name},
    values::table,
};

/// What the next run of an audience or computed trait would find.
#[derive(Debug)]
pub struct Forecast {
    /// The accepted membership; none before the first run.
    pub before: Option<u64>,
    pub members: u64,
    pub change: Counts,
    /// Why the guard would hold it.
    pub held: Option<Held>,
    /// By destination, what it was not told yet.
    pub told: BTreeMap<String, Counts>,
    /// Whom comparisons decide about since they lack a trait.
    pub missing: Vec<Missing>,
    /// A few of those who would enter, and leave.
    pub entered: Vec<Name>,
    pub exited: Vec<Name>,
}

/// Looks ahead for audiences in dependency order. Whoever refers to one of them gets the members that it would have, even if
/// the guard would hold them: a person who agrees to the one agrees to the other.
///
/// # Errors
/// If the database cannot be asked; an audience that cannot be evaluated fails alone.
pub async fn forecast(
    pool: &PgPool,
    audiences: &[Audience],
    t: DateTime<Utc>,
    samples: usize,
) -> Result<Vec<(String, Result<Forecast>)>> {
    let formulas = audiences.iter().filter_map(|of| of.computed.formula());
    let mut tx = table::begin_read_only(pool, formulas).await?;
    let stored = stored::memberships(&mut tx).await?;
    let universes: Vec<Universe> = audiences.iter().map(|of| Universe::of(of.options.counting_types())).collect();
    let (mut due, mut values) = (Vec::new(), Vec::new());
    for (of, universe) in audiences.iter().zip(&universes) {
        match &of.computed {
            Computed::Members { formula, .. } => due.push(Due { key: &of.key, formula, universe }),
            computed => values.push(DueValue { key: &of.key, computed, universe }),
        }
    }
    let settings = Settings { remember: false, ..Settings::default() };
    let asked = gaps::asked(&due);
    due.extend(asked.iter().map(Asked::due));
    let computed = evaluate_all(&mut tx, t, &due, &values, &stored, &settings).await?;
    let mut missing = gaps::missing(&asked, &computed.audiences);
    let nobody = RoaringBitmap::new();
    let mut found: HashMap<String, Result<(Change, Standing, RoaringBitmap)>> = HashMap::new();
    for (key, members) in computed.audiences {
        let before = stored.get(&key).unwrap_or(&nobody);
        let change = members.map(|members| (Change::between(before, &members), Standing::default(), members));
        found.insert(key, change);
    }
    found.extend(computed.values.into_iter().map(|(key, of)| (key, of.map(|of| (of.change, of.standing, of.members)))));
    let mut forecasts = Vec::with_capacity(audiences.len());
    for audience in audiences {
        let forecast = match found.remove(&audience.key) {
            Some(Ok((change, standing, members))) => {
                let before = stored.get(&audience.key);
                let mut forecast = of(&mut tx, audience, before, (&change, standing), &members, samples).await?;
                forecast.missing = missing.remove(&audience.key).unwrap_or_default();
                Ok(forecast)
            }
            Some(Err(error)) => Err(error),
            None => Err(Error::internal("what was asked for was not evaluated")),
        };
        forecasts.push((audience.key.clone(), forecast));
    }
    Ok(forecasts)
}

async fn of(
    tx: &mut PgConnection,
    audience: &Audience,
    before: Option<&RoaringBitmap>,
    (change, standing): (&Change, Standing),
    members: &RoaringBitmap,
    samples: usize,
) -> Result<Forecast> {
    let heard = told(tx, &audience.key).await?;
    let told = audience.destinations.iter().map(|name| {
        let counts = match (heard.get(name), audience.computed.class()) {
            (Some(heard), Class::Audience) => Counts::between(heard, members),
            // Who has another value is told it, and who came or went since the destination heard of it.
            (Some(heard), Class::Trait) => {
                Counts { entered: ((members - heard) | &change.entered).len(), exited: heard.difference_len(members) }
            }
            (None, _) => Counts { entered: members.len(), exited: 0 },
        };
        (name.clone(), counts)
    });
    let (before, limit) = (before.map(RoaringBitmap::len), Limit { bounds: audience.guard, confirmed: None });
    let counts = Counts { entered: change.entered.len(), exited: change.exited.len() };
    Ok(Forecast {
        before,
        members: members.len(),
        change: counts,
        held: match audience.computed.class() {
            Class::Audience => guard::judge(before, counts, &limit),
            Class::Trait => guard::judge_values(before.is_none(), counts, standing, &limit),
        },
        told: told.collect(),
        missing: Vec::new(),
        entered: names(tx, &change.entered, samples).await?,
        exited: names(tx, &change.exited, samples).await?,
    })
}

async fn names(tx: &mut PgConnection, members: &RoaringBitmap, samples: usize) -> Result<Vec<Name>> {
    let few: Vec<ProfileId> = members.iter().take(samples).map(ProfileId).collect();
    if few.is_empty() { Ok(Vec::new()) } else { lookup::names(tx, &few).await }
}

/// Whom each destination was told to be in, by its name.
///
/// # Errors
/// The database's own.
pub async fn told(conn: &mut PgConnection, key: &str) -> Result<BTreeMap<String, RoaringBitmap>> {
    let rows = sqlx::query(
        "select d.name, t.members from told t join destinations d on d.id = t.destination_id
         join audiences a on a.id = t.audience_id where a.key = $1",
    )
    .bind(key)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("name")?, diff::decode(row.try_get::<&[u8], _>("members")?)?))).collect()
}
