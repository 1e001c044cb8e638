//! How many Identify events may the next slice of a limited audience be? A part of a second's worth, once the slice before has
//! used up its time.
//!
//! Events are counted, not changes: by ID Sync one change is told under several names. The limit is the one that holds now, whatever
//! it was when the backfill was opened; when and how much was sliced last stands beside what was told, and survives a restart.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    Result,
    audience::{identities::identities, options::Options},
    ids::{AudienceId, DestinationId, ProfileId, RunId},
    membership::{
        diff::Change,
        merges::{Merges, options},
    },
    profile::{lookup, merges},
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
/// many events they come. They are told as of a run, and the merges that it has seen.
pub(super) async fn fitting(
    tx: &mut PgConnection,
    (run, last_merge): (RunId, i64),
    left: &Change,
    most: u64,
) -> Result<(u64, u64)> {
    let options = options(tx, run).await?;
    if options.id_sync.is_empty() {
        return Ok((most, most.min(left.len())));
    }
    let ids = left.exited.iter().chain(&left.entered).take(most as usize).map(ProfileId).collect::<Vec<_>>();
    let told = events(tx, &options, last_merge, &ids).await?;
    let (mut changes, mut sum) = (0, 0);
    for events in told {
        if changes > 0 && sum + events > most {
            break;
        }
        (changes, sum) = (changes + 1, sum + events);
    }
    Ok((changes, sum))
}

/// The Identify events of a change of each of these profiles, in their order; nobody counts for less than one.
async fn events(tx: &mut PgConnection, options: &Options, last_merge: i64, ids: &[ProfileId]) -> Result<Vec<u64>> {
    let raw: Vec<i64> = ids.iter().map(|id| i64::from(id.0)).collect();
    let merges = Merges(merges::concerning(tx, last_merge, &raw).await?);
    // Who hears of it: of a profile that was merged meanwhile, the one that lives on.
    let hears: Vec<Option<ProfileId>> = ids.iter().map(|id| merges.hears(*id, last_merge, options)).collect();
    let hearing: Vec<i64> = hears.iter().flatten().map(|id| i64::from(id.0)).collect();
    let types: Vec<&str> =
        options.id_sync.iter().map(|sync| sync.id.as_str()).chain(["user_id", "anonymous_id"]).collect();
    let known = lookup::identifiers(tx, &hearing, &types, None).await?;
    let events = |who: &Option<ProfileId>| {
        let identifiers = who.and_then(|who| known.get(&who));
        identifiers.map_or(1, |identifiers| identities(identifiers, options).len().max(1) as u64)
    };
    Ok(hears.iter().map(events).collect())
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
