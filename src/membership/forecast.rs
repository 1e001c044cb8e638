//! What would a run find, and whom would it tell? Evaluated on one read-only snapshot, storing nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{PgConnection, PgPool, Row};

use super::{
    Due, Settings, Universe,
    diff::{self, Change},
    evaluate,
    guard::{self, Counts, Held, Limit},
    seal,
};
use crate::{
    Result,
    audience::catalogue::Audience,
    ids::ProfileId,
    profile::lookup::{self, Name},
};

/// What the next run of an audience would find.
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
    let mut tx = pool.begin_with("begin isolation level repeatable read read only").await?;
    let stored = seal::memberships(&mut tx).await?;
    let universes: Vec<Universe> = audiences.iter().map(|of| Universe::of(of.options.counting_types())).collect();
    let due = audiences.iter().zip(&universes);
    let due: Vec<Due<'_>> = due.map(|(of, universe)| Due { key: &of.key, formula: &of.formula, universe }).collect();
    let settings = Settings { remember: false, ..Settings::default() };
    let computed = evaluate(&mut tx, t, &due, &stored, &settings).await?;
    let mut forecasts = Vec::with_capacity(audiences.len());
    for (audience, (key, members)) in audiences.iter().zip(computed.audiences) {
        let forecast = match members {
            Ok(members) => Ok(of(&mut tx, audience, stored.get(&key), &members, samples).await?),
            Err(error) => Err(error),
        };
        forecasts.push((key, forecast));
    }
    Ok(forecasts)
}

async fn of(
    tx: &mut PgConnection,
    audience: &Audience,
    before: Option<&RoaringBitmap>,
    members: &RoaringBitmap,
    samples: usize,
) -> Result<Forecast> {
    let nobody = RoaringBitmap::new();
    let change = Change::between(before.unwrap_or(&nobody), members);
    let heard = told(tx, &audience.key).await?;
    let told = audience.destinations.iter().map(|name| {
        let heard = heard.get(name).unwrap_or(&nobody);
        (name.clone(), Counts::between(heard, members))
    });
    Ok(Forecast {
        before: before.map(RoaringBitmap::len),
        members: members.len(),
        change: Counts { entered: change.entered.len(), exited: change.exited.len() },
        held: guard::judge_members(before, members, &Limit { bounds: audience.guard, confirmed: None }),
        told: told.collect(),
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
