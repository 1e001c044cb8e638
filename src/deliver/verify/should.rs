//! Does a consumer have what counts as told? What the topics add up to, person by person, against `told` and the values of traits.
//!
//! What would be told today of everybody who counts as told is made, and looked for. Left out is of whom that is another thing: who is
//! still to be told, put aside, merged or forgotten, or got a name since. With them as the topics have them, the digest is what the
//! topics *should* add up to.

use std::{collections::HashMap, sync::Arc};

use roaring::RoaringBitmap;
use sqlx::{PgPool, Row as _};

use super::{
    super::{Target, page::Pages},
    At,
    check::Checker,
    event::Said,
    log::Audience,
    report::{Difference, Findings, Kind},
};
use crate::{
    Error, Result,
    audience::Class,
    delta::{Chain, Now, SealedRun, lane::Lane},
    ids::{AudienceId, Position, ProfileId, RunId},
    limits, values,
};

/// What counts as told of an audience.
#[derive(Debug)]
pub struct Told {
    pub run: RunId,
    pub last_merge: i64,
    pub members: RoaringBitmap,
    /// Who was told to be in, and out since.
    pub former: RoaringBitmap,
    /// Who is still to be told by backfills.
    pub waiting: RoaringBitmap,
}

/// Compares, and puts the digest of each topic right, where the topics were added up from their beginnings.
///
/// # Errors
/// If the database cannot be asked.
pub(super) async fn look(
    pool: &PgPool,
    target: &Target,
    cursors: &HashMap<Lane, At>,
    checker: &mut Checker<'_>,
    found: &mut Findings,
) -> Result<()> {
    let Some(live) = cursors.get(&Lane::Live) else { return Ok(()) };
    if checker.people.is_none() {
        return Ok(());
    }
    if !can_compare(target, checker) {
        found.cannot_see(
            "What the topics add up to is not held against `told`: it is not all there, or was mapped otherwise.",
        );
        return Ok(());
    }
    let mut apart = unsettled(pool, cursors, checker).await?;
    let mut looking = Looking { pool, pages: Pages::new(pool.clone(), &live.head, target), checker, wrong: Vec::new() };
    let log = looking.checker.log;
    for audience in &log.audiences {
        let Some(told) = &audience.told else { continue };
        let apart = apart.remove(&audience.id).unwrap_or_default() | &log.apart | &told.waiting;
        let run = Arc::new(run(pool, audience, told).await?);
        let left = match audience.class {
            Class::Audience => Now::Out,
            Class::Trait => Now::Nothing,
        };
        let is_whole = looking.members(audience, &run, &(&told.members - &apart)).await?;
        looking
            .each(&run, (&told.former - &apart - &told.members).iter().map(|id| (ProfileId(id), left.clone())))
            .await?;
        if !is_whole {
            found.cannot_see(format!(
                "`{}` was computed anew since: its values are not held against the topics.",
                audience.key
            ));
        }
    }
    // Where a record is missing or says another thing, that is what is wrong, and was said with its place.
    if found.counts.is_empty() {
        looking.wrong.into_iter().for_each(|difference| found.add(difference));
    }
    Ok(())
}

/// Whether all that was told is on the topics, as the mappings in force say it.
fn can_compare(target: &Target, checker: &Checker<'_>) -> bool {
    let in_force = target.mapping_version();
    let is_whole =
        |topic: &super::Topic| !topic.compacted && (0..topic.stretches.len()).all(|partition| !topic.is_cut(partition));
    checker.terms.whole_events
        && checker.topics.iter().all(is_whole)
        && checker
            .log
            .lanes
            .iter()
            .flat_map(|lane| &lane.parts)
            .all(|part| part.mapping_version.is_empty() || part.mapping_version == in_force)
}

/// By audience, whose changes the cursors have not passed, or are in quarantine.
async fn unsettled(
    pool: &PgPool,
    cursors: &HashMap<Lane, At>,
    checker: &Checker<'_>,
) -> Result<HashMap<AudienceId, RoaringBitmap>> {
    let log = checker.log;
    let mut unsettled: HashMap<AudienceId, RoaringBitmap> = HashMap::new();
    for (index, lane) in log.lanes.iter().enumerate() {
        let cursor = cursors.get(&lane.lane).map_or(0, |at| at.cursor.0);
        let first = lane.parts.partition_point(|part| part.range.end <= cursor);
        let ahead: Vec<(usize, usize)> = (first..lane.parts.len()).map(|part| (index, part)).collect();
        for ((_, part), change) in ahead.iter().zip(log.changes(pool, &ahead).await?) {
            let Some(change) = change else { continue };
            *unsettled.entry(log.audiences[lane.parts[*part].audience].id).or_default() |=
                change.entered | change.exited;
        }
        let aside: Vec<(AudienceId, i64)> = sqlx::query_as(
            "select r.audience_id, q.profile_id from quarantine q join runs r on r.id = q.run_id where q.destination_id = $1",
        )
        .bind(lane.destination)
        .fetch_all(pool)
        .await?;
        for (audience, profile) in aside {
            unsettled.entry(audience).or_default().extend(u32::try_from(profile));
        }
    }
    Ok(unsettled)
}

/// A run as which all that counts as told is told.
async fn run(pool: &PgPool, audience: &Audience, told: &Told) -> Result<SealedRun> {
    let row = sqlx::query(
        "select a.computation_id, r.evaluated_at, r.tombstone, v.options from runs r join audiences a on a.id = r.audience_id
         join definitions v on v.audience_id = r.audience_id and v.version = r.definition_version where r.id = $1",
    )
    .bind(told.run)
    .fetch_one(pool)
    .await?;
    let options = serde_json::from_value(row.try_get("options")?);
    Ok(SealedRun {
        run: told.run,
        audience: audience.id,
        class: audience.class,
        key: audience.key.clone(),
        computation_id: row.try_get("computation_id")?,
        evaluated_at: row.try_get("evaluated_at")?,
        options: options
            .map_err(|error| Error::halted("a stored definition's options cannot be read").because(error))?,
        range: Position(0)..Position(0),
        before: Chain::default(),
        chain: Chain::default(),
        after: Position(0),
        backfill: None,
        is_retry: false,
        last_merge: told.last_merge,
        values_through: None,
        identified_since: None,
        tombstone: false,
    })
}

struct Looking<'l, 'c> {
    pool: &'l PgPool,
    pages: Pages,
    checker: &'l mut Checker<'c>,
    wrong: Vec<Difference>,
}

impl Looking<'_, '_> {
    /// Looks for everybody who counts as told to be in. False if the trait has other values by now.
    async fn members(&mut self, audience: &Audience, run: &Arc<SealedRun>, members: &RoaringBitmap) -> Result<bool> {
        if audience.class == Class::Audience {
            self.each(run, members.iter().map(|id| (ProfileId(id), Now::In))).await?;
            return Ok(true);
        }
        let ids: Vec<ProfileId> = members.iter().map(ProfileId).collect();
        for ids in ids.chunks(limits::PAGE_CHANGES) {
            // One snapshot: the values of the run that was told, or none.
            let mut tx = self.pool.begin_with("begin isolation level repeatable read read only").await?;
            let latest: Option<RunId> = sqlx::query_scalar("select run_id from memberships where audience_id = $1")
                .bind(audience.id)
                .fetch_optional(&mut *tx)
                .await?;
            if latest != Some(run.run) {
                return Ok(false);
            }
            let mut values = match values::of(&mut tx, audience.id, ids).await {
                // That they cannot be read was found before.
                Err(error) if error.kind == crate::Kind::Halted => return Ok(true),
                values => values?,
            };
            tx.commit().await?;
            values.sort_unstable();
            self.each(run, values.into_iter().map(|(id, value)| (id, Now::Value(value)))).await?;
        }
        Ok(true)
    }

    /// Looks for what would be told of these people today.
    async fn each(&mut self, run: &Arc<SealedRun>, people: impl Iterator<Item = (ProfileId, Now)>) -> Result<()> {
        let mut people = people.peekable();
        while people.peek().is_some() {
            let mut some: Vec<(ProfileId, Now)> = people.by_ref().take(limits::PAGE_CHANGES).collect();
            let renamed = self.renamed(run.run, &some).await?;
            some.retain(|(id, _)| !renamed.contains(id.0));
            let mut left = &some[..];
            while !left.is_empty() {
                let page = self.pages.of(run, left).await?;
                page.records.iter().for_each(|told| self.hold(run, told.profile, &told.record));
                left = &left[(page.to.0 as usize).clamp(1, left.len())..];
            }
        }
        Ok(())
    }

    /// Who of them got a name that the run did not see.
    async fn renamed(&self, run: RunId, people: &[(ProfileId, Now)]) -> Result<RoaringBitmap> {
        let renamed: Vec<i64> = sqlx::query_scalar(
            "select distinct i.profile_id from identifiers i join runs r on r.id = $1
             where i.profile_id = any($2) and r.snapshot <> '' and not pg_visible_in_snapshot(i.xid, r.snapshot::pg_snapshot)",
        )
        .bind(run)
        .bind(people.iter().map(|(id, _)| i64::from(id.0)).collect::<Vec<_>>())
        .fetch_all(self.pool)
        .await?;
        Ok(renamed.into_iter().filter_map(|id| u32::try_from(id).ok()).collect())
    }

    fn hold(&mut self, run: &SealedRun, profile: ProfileId, record: &crate::mapping::Record) {
        let Some(topic) = self.checker.topics.iter().position(|topic| topic.name == record.topic) else { return };
        let Some(people) = self.checker.people.as_mut().map(|people| &mut people[topic]) else { return };
        let Some(said) = record.value.as_deref().and_then(Said::read) else { return };
        if !people.should(&said) {
            self.wrong.push(Difference {
                kind: Kind::Told,
                detail: "what counts as told is not what the topic adds up to".to_owned(),
                audience: Some(run.key.clone()),
                profile: Some(profile.0),
                topic: Some(record.topic.clone()),
                ..Default::default()
            });
        }
    }
}
