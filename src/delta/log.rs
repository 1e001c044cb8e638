//! What is each destination still to be told? Writes the log: gapless, in the order of sealing, in two lanes.
//!
//! Two call this: the seal, in its own transaction, and the backfills, which add a slice at a time. Both have the
//! [turn](super::turn::Turn), so one comes after the other. Nothing else writes `deltas`, `told` or a lane's positions. **`told` is what the
//! log says**: it changes only together with the log, by exactly what was appended.

use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{
    backfill::{self, Kind},
    chain::{Chain, Link},
    lane::{self, Lane, Places},
    renamed::{self, Came, Renamed},
};
use crate::{
    Error, Result,
    audience::Class,
    ids::{AudienceId, BackfillId, DestinationId, Position, RunId},
    membership::{
        diff::{self, Change},
        merges,
        run::Run,
    },
    profile::leaving,
    registry::register::{Listener, Registered},
    values,
};

/// What a destination was told of an audience, as far as its log goes.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The latest run up to which its changes are in the log, or left to a backfill.
    pub run: Option<RunId>,
    /// The snapshot of that run.
    pub snapshot: Option<String>,
    /// The last merge of profiles that it has seen; none before the first time.
    pub last_merge: Option<i64>,
    pub members: RoaringBitmap,
    /// Told true once, and false since.
    pub former: RoaringBitmap,
    /// Where the audience's last change in each lane ends.
    pub ends: Places,
}

impl Told {
    /// What `destination` (its live lane) was told of an audience; nothing before the first time.
    pub(crate) async fn read(tx: &mut PgConnection, destination: DestinationId, audience: AudienceId) -> Result<Told> {
        let row = sqlx::query(
            "select t.run_id, r.snapshot, t.last_merge, t.members, t.former, t.live_end, t.bulk_end
             from told t left join runs r on r.id = t.run_id where t.destination_id = $1 and t.audience_id = $2",
        )
        .bind(destination)
        .bind(audience)
        .fetch_optional(tx)
        .await?;
        let Some(row) = row else {
            let (members, former) = (RoaringBitmap::new(), RoaringBitmap::new());
            return Ok(Told { run: None, snapshot: None, last_merge: None, members, former, ends: Places::START });
        };
        let former = row.try_get::<Option<&[u8]>, _>("former")?.map(diff::decode).transpose()?;
        Ok(Told {
            run: Some(row.try_get("run_id")?),
            snapshot: row.try_get("snapshot")?,
            last_merge: row.try_get("last_merge")?,
            members: diff::decode(row.try_get::<&[u8], _>("members")?)?,
            former: former.unwrap_or_default(),
            ends: Places { live: Position(row.try_get("live_end")?), bulk: Position(row.try_get("bulk_end")?) },
        })
    }

    /// Brings it up to date with the merges since; returns of whom it is unsure. Of a trait those are the survivors who are told by an
    /// identifier that was told another's value.
    async fn follow(&mut self, tx: &mut PgConnection, class: Class, run: RunId) -> Result<RoaringBitmap> {
        let last = self.last_merge;
        self.last_merge = Some(sqlx::query_scalar("select rollcall_last_merge()").fetch_one(&mut *tx).await?);
        match (class, last) {
            (Class::Audience, Some(last)) => merges::follow_told(tx, &mut self.members, last, run).await,
            (Class::Trait, Some(last)) => merges::told_anothers(tx, last, run).await,
            (_, None) => Ok(RoaringBitmap::new()),
        }
    }

    /// Remembers it; as of `run`, where no run was told before.
    pub(crate) async fn write(
        &self,
        tx: &mut PgConnection,
        destination: DestinationId,
        audience: AudienceId,
        run: RunId,
    ) -> Result<()> {
        sqlx::query(
            "insert into told (destination_id, audience_id, run_id, members, former, live_end, bulk_end, last_merge)
             values ($1, $2, $3, $4, $5, $6, $7, coalesce($8, rollcall_last_merge()))
             on conflict (destination_id, audience_id) do update
             set run_id = excluded.run_id, members = excluded.members, former = excluded.former,
                 live_end = excluded.live_end, bulk_end = excluded.bulk_end, last_merge = excluded.last_merge",
        )
        .bind(destination)
        .bind(audience)
        .bind(self.run.unwrap_or(run))
        .bind(diff::encode(&self.members))
        .bind(diff::encode(&self.former))
        .bind(self.ends.live)
        .bind(self.ends.bulk)
        .bind(self.last_merge)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// How far a destination's lanes are told, as Postgres mirrors it: perhaps behind, never ahead.
pub(crate) async fn mirrors(tx: &mut PgConnection, destination: DestinationId) -> Result<Places> {
    let rows = sqlx::query(
        "select d.lane, v.cursor_position from destinations d join deliveries v on v.destination_id = d.id
         where d.name = (select name from destinations where id = $1)",
    )
    .bind(destination)
    .fetch_all(tx)
    .await?;
    let mut told = Places::START;
    for row in rows {
        told.set(row.try_get("lane")?, row.try_get("cursor_position")?);
    }
    Ok(told)
}

/// Brings a destination's log up to a run: what it has not been told yet is appended, or, where it is too much for once,
/// left to a backfill. So is what it was told under other identifiers only.
pub(crate) async fn tell(
    tx: &mut PgConnection,
    destination: &Listener,
    audience: Of,
    run: &Run,
    change: &Change,
    members: &RoaringBitmap,
    came: &mut Came,
) -> Result<()> {
    let run_id = run.run.ok_or_else(|| Error::internal("a run is told before it is recorded"))?;
    let mut told = Told::read(tx, destination.id, audience.id).await?;
    let mut unsure = told.follow(tx, audience.class, run_id).await?;
    if audience.class == Class::Trait {
        // Who has no value now was told of none by this name, or is told so by the difference.
        unsure &= members;
    }
    let suppressed = leaving::suppressed(tx).await?;
    let mut members = members.clone();
    diff::keep(&mut members, &suppressed, &told.members);
    let mut untold = Change::between_unsure(&told.members, &(unsure - &suppressed), &members);
    // Of a trait also whoever was told a value and has another one. A merged profile has no value any more, and the survivor's
    // is computed anew: that is its own change. Whoever is told for the first time, or after a pause, is told all of several values.
    let left = backfill::given_back(tx, destination.id, audience.id).await?;
    let (changed, missed) = match told.run {
        Some(run) if audience.class == Class::Trait => {
            let (changed, runs) = values::changed_since(tx, audience.id, run).await?;
            (((changed | left) & &members) - &suppressed, runs > 1)
        }
        _ => (RoaringBitmap::new(), true),
    };
    untold.entered |= &changed;
    let waiting = backfill::waiting(tx, destination.id, audience.id, &members, &changed).await?;
    untold.entered -= &waiting.entered;
    untold.exited -= &waiting.exited;
    // Whoever is told now, or by a backfill, is so under all of his identifiers.
    let known = (&told.members & &members) - &untold.entered - &waiting.entered - suppressed;
    let mut again = match told.snapshot.take() {
        Some(since) => renamed::after(tx, came, since, run_id, &known).await?,
        None => Renamed::default(),
    };
    for (kind, change) in [(Kind::Changes, &mut untold), (Kind::Resync, &mut again.change)] {
        let later = backfill::too_much(change, destination.backfill_above, audience.rate_limit);
        if !later.is_empty() {
            backfill::open(tx, destination.id, audience.id, kind, &later).await?;
        }
    }
    told.run = Some(run_id);
    let said = Said { is_the_runs: *change == untold, missed, ..Said::of(run_id, &untold) };
    now(tx, destination, audience, &mut told, said).await?;
    let said = Said { identified_since: Some(&again.since), ..Said::of(run_id, &again.change) };
    now(tx, destination, audience, &mut told, said).await?;
    told.write(tx, destination.id, audience.id, run_id).await
}

/// Tells at once of people who are to be forgotten that they have left, whatever backfills were to tell of them.
pub(crate) async fn leave(
    tx: &mut PgConnection,
    destination: &Listener,
    audience: Of,
    run: RunId,
    leaving: &RoaringBitmap,
    members: &RoaringBitmap,
) -> Result<()> {
    backfill::forget(tx, destination.id, audience.id, leaving).await?;
    let mut told = Told::read(tx, destination.id, audience.id).await?;
    // A survivor's value is computed by the next run: until then a trait follows no merge.
    let unsure = match audience.class {
        Class::Audience => told.follow(tx, audience.class, run).await?,
        Class::Trait => RoaringBitmap::new(),
    };
    // Of whom it is unsure, it is so only until the merges were followed: now.
    let others = unsure.clone() - leaving - leaving::suppressed(tx).await?;
    let mut change = Change { entered: &others & members, exited: others - members };
    change.exited |= (&told.members | unsure) & leaving;
    now(tx, destination, audience, &mut told, Said::of(run, &change)).await?;
    told.write(tx, destination.id, audience.id, run).await
}

/// Tells at once of people who have left already, for the last time.
pub(crate) async fn bury(
    tx: &mut PgConnection,
    destination: &Listener,
    audience: Of,
    run: RunId,
    buried: &Change,
) -> Result<()> {
    let mut told = Told::read(tx, destination.id, audience.id).await?;
    now(tx, destination, audience, &mut told, Said::of(run, buried)).await?;
    told.write(tx, destination.id, audience.id, run).await
}

/// Appends a change, in the lane that keeps its audience's order.
async fn now(
    tx: &mut PgConnection,
    destination: &Listener,
    audience: Of,
    told: &mut Told,
    Said { run, change, is_the_runs, missed, identified_since }: Said<'_>,
) -> Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    if audience.class == Class::Trait {
        values::seal(tx, run, audience.id, change, &told.members, missed).await?;
    }
    let lane = lane::lane(&told.ends, &mirrors(tx, destination.id).await?);
    append(tx, destination, told, Part { lane, run, change, is_the_runs, backfill: None, identified_since }).await?;
    Ok(())
}

/// What a run says at once.
struct Said<'a> {
    run: RunId,
    change: &'a Change,
    /// See [`Part::is_the_runs`].
    is_the_runs: bool,
    /// Whether earlier runs went untold: then all of a trait's several values are told, not those alone that changed.
    missed: bool,
    /// See [`Part::identified_since`].
    identified_since: Option<&'a str>,
}

impl<'a> Said<'a> {
    /// What no run was evaluated for: told in full, under all identifiers.
    fn of(run: RunId, change: &'a Change) -> Said<'a> {
        Said { run, change, is_the_runs: false, missed: true, identified_since: None }
    }
}

/// The audience or trait that is told of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of {
    pub id: AudienceId,
    pub class: Class,
    /// Identify events told a second, where that is limited: then all of it is told by backfills.
    pub rate_limit: Option<u32>,
}

impl Of {
    pub(crate) fn registered(of: &Registered) -> Of {
        Of { id: of.id, class: of.audience.computed.class(), rate_limit: of.audience.rate_limit }
    }
}

/// Changes of one audience that are appended together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub lane: Lane,
    /// The run whose membership says so.
    pub run: RunId,
    pub change: &'a Change,
    /// The run's own bitmaps say the same: they need not be stored again.
    pub is_the_runs: bool,
    pub backfill: Option<BackfillId>,
    /// Told under those identifiers alone that came since this snapshot; none: under all.
    pub identified_since: Option<&'a str>,
}

/// Takes the next range of a lane's log, and counts its changes as told; the row lock keeps ranges gapless and in commit order.
pub(crate) async fn append(
    tx: &mut PgConnection,
    destination: &Listener,
    told: &mut Told,
    part: Part<'_>,
) -> Result<Position> {
    let lane_id = lane_id(tx, destination.id, part.lane).await?;
    // What a trait tells was sealed just before.
    let row = sqlx::query(
        "select next_position, chain, gen_random_uuid() as nonce, through, rollcall_sealed_values($2, through) as values
         from destinations, (select max(id) as through from run_values where run_id = $2) sealed where id = $1
         for update of destinations",
    )
    .bind(lane_id)
    .bind(part.run)
    .fetch_one(&mut *tx)
    .await?;
    let nonce: Uuid = row.try_get("nonce")?;
    let from = Position(row.try_get("next_position")?);
    let to = Position(from.0 + part.change.len() as i64);
    let (entered, exited) = (diff::encode(&part.change.entered), diff::encode(&part.change.exited));
    let link = Link {
        run: part.run,
        range: from..to,
        entered: &entered,
        exited: &exited,
        values: row.try_get("values")?,
        // The dangerous place: this is what keeps an audience's order across lanes, see `lane`.
        after: told.ends.of(part.lane.other()),
        backfill: part.backfill,
        identified_since: part.identified_since,
        nonce,
    };
    let chain = Chain(row.try_get("chain")?).link(&link);
    let after = link.after;
    sqlx::query(
        "insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, entered, exited, chain,
                             after_position, backfill_id, identified_since, nonce, values_through)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(lane_id)
    .bind(from)
    .bind(to)
    .bind(part.run)
    .bind(&destination.mapping_version)
    .bind((!part.is_the_runs).then_some(entered))
    .bind((!part.is_the_runs).then_some(exited))
    .bind(&chain.0)
    .bind(after)
    .bind(part.backfill)
    .bind(part.identified_since)
    .bind(nonce)
    .bind(row.try_get::<Option<i64>, _>("through")?)
    .execute(&mut *tx)
    .await?;
    sqlx::query("update destinations set next_position = $2, chain = $3 where id = $1")
        .bind(lane_id)
        .bind(to)
        .bind(&chain.0)
        .execute(tx)
        .await?;
    told.members = part.change.apply(&told.members);
    told.former = (&told.former | &part.change.exited) - &part.change.entered;
    told.ends.set(part.lane, to);
    Ok(to)
}

/// The row of a lane; that of the bulk lane is made when it is first needed.
async fn lane_id(tx: &mut PgConnection, live: DestinationId, lane: Lane) -> Result<DestinationId> {
    if lane == Lane::Live {
        return Ok(live);
    }
    let known = sqlx::query_scalar(
        "select id from destinations where lane = 'bulk' and name = (select name from destinations where id = $1)",
    )
    .bind(live)
    .fetch_optional(&mut *tx)
    .await?;
    match known {
        Some(id) => Ok(id),
        None => Ok(sqlx::query_scalar(
            "insert into destinations (name, lane) select name, 'bulk' from destinations where id = $1 returning id",
        )
        .bind(live)
        .fetch_one(tx)
        .await?),
    }
}
