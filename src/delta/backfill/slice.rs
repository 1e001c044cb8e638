//! What does the bulk lane tell next? The next slice of whichever backfill has waited longest, when the lane has little left.
//!
//! Called by whoever tells the lane, as often as he likes: it looks first, and takes the log's lock only when there is something to do.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::{
    Kind, keep,
    rate::{self, Rate},
    rest,
    retry::{Due, Seen},
};
use crate::{
    Result,
    audience::Class,
    delta::{
        lane::{self, Lane, Places},
        log::{self, Part, Told},
        turn::Turn,
    },
    fault::{self, Point},
    ids::{AudienceId, BackfillId, DestinationId, Position, RunId},
    membership::{
        diff::{self, Change},
        merges::Merges,
    },
    profile::{self, leaving},
    registry::register::{Listener, Terms},
    values,
};

/// What a look at a destination's backfills came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Topped {
    /// Changes added to the bulk lane's log.
    pub appended: u64,
    /// Backfills that go on, those included of which only the telling is left.
    pub running: usize,
    /// Whether the destination has a bulk lane: one is made with its first slice.
    pub has_lane: bool,
}

/// Adds slices to the destination's bulk lane if less than one slice is left to be told there, and closes the backfills of which
/// all is told. `now` is what rate limits go by.
///
/// # Errors
/// If the database cannot be asked. Then nothing was added.
pub async fn top_up(pool: &PgPool, name: &str, terms: &Terms, now: DateTime<Utc>) -> Result<Topped> {
    let Some(look) = look(&mut *pool.acquire().await?, name).await? else { return Ok(Topped::default()) };
    if !look.has_work(terms.backfill_above, now) {
        return Ok(Topped { appended: 0, running: look.running.len(), has_lane: look.has_lane });
    }
    let mut turn = Turn::wait(pool, None).await?;
    let listener = Listener {
        id: look.destination,
        mapping_version: terms.mapping_version.clone(),
        backfill_above: terms.backfill_above,
    };
    let mut tx = turn.connection().begin_with("begin isolation level repeatable read").await?;
    let appended = slices(&mut tx, name, &listener, now).await?;
    fault::point(Point::BeforeSlice);
    tx.commit().await?;
    fault::point(Point::AfterSlice);
    // Still under the lock, so that none is closed to which a seal is adding; and one by one, so that a person's decision wins.
    let closed = sqlx::query(
        "update backfills b set state = 'done', finished_at = clock_timestamp()
         from backfill_rests r where r.backfill_id = b.id and b.destination_id = $1 and b.state = 'running'
             and r.remaining = 0 and r.ends_at <= $2",
    )
    .bind(look.destination)
    .bind(log::mirrors(turn.connection(), look.destination).await?.bulk)
    .execute(turn.connection())
    .await?;
    let running = look.running.len().saturating_sub(closed.rows_affected() as usize);
    Ok(Topped { appended, running, has_lane: look.has_lane || appended > 0 })
}

/// What there is to do, without the bitmaps.
struct Look {
    destination: DestinationId,
    has_lane: bool,
    /// Changes in the bulk lane's log that are not told, as far as Postgres knows.
    pending: u64,
    told: Places,
    /// Those that go on, the one that has waited longest first.
    running: Vec<Running>,
}

struct Running {
    id: BackfillId,
    audience: AudienceId,
    kind: Kind,
    class: Class,
    /// The audience is deleted: nobody enters it any more.
    deleted: bool,
    remaining: u64,
    ends_at: Position,
    rate: Option<Rate>,
    /// Where the audience's last change in the bulk lane ends.
    bulk_end: Position,
}

impl Look {
    fn has_work(&self, above: u32, now: DateTime<Utc>) -> bool {
        let room = self.pending < u64::from(above);
        self.running.iter().any(|backfill| match backfill.remaining {
            0 => backfill.ends_at <= self.told.bulk,
            _ => room && backfill.events(&self.told, now) > 0,
        })
    }
}

impl Running {
    /// How many Identify events its next slice may be. Of a limited one only a single slice is on its way: what waits for a
    /// broker to come back would else come out as a burst.
    fn events(&self, told: &Places, now: DateTime<Utc>) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(_) if self.bulk_end > told.bulk => 0,
            Some(rate) => rate.events(now),
        }
    }
}

async fn look(conn: &mut PgConnection, name: &str) -> Result<Option<Look>> {
    let head = sqlx::query(
        "select d.id, b.next_position as bulk_end
         from destinations d left join destinations b on b.name = d.name and b.lane = 'bulk'
         where d.name = $1 and d.lane = 'live'",
    )
    .bind(name)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(head) = head else { return Ok(None) };
    let destination = head.try_get("id")?;
    let bulk_end: Option<i64> = head.try_get("bulk_end")?;
    let rows = sqlx::query(
        "select b.id, b.audience_id, b.kind, a.class, a.state = 'deleted' as deleted, r.remaining, r.ends_at,
                coalesce(r.rate_limit, a.rate_limit) as rate_limit, t.sliced_at, coalesce(t.sliced_events, 0) as sliced_events,
                coalesce(t.bulk_end, 0) as bulk_end
         from backfills b join backfill_rests r on r.backfill_id = b.id join audiences a on a.id = b.audience_id
         left join told t on t.destination_id = b.destination_id and t.audience_id = b.audience_id
         where b.destination_id = $1 and b.state = 'running' and a.state <> 'disabled'
         order by r.sliced_at nulls first, b.id",
    )
    .bind(destination)
    .fetch_all(&mut *conn)
    .await?;
    if rows.is_empty() {
        let (told, running) = (Places::START, Vec::new());
        return Ok(Some(Look { destination, has_lane: bulk_end.is_some(), pending: 0, told, running }));
    }
    let told = log::mirrors(conn, destination).await?;
    let running = rows.iter().map(|row| {
        Ok(Running {
            id: row.try_get("id")?,
            audience: row.try_get("audience_id")?,
            kind: row.try_get("kind")?,
            class: Class::of(row.try_get("class")?),
            deleted: row.try_get("deleted")?,
            remaining: row.try_get::<i64, _>("remaining")? as u64,
            ends_at: row.try_get("ends_at")?,
            rate: Rate::read(row)?,
            bulk_end: row.try_get("bulk_end")?,
        })
    });
    let running = running.collect::<Result<_>>()?;
    let pending = (bulk_end.unwrap_or(0) - told.bulk.0).max(0) as u64;
    Ok(Some(Look { destination, has_lane: bulk_end.is_some(), pending, told, running }))
}

/// Adds slices until the lane has one to tell.
async fn slices(tx: &mut PgConnection, name: &str, listener: &Listener, now: DateTime<Utc>) -> Result<u64> {
    // Anew: what was seen before the lock may be another's work by now.
    let Some(look) = look(tx, name).await? else { return Ok(0) };
    let mut room = u64::from(listener.backfill_above).saturating_sub(look.pending);
    let mut appended = 0;
    // The limit is the audience's: its changes and a resync of it have one slice between them.
    let mut limited = HashSet::new();
    for backfill in look.running.iter().filter(|backfill| backfill.remaining > 0) {
        let most = Most { changes: room, events: backfill.events(&look.told, now) };
        if most.changes == 0 || most.events == 0 || limited.contains(&backfill.audience) {
            continue;
        }
        let added = slice(tx, listener, backfill, &look.told, most, now).await?;
        if added > 0 && backfill.rate.is_some() {
            limited.insert(backfill.audience);
        }
        room -= added;
        appended += added;
    }
    Ok(appended)
}

/// How long a slice may get.
struct Most {
    changes: u64,
    /// Identify events; at least one change is taken.
    events: u64,
}

async fn slice(
    tx: &mut PgConnection,
    listener: &Listener,
    backfill: &Running,
    lanes_told: &Places,
    most: Most,
    now: DateTime<Utc>,
) -> Result<u64> {
    let mut told = Told::read(tx, listener.id, backfill.audience).await?;
    if !lane::may_slice(&told.ends, lanes_told) {
        return Ok(0);
    }
    let row = sqlx::query(
        "select m.run_id, m.members, u.last_merge, r.entered, r.exited, r.last_merge as rest_last_merge
         from memberships m join runs u on u.id = m.run_id, backfill_rests r where m.audience_id = $1 and r.backfill_id = $2",
    )
    .bind(backfill.audience)
    .bind(backfill.id)
    .fetch_one(&mut *tx)
    .await?;
    // Both bitmaps must mean the same profiles. They do once the audience is sealed for this destination again.
    let last_merge: i64 = row.try_get("last_merge")?;
    if *told.last_merge.get_or_insert(last_merge) != last_merge {
        return Ok(0);
    }
    let members = diff::decode(row.try_get::<&[u8], _>("members")?)?;
    let (run, mut left): (RunId, Change) = (row.try_get("run_id")?, rest(&row)?);
    let mut due = None;
    match backfill.kind {
        // Who was merged away is told as who he is now. Of changes the ordinary difference tells the survivor: see `waiting`.
        Kind::Resync => follow(tx, &mut left, row.try_get("rest_last_merge")?, last_merge).await?,
        Kind::Retry => {
            let seen = Seen {
                backfill: backfill.id,
                listener: listener.id,
                audience: backfill.audience,
                class: backfill.class,
                run,
                last_merge,
                told: &told,
                members: &members,
            };
            let records = Due::of(tx, &seen).await?;
            left = records.change(&members);
            due = Some(records);
        }
        Kind::Changes => {}
    }
    if backfill.deleted {
        left.entered.clear();
    }
    let silent = leaving::suppressed(tx).await? | leaving::leaving(tx).await?;
    left.entered -= &silent;
    left.exited -= silent;
    still((backfill.kind, backfill.class), &mut left, &told.members, &members);
    let (limit, events) = match backfill.rate {
        None => (most.changes, 0),
        // Each change is an event at least.
        Some(_) => rate::fitting(tx, (run, last_merge), &left, most.changes.min(most.events)).await?,
    };
    let slice = take(&mut left, limit as usize);
    keep(tx, backfill.id, &left).await?;
    let mut ends_at = backfill.ends_at;
    if !slice.is_empty() {
        if backfill.class == Class::Trait {
            // Those of the latest run, which this is; and the lock is held.
            values::seal(tx, run, backfill.audience, &slice, &told.members, true).await?;
        }
        let part = Part {
            lane: Lane::Bulk,
            run,
            change: &slice,
            is_the_runs: false,
            backfill: Some(backfill.id),
            identified_since: None,
        };
        ends_at = log::append(tx, listener, &mut told, part).await?;
        if let Some(records) = due {
            records.moved(tx, &slice, Position(ends_at.0 - slice.len() as i64)).await?;
        }
        told.write(tx, listener.id, backfill.audience, run).await?;
        if backfill.rate.is_some() {
            rate::note(tx, listener.id, backfill.audience, now, events).await?;
        }
    }
    sqlx::query(
        "update backfill_rests set sliced_at = clock_timestamp(), ends_at = $2, last_merge = $3 where backfill_id = $1",
    )
    .bind(backfill.id)
    .bind(ends_at)
    .bind(last_merge)
    .execute(tx)
    .await?;
    Ok(slice.len())
}

/// Brings who is left up to date with merges `after` the one that it is as of, up to another.
async fn follow(tx: &mut PgConnection, left: &mut Change, after: i64, up_to: i64) -> Result<()> {
    let since = profile::merges::after(tx, after).await?;
    let merges = Merges(since.into_iter().filter(|merge| merge.id <= up_to).collect());
    [&mut left.entered, &mut left.exited].into_iter().for_each(|side| merges.follow(side, 0));
    Ok(())
}

/// Leaves those who are still on the side that they are to be told, and, where they are not to be told again, were not told it
/// meanwhile.
fn still((kind, class): (Kind, Class), left: &mut Change, told: &RoaringBitmap, members: &RoaringBitmap) {
    left.entered &= members;
    left.exited -= members;
    if kind == Kind::Changes {
        left.exited &= told;
        // Who was told a value of a trait is told the next one.
        if class == Class::Audience {
            left.entered -= told;
        }
    }
}

/// Takes the next slice out of what is `left`. Exits come first: who has left should hear no more than he must.
fn take(left: &mut Change, limit: usize) -> Change {
    let exited: RoaringBitmap = left.exited.iter().take(limit).collect();
    let entered: RoaringBitmap = left.entered.iter().take(limit - exited.len() as usize).collect();
    left.exited -= &exited;
    left.entered -= &entered;
    Change { entered, exited }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(ids: [u32; N]) -> RoaringBitmap {
        ids.into()
    }

    #[test]
    fn a_slice_leaves_out_who_changed_sides_or_was_told_meanwhile_and_a_resync_only_the_former() {
        let left = || Change { entered: set([1, 2, 3, 4]), exited: set([5, 6, 7]) };
        let (told, members) = (set([2, 5, 7]), set([1, 2, 4, 6]));
        let mut changes = left();
        still((Kind::Changes, Class::Audience), &mut changes, &told, &members);
        let first = take(&mut changes, 3);
        assert_eq!(first, Change { entered: set([1]), exited: set([5, 7]) });
        assert_eq!(changes, Change { entered: set([4]), exited: set([]) });
        let mut again = left();
        still((Kind::Resync, Class::Audience), &mut again, &told, &members);
        let all = take(&mut again, 100);
        assert_eq!(all, Change { entered: set([1, 2, 4]), exited: set([5, 7]) });
        assert!(again.is_empty());
    }
}
