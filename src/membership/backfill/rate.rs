//! How many Identify events may the next slice of a limited audience be? A part of a second's worth, once the slice before has
//! used up its time.
//!
//! Events are counted, not changes: by ID Sync one change is told under several names. The limit is the one that holds now, whatever
//! it was when the backfill was opened; when and how much was sliced last stands beside what was told, and survives a restart.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Error, Result,
    audience::{identities::identities, options::Options},
    ids::{AudienceId, DestinationId, ProfileId},
    membership::{diff::Change, merges::Merges},
    profile::merges,
};

/// Slices in a second: few, since each writes anew what is left; and so many that no second has much more than its share.
const SLICES_PER_SECOND: i64 = 5;

/// The limit of an audience's backfills to a destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Identify events; of this backfill, or else of the audience as it is configured.
    per_second: i64,
    /// When the audience's last slice was made, of whichever backfill, and how many events it was.
    last: Option<(DateTime<Utc>, i64)>,
}

impl Rate {
    /// `None` where nothing is limited.
    pub fn read(row: &PgRow) -> Result<Option<Rate>> {
        let Some(per_second) = row.try_get("rate_limit")? else { return Ok(None) };
        let last = row.try_get::<Option<_>, _>("sliced_at")?;
        let events = row.try_get("sliced_events")?;
        Ok(Some(Rate { per_second, last: last.map(|at| (at, events)) }))
    }

    /// Events of the next slice; 0 if it is not time yet. A while without a slice is not made up for: it would come out as a burst.
    pub fn events(self, now: DateTime<Utc>) -> u64 {
        let is_time = self.last.is_none_or(|(at, events)| {
            let passed = now - at;
            // A clock that was set back, or is another instance's, may not hold it up: it goes by this one from here on.
            passed < chrono::TimeDelta::zero() || passed.as_seconds_f64() * self.per_second as f64 >= events as f64
        });
        if is_time { (self.per_second / SLICES_PER_SECOND).max(1) as u64 } else { 0 }
    }
}

/// How many of the first changes of `left`, exits first, come to no more than so many events, but at least one change; and to how
/// many events they come. `row` has the options and the last merge of the run that they are told as of.
pub(super) async fn fitting(tx: &mut PgConnection, row: &PgRow, left: &Change, most: u64) -> Result<(u64, u64)> {
    let options: Options = serde_json::from_value(row.try_get("options")?)
        .map_err(|error| Error::halted("a stored definition's options cannot be read").because(error))?;
    if options.id_sync.is_empty() {
        return Ok((most, most.min(left.len())));
    }
    let ids = left.exited.iter().chain(&left.entered).take(most as usize).map(ProfileId).collect::<Vec<_>>();
    let told = events(tx, &options, row.try_get("last_merge")?, &ids).await?;
    let (mut changes, mut sum) = (0, 0);
    for id in ids {
        let events = told.get(&id).copied().unwrap_or(1);
        if changes > 0 && sum + events > most {
            break;
        }
        (changes, sum) = (changes + 1, sum + events);
    }
    Ok((changes, sum))
}

/// The Identify events of a change of each of these profiles, where it is not one.
async fn events(
    tx: &mut PgConnection,
    options: &Options,
    last_merge: i64,
    ids: &[ProfileId],
) -> Result<HashMap<ProfileId, u64>> {
    let raw: Vec<i64> = ids.iter().map(|id| i64::from(id.0)).collect();
    let merges = Merges(merges::concerning(tx, last_merge, &raw).await?);
    // By whom hears of it: a profile that was merged meanwhile is told under the names of the one that lives on.
    let mut of = HashMap::<ProfileId, Vec<ProfileId>>::new();
    for id in ids {
        if let Some(hears) = merges.hears(*id, last_merge, options) {
            of.entry(hears).or_default().push(*id);
        }
    }
    let hearing: Vec<i64> = of.keys().map(|id| i64::from(id.0)).collect();
    let types: Vec<&str> =
        options.id_sync.iter().map(|sync| sync.id.as_str()).chain(["user_id", "anonymous_id"]).collect();
    let mut told = HashMap::new();
    let mut note = |person: Option<(ProfileId, Vec<(String, String)>)>| {
        let Some((person, identifiers)) = person else { return };
        let events = identities(&identifiers, options).len() as u64;
        let concerned = of.get(&person).into_iter().flatten();
        told.extend(concerned.filter(|_| events > 1).map(|id| (*id, events)));
    };
    let mut rows = sqlx::query(
        "select profile_id, type, value from identifiers where profile_id = any($1) and type = any($2)
         order by profile_id, type, added_at, value",
    )
    .bind(hearing)
    .bind(types)
    .fetch(tx);
    let mut person = None::<(ProfileId, Vec<(String, String)>)>;
    while let Some(row) = rows.try_next().await? {
        let (id, kind, value) = (ProfileId(row.try_get::<i64, _>(0)? as u32), row.try_get(1)?, row.try_get(2)?);
        match &mut person {
            Some((known, identifiers)) if *known == id => identifiers.push((kind, value)),
            _ => note(person.replace((id, vec![(kind, value)]))),
        }
    }
    note(person);
    drop(rows);
    Ok(told)
}

/// Notes the slice, from which on the next one waits.
pub(super) async fn note(
    tx: &mut PgConnection,
    destination: DestinationId,
    audience: AudienceId,
    at: DateTime<Utc>,
    events: u64,
) -> Result<()> {
    sqlx::query("update told set sliced_at = $3, sliced_events = $4 where destination_id = $1 and audience_id = $2")
        .bind(destination)
        .bind(audience)
        .bind(at)
        .bind(events as i64)
        .execute(tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_slice_is_a_fifth_of_a_seconds_worth_and_the_next_one_waits_until_it_has_used_up_its_time() {
        let at = DateTime::UNIX_EPOCH;
        let events = |per_second, last, ms| Rate { per_second, last }.events(at + TimeDelta::milliseconds(ms));
        assert_eq!(events(400, None, 0), 80);
        let last = Some((at, 80));
        assert_eq!([0, 199, 200, 60_000].map(|ms| events(400, last, ms)), [0, 0, 80, 80]);
        assert_eq!(events(40, last, 1_999), 0, "a limit that was lowered holds for what was sliced before");
        assert_eq!(events(4_000, last, 20), 800, "and so does one that was raised");
        assert_eq!(events(1, Some((at, 100)), 99_999), 0, "one change of many names takes the time of all of them");
        assert_eq!(events(1, Some((at, 100)), 100_000), 1);
        assert_eq!(events(400, last, -3_000), 80, "a clock that was set back does not hold it up");
    }
}
