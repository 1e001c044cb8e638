//! Which records that were put aside are told again, and which need not be? Asked for here, decided as their slice is made.
//!
//! ```text
//!  open ──retry──► open, of a backfill ──slice──┬─► retried: a place of the bulk lane's log tells it, as it is by now
//!                                               ├─► superseded: the person has changed since, and that is told
//!                                               └─► open: it cannot be told now
//! ```
//!
//! A row of `quarantine` stays at its place, as the account of that place: it is settled in the transaction that appends the slice.
//! So a record is told again once, whoever dies when, and what is told is what is true when the slice is made: the log's last word on
//! the person. Nothing is told of a record whose person has an older or newer word under way.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use sqlx::{Connection as _, PgConnection, PgPool, Row as _};

use super::{Kind, open};
use crate::{
    Result,
    audience::Class,
    delta::{log::Told, turn::Turn},
    ids::{AudienceId, BackfillId, DestinationId, Position, ProfileId, RunId},
    membership::{
        diff::{self, Change},
        merges::{self, Merges},
    },
    profile::{self, leaving},
    registry::register,
    values,
};

/// Which records of a destination are to be told again.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    pub destination: &'a str,
    /// Of these mappings alone: those in force, or some of them.
    pub mappings: &'a [&'a str],
    pub reason: Option<&'a str>,
    pub run: Option<RunId>,
}

/// Opens a backfill for each audience of which records are to be told again. None where nothing is in quarantine, or all of it is
/// being told again already.
///
/// # Errors
/// The database's own.
pub async fn retry(pool: &PgPool, chosen: Chosen<'_>) -> Result<Vec<BackfillId>> {
    // No slice is made meanwhile of a backfill that is being added to.
    let mut turn = Turn::wait(pool, None).await?;
    let mut tx = turn.connection().begin().await?;
    let listener = register::destination(&mut tx, chosen.destination).await?;
    let records: Vec<(i64, AudienceId, i64)> = sqlx::query_as(
        "select q.id, r.audience_id, q.profile_id from quarantine q
         join runs r on r.id = q.run_id join destinations d on d.id = q.destination_id left join backfills b on b.id = q.backfill_id
         where d.name = $1 and q.state = 'open' and q.mapping = any($2) and ($3::text is null or q.reason = $3)
           and ($4::bigint is null or q.run_id = $4) and (b.id is null or b.state in ('cancelled', 'done'))
         order by q.id for update of q",
    )
    .bind(chosen.destination)
    .bind(chosen.mappings)
    .bind(chosen.reason)
    .bind(chosen.run)
    .fetch_all(&mut *tx)
    .await?;
    let mut by_audience: BTreeMap<AudienceId, (Vec<i64>, RoaringBitmap)> = BTreeMap::new();
    for (record, audience, profile) in records {
        let (records, people) = by_audience.entry(audience).or_default();
        records.push(record);
        people.extend(u32::try_from(profile));
    }
    let mut opened = Vec::with_capacity(by_audience.len());
    for (audience, (records, people)) in by_audience {
        let people = Change { entered: people, exited: RoaringBitmap::new() };
        let backfill = open(&mut tx, listener, audience, Kind::Retry, &people).await?;
        sqlx::query("update quarantine set backfill_id = $2 where id = any($1)")
            .bind(records)
            .bind(backfill)
            .execute(&mut *tx)
            .await?;
        opened.push(backfill);
    }
    tx.commit().await?;
    Ok(opened)
}

/// A record that somebody asked to be told again.
#[derive(Debug, sqlx::FromRow)]
struct Record {
    id: i64,
    destination_id: DestinationId,
    position: Position,
    profile_id: i64,
    /// That its run has seen.
    last_merge: i64,
}

/// A backfill's audience, as its next slice sees it.
pub(super) struct Seen<'a> {
    pub backfill: BackfillId,
    pub listener: DestinationId,
    pub audience: AudienceId,
    pub class: Class,
    /// The run of the membership, and the last merge that it has followed.
    pub run: RunId,
    pub last_merge: i64,
    pub told: &'a Told,
    pub members: &'a RoaringBitmap,
}

/// The records that can be told now, each with the person who hears of it.
pub(super) struct Due(Vec<(i64, ProfileId)>);

impl Due {
    /// Looks at all records of a backfill, and settles those that need not be told, or cannot be now.
    pub async fn of(tx: &mut PgConnection, seen: &Seen<'_>) -> Result<Due> {
        let records: Vec<Record> = sqlx::query_as(
            "select q.id, q.destination_id, q.position, q.profile_id, r.last_merge from quarantine q
             join runs r on r.id = q.run_id where q.backfill_id = $1 and q.state = 'open' order by q.id",
        )
        .bind(seen.backfill)
        .fetch_all(&mut *tx)
        .await?;
        let oldest = records.iter().map(|record| record.last_merge).min().unwrap_or(seen.last_merge);
        let since = profile::merges::after(tx, oldest).await?;
        let merges = Merges(since.into_iter().filter(|merge| merge.id <= seen.last_merge).collect());
        let options = merges::options(tx, seen.run).await?;
        let hears = |record: &Record| {
            let profile = ProfileId(record.profile_id as u32);
            (profile, merges.hears(profile, record.last_merge, &options))
        };
        let people = records.iter().map(hears).flat_map(|(profile, who)| [Some(profile), who]).flatten().map(|id| id.0);
        let later = Later::read(tx, seen, &people.collect()).await?;
        let waits = waits(tx, seen).await?;
        let (mut due, mut superseded, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for record in &records {
            match hears(record) {
                // Those under whose name the survivor is told now were told otherwise.
                (_, None) => superseded.push(record.id),
                (profile, Some(who)) if later.tells(record, [profile, who]) => superseded.push(record.id),
                (_, Some(who)) if waits.contains(who.0) => left.push(record.id),
                (_, Some(who)) => due.push((record.id, who)),
            }
        }
        sqlx::query("update quarantine set state = 'superseded' where id = any($1)")
            .bind(superseded)
            .execute(&mut *tx)
            .await?;
        sqlx::query("update quarantine set backfill_id = null where id = any($1)").bind(left).execute(tx).await?;
        Ok(Due(due))
    }

    /// What is to be told, as it is now.
    pub fn change(&self, members: &RoaringBitmap) -> Change {
        let who: RoaringBitmap = self.0.iter().map(|(_, who)| who.0).collect();
        Change { entered: &who & members, exited: who - members }
    }

    /// Notes that the log tells these people's records from now on, at the places of the slice from `from` on.
    pub async fn moved(&self, tx: &mut PgConnection, slice: &Change, from: Position) -> Result<()> {
        let place = |who: &ProfileId| {
            let before = |side: &RoaringBitmap| side.rank(who.0) as i64 - 1;
            match slice.entered.contains(who.0) {
                true => Some(from.0 + before(&slice.entered)),
                false => {
                    let exited = slice.exited.contains(who.0);
                    exited.then(|| from.0 + slice.entered.len() as i64 + before(&slice.exited))
                }
            }
        };
        let moved = self.0.iter().filter_map(|(record, who)| Some((*record, place(who)?)));
        let (records, places): (Vec<i64>, Vec<i64>) = moved.unzip();
        sqlx::query(
            "update quarantine q set state = 'retried', retried_position = m.place
             from unnest($1::bigint[], $2::bigint[]) m (id, place) where q.id = m.id",
        )
        .bind(records)
        .bind(places)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Who is told nothing for now: whoever is to be left alone, and whoever has a change under way that is not in the log yet.
async fn waits(tx: &mut PgConnection, seen: &Seen<'_>) -> Result<RoaringBitmap> {
    let mut waits = leaving::suppressed(tx).await? | leaving::leaving(tx).await? | (&seen.told.members ^ seen.members);
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "select r.entered, r.exited from backfills b join backfill_rests r on r.backfill_id = b.id
         where b.destination_id = $1 and b.audience_id = $2 and b.kind = 'changes' and b.state in ('running', 'paused')",
    )
    .bind(seen.listener)
    .bind(seen.audience)
    .fetch_all(&mut *tx)
    .await?;
    for (entered, exited) in rows {
        waits |= diff::decode(&entered)? | diff::decode(&exited)?;
    }
    // Who has another value of a trait than the destination was told is told it by the next run.
    match seen.told.run {
        Some(run) if seen.class == Class::Trait => waits |= values::changed_since(tx, seen.audience, run).await?.0,
        Some(_) => {}
        None => waits |= seen.members,
    }
    Ok(waits)
}

/// The places of an audience's log that tell of some people, under all of their names and by all mappings.
struct Later(Vec<Stretch>);

struct Stretch {
    destination: DestinationId,
    from: Position,
    /// How far the other lane goes before it.
    after: Position,
    who: RoaringBitmap,
}

impl Later {
    async fn read(tx: &mut PgConnection, seen: &Seen<'_>, people: &RoaringBitmap) -> Result<Later> {
        let mut rows = sqlx::query(
            "with first as (select destination_id, min(position) as position from quarantine
                            where backfill_id = $3 and state = 'open' group by destination_id)
             select d.destination_id, d.from_position, d.after_position, coalesce(d.entered, r.entered) as entered,
                    coalesce(d.exited, r.exited) as exited
             from deltas d join runs r on r.id = d.run_id left join backfills b on b.id = d.backfill_id
             join destinations lane on lane.id = d.destination_id
             join destinations mine on mine.name = lane.name and mine.id = $1
             where r.audience_id = $2 and d.identified_since is null and b.kind is distinct from 'retry'
               and exists (select from first f where f.position
                           < case when f.destination_id = d.destination_id then d.from_position else d.after_position end)",
        )
        .bind(seen.listener)
        .bind(seen.audience)
        .bind(seen.backfill)
        .fetch(tx);
        let mut stretches = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let who = (diff::decode(row.try_get("entered")?)? | diff::decode(row.try_get("exited")?)?) & people;
            if !who.is_empty() {
                let (from, after) = (row.try_get("from_position")?, row.try_get("after_position")?);
                stretches.push(Stretch { destination: row.try_get("destination_id")?, from, after, who });
            }
        }
        Ok(Later(stretches))
    }

    /// Whether one of these was told of after the record's place: in its lane further on, or in the other lane behind it.
    fn tells(&self, record: &Record, who: [ProfileId; 2]) -> bool {
        self.0.iter().any(|stretch| {
            let behind = if stretch.destination == record.destination_id { stretch.from } else { stretch.after };
            behind > record.position && who.iter().any(|who| stretch.who.contains(who.0))
        })
    }
}
