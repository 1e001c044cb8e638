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
};
use crate::{
    Result,
    audience::Class,
    ids::{AudienceId, RunId},
    membership::diff::{self, Change},
};

/// Checks every audience that the destination was told of.
pub(super) async fn check(tx: &mut PgConnection, log: &Log, found: &mut Findings) -> Result<()> {
    let Some(live) = log.lanes.first() else { return Ok(()) };
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
    for audience in &log.audiences {
        let row = sqlx::query("select members, run_id from told where destination_id = $1 and audience_id = $2");
        let row = row.bind(live.destination).bind(audience.id).fetch_optional(&mut *tx).await?;
        let (told, run) = match &row {
            Some(row) => (row.try_get::<&[u8], _>("members")?, Some(RunId(row.try_get("run_id")?))),
            None => (&[][..], None),
        };
        let told = match row.is_some() {
            true => diff::decode(told).ok(),
            false => Some(RoaringBitmap::new()),
        };
        let Some(told) = told else {
            found.add_audience(Kind::Told, &audience.key, "what was told cannot be read");
            continue;
        };
        against_the_log(audience, &told, &moved, whole, found);
        membership(tx, live.destination.0, audience, &told, run, &apart, found).await?;
    }
    Ok(())
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

/// The membership against the runs, and against what was told where all of it should be.
async fn membership(
    tx: &mut PgConnection,
    live: i32,
    audience: &Audience,
    told: &RoaringBitmap,
    told_run: Option<RunId>,
    apart: &RoaringBitmap,
    found: &mut Findings,
) -> Result<()> {
    let row = sqlx::query("select members, run_id from memberships where audience_id = $1").bind(audience.id);
    let Some(row) = row.fetch_optional(&mut *tx).await? else { return Ok(()) };
    let Ok(members) = diff::decode(row.try_get::<&[u8], _>("members")?) else {
        found.add_audience(Kind::Membership, &audience.key, "the membership cannot be read");
        return Ok(());
    };
    if audience.class == Class::Audience
        && let Some(added_up) = runs(tx, audience.id).await?
    {
        let other = &added_up ^ &members;
        found.add_profiles(Kind::Membership, &audience.key, &other, "the membership is not what its runs add up to");
    }
    if told_run == Some(RunId(row.try_get("run_id")?)) {
        let waiting = waiting(tx, live, audience.id).await?;
        let other = (&members ^ told) - apart - waiting;
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
async fn waiting(tx: &mut PgConnection, live: i32, audience: AudienceId) -> Result<RoaringBitmap> {
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
