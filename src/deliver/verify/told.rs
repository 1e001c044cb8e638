//! Does what counts as told say what the log says, and the membership what the runs say?
//!
//! `told` is the log added up, and the membership is the runs added up; the two agree where nothing is left to be told. Profiles that
//! were merged or forgotten are left out: their places were taken by others at moments that the log does not name.

use futures_util::TryStreamExt as _;
use roaring::RoaringBitmap;
use sqlx::{PgConnection, Row as _};

use super::{
    log::{Audience, Log},
    report::{Findings, Kind},
    should::Told,
};
use crate::{
    Result,
    audience::Class,
    ids::{AudienceId, DestinationId, RunId},
    membership::diff::{self, Change},
    values,
};

/// Checks every audience that the destination was told of.
pub(super) async fn check(tx: &mut PgConnection, log: &mut Log, found: &mut Findings) -> Result<()> {
    let Some(live) = log.lanes.first().map(|lane| lane.destination) else { return Ok(()) };
    let moved =
        ids(tx, "select from_id from merges union select into_id from merges where into_id is not null").await?;
    let apart = &moved | ids(tx, "select profile_id from suppressions where profile_id is not null").await?;
    let whole = log.lanes.iter().all(|lane| lane.from().0 == 0);
    if !whole {
        found.cannot_see(
            "The beginning of the log is past retention: only whom the rest of it names is held against `told`.",
        );
    }
    if !moved.is_empty() {
        found.cannot_see(format!(
            "{} profiles were merged or forgotten: `told` is not held against the log for them.",
            moved.len()
        ));
    }
    for audience in &mut log.audiences {
        let told = match told(tx, live, audience.id).await? {
            Ok(told) => told,
            Err(unreadable) => {
                found.add_audience(Kind::Told, &audience.key, unreadable);
                continue;
            }
        };
        let nobody = RoaringBitmap::new();
        let members = told.as_ref().map_or(&nobody, |told| &told.members);
        against_the_log(audience, members, &moved, whole, found);
        membership(tx, audience, told.as_ref(), &apart, found).await?;
        audience.told = told;
    }
    log.apart = apart;
    Ok(())
}

/// What counts as told of an audience; the inner error says what of it cannot be read.
async fn told(
    tx: &mut PgConnection,
    live: DestinationId,
    audience: AudienceId,
) -> Result<std::result::Result<Option<Told>, &'static str>> {
    let row = sqlx::query(
        "select members, coalesce(former, '') as former, run_id, last_merge from told
         where destination_id = $1 and audience_id = $2",
    );
    let Some(row) = row.bind(live).bind(audience).fetch_optional(&mut *tx).await? else { return Ok(Ok(None)) };
    let (members, former): (&[u8], &[u8]) = (row.try_get("members")?, row.try_get("former")?);
    let Ok(members) = diff::decode(members) else { return Ok(Err("what was told cannot be read")) };
    let former = if former.is_empty() { Ok(RoaringBitmap::new()) } else { diff::decode(former) };
    let Ok(former) = former else { return Ok(Err("who was told to have left cannot be read")) };
    let (run, last_merge) = (row.try_get("run_id")?, row.try_get("last_merge")?);
    Ok(Ok(Some(Told { run, last_merge, members, former, waiting: waiting(tx, live, audience).await? })))
}

/// Who was told last that they are in must count as told, and nobody else.
fn against_the_log(
    audience: &Audience,
    told: &RoaringBitmap,
    moved: &RoaringBitmap,
    whole: bool,
    found: &mut Findings,
) {
    let Change { entered, exited } = &audience.last;
    let missing = entered - told - moved;
    let mut beyond = told & exited;
    if whole {
        beyond |= told - entered;
    }
    found.add_profiles(
        Kind::Told,
        &audience.key,
        &missing,
        "the log tells that they are in; they do not count as told so",
    );
    found.add_profiles(
        Kind::Told,
        &audience.key,
        &(beyond - moved),
        "they count as told that they are in; the log does not tell so",
    );
}

/// The membership against the runs, or the values of a trait, and against what was told where all of it should be.
async fn membership(
    tx: &mut PgConnection,
    audience: &Audience,
    told: Option<&Told>,
    apart: &RoaringBitmap,
    found: &mut Findings,
) -> Result<()> {
    let row = sqlx::query("select members, run_id from memberships where audience_id = $1").bind(audience.id);
    let Some(row) = row.fetch_optional(&mut *tx).await? else { return Ok(()) };
    let Ok(members) = diff::decode(row.try_get::<&[u8], _>("members")?) else {
        found.add_audience(Kind::Membership, &audience.key, "the membership cannot be read");
        return Ok(());
    };
    match audience.class {
        Class::Audience => {
            if let Some(added_up) = runs(tx, audience.id).await? {
                let other = &added_up ^ &members;
                let detail = "the membership is not what its runs add up to";
                found.add_profiles(Kind::Membership, &audience.key, &other, detail);
            }
        }
        Class::Trait => match values::whose(tx, audience.id).await {
            Ok(whose) => {
                let other = (&whose ^ &members) - apart;
                found.add_profiles(Kind::Membership, &audience.key, &other, "the membership is not who has a value");
            }
            Err(error) if error.kind == crate::Kind::Halted => {
                found.add_audience(Kind::Membership, &audience.key, "its values cannot be read");
            }
            Err(error) => return Err(error),
        },
    }
    if let Some(told) = told.filter(|told| row.try_get("run_id").is_ok_and(|run: RunId| run == told.run)) {
        let other = (&members ^ &told.members) - apart - &told.waiting;
        found.add_profiles(Kind::Membership, &audience.key, &other, "the membership is not what was told");
    }
    Ok(())
}

/// All runs of an audience added up; `None` where the first ones are past retention, or one cannot be read.
async fn runs(tx: &mut PgConnection, audience: AudienceId) -> Result<Option<RoaringBitmap>> {
    let mut rows = sqlx::query(
        "select members - entered_count + exited_count as before, entered, exited, went, came
         from runs left join run_merges on run_id = id
         where audience_id = $1 and state in ('sealed', 'released') order by id",
    )
    .bind(audience)
    .fetch(tx);
    let mut members: Option<RoaringBitmap> = None;
    while let Some(row) = rows.try_next().await? {
        let so_far = match members.take() {
            Some(so_far) => so_far,
            None if row.try_get::<i64, _>("before")? == 0 => RoaringBitmap::new(),
            None => return Ok(None),
        };
        let change = |entered: &[u8], exited: &[u8]| {
            Some(Change { entered: diff::decode(entered).ok()?, exited: diff::decode(exited).ok()? })
        };
        let merged = match (row.try_get::<Option<&[u8]>, _>("went")?, row.try_get::<Option<&[u8]>, _>("came")?) {
            (Some(went), Some(came)) => change(came, went),
            _ => Some(Change::default()),
        };
        let (Some(merged), Some(own)) = (merged, change(row.try_get("entered")?, row.try_get("exited")?)) else {
            return Ok(None);
        };
        members = Some(own.apply(&merged.apply(&so_far)));
    }
    Ok(members)
}

/// Who is still to be told by backfills.
async fn waiting(tx: &mut PgConnection, live: DestinationId, audience: AudienceId) -> Result<RoaringBitmap> {
    let rests: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "select entered, exited from backfill_rests r join backfills b on b.id = r.backfill_id
         where b.destination_id = $1 and b.audience_id = $2",
    )
    .bind(live)
    .bind(audience)
    .fetch_all(tx)
    .await?;
    let mut waiting = RoaringBitmap::new();
    for (entered, exited) in rests {
        waiting |= diff::decode(&entered)? | diff::decode(&exited)?;
    }
    Ok(waiting)
}

async fn ids(tx: &mut PgConnection, sql: &'static str) -> Result<RoaringBitmap> {
    let ids: Vec<i64> = sqlx::query_scalar(sql).fetch_all(tx).await?;
    Ok(ids.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
}
