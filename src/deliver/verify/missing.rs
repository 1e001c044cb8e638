//! Changes without a record: lost, or is there none to be? What would be told of them today is made again, and looked for.
//!
//! Nobody to tell, a mapping that does not take the event, quarantine, retention, compaction and people who came or changed since
//! explain a gap. What nothing explains is missing.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher as _,
};

use foldhash::fast::FixedState;
use roaring::RoaringTreemap;
use sqlx::PgPool;

use super::{
    super::{
        Target,
        page::{Pages, Told},
        quarantine,
    },
    check::Checker,
    report::{Difference, Findings, Kind, LaneReport},
};
use crate::{
    Result,
    delta::Head,
    ids::{Position, RunId},
    limits,
};

/// Gaps that are no further apart are looked at together.
const NEAR: u64 = 1_000;

/// Looks at the gaps of one lane, up to its cursor, and counts them in its report.
pub(super) async fn look(
    pool: &PgPool,
    target: &Target,
    lane: usize,
    checker: &Checker<'_>,
    report: &mut LaneReport,
    found: &mut Findings,
) -> Result<()> {
    let told = &checker.log.lanes[lane];
    let (from, end) = (report.from.0 as u64, report.cursor.0 as u64);
    let mut anywhere = RoaringTreemap::new();
    let mut gaps = RoaringTreemap::new();
    for seen in &checker.seen {
        anywhere |= &seen.positions[lane];
    }
    // Of several topics each may lack another one.
    let everywhere = checker.seen.iter().map(|seen| seen.positions[lane].clone()).reduce(|all, seen| all & seen);
    gaps.insert_range(from..end);
    gaps -= everywhere.unwrap_or_default();
    report.seen = anywhere.range_cardinality(from..end);
    let skipped = quarantine::load(pool, told.destination, Position(from as i64)).await?;
    let aside: RoaringTreemap = skipped.iter().map(|row| row.position.0 as u64).collect();
    let head = Head { destination: told.destination, stream: told.stream, end: told.end, mirror: report.mirror };
    let mut pages = Pages::new(pool.clone(), &head, target);
    pages.take_as_told();
    let mut search = Search::new(checker, lane, target.mapping_version());
    for stretch in stretches(&gaps) {
        let mut next = stretch.start;
        while next < stretch.end {
            let limit = ((stretch.end - next) as usize).min(limits::PAGE_CHANGES);
            let page = match pages.page(Position(next as i64), limit, &skipped).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // A log that contradicts itself was found before: what it would tell is not known.
                Err(error) if error.kind == crate::Kind::Halted => break,
                Err(error) => return Err(error),
            };
            next = page.to.0 as u64;
            let records = page.records.into_iter().filter(|told| (told.position.0 as u64) < end);
            records.for_each(|record| search.expect(record));
            if search.candidates.len() >= limits::PAGE_CHANGES {
                search.settle(pool, found).await?;
            }
        }
    }
    search.settle(pool, found).await?;
    report.quarantined = (&aside - &anywhere).range_cardinality(from..end);
    report.out_of_sight = (&search.out_of_sight - &anywhere).len();
    let missing = (&search.missing - &anywhere).len();
    let gaps = end.saturating_sub(from) - report.seen;
    report.without_record = gaps.saturating_sub(report.quarantined + report.out_of_sight + missing);
    Ok(())
}

/// Looks for records that should be there.
struct Search<'c> {
    checker: &'c Checker<'c>,
    lane: usize,
    mapping_version: String,
    topics: HashMap<&'c str, usize>,
    /// By topic, from which position on all of the lane's records are in sight.
    in_sight: Vec<Option<u64>>,
    candidates: Vec<Candidate>,
    missing: RoaringTreemap,
    out_of_sight: RoaringTreemap,
}

impl<'c> Search<'c> {
    fn new(checker: &'c Checker<'c>, lane: usize, mapping_version: String) -> Search<'c> {
        let topics = checker.topics.iter().enumerate();
        Search {
            checker,
            lane,
            mapping_version,
            in_sight: topics
                .clone()
                .map(|(at, topic)| checker.seen[at].in_sight_from(lane, |partition| topic.is_cut(partition)))
                .collect(),
            topics: topics.map(|(at, topic)| (&*topic.name, at)).collect(),
            candidates: Vec::new(),
            missing: RoaringTreemap::new(),
            out_of_sight: RoaringTreemap::new(),
        }
    }

    /// A record that would be told today: is it there, or was it taken away?
    fn expect(&mut self, record: Told) {
        let (position, lane) = (record.position.0 as u64, self.lane);
        let topic = self.topics.get(record.record.topic.as_str()).copied();
        if topic.is_some_and(|topic| self.checker.seen[topic].positions[lane].contains(position)) {
            return;
        }
        let told = &self.checker.log.lanes[lane];
        let version = told.part(record.position.0).map_or("", |part| &told.parts[part].mapping_version);
        let mapped_otherwise = !version.is_empty() && version != self.mapping_version;
        let is_gone = topic.is_some_and(|topic| {
            self.in_sight[topic].is_none_or(|from| position < from)
                || self.checker.topics[topic].compacted && self.is_compacted(topic, &record)
        });
        if mapped_otherwise || is_gone {
            self.out_of_sight.insert(position);
        } else {
            self.candidates.push(Candidate::of(record));
        }
    }

    /// Whether compaction may have taken a record: a later one has its key, or it takes its own key away.
    fn is_compacted(&self, topic: usize, record: &Told) -> bool {
        let key = FixedState::default().hash_one(record.record.key.as_deref().map(str::as_bytes));
        let last = self.checker.keys[topic].get(&key);
        let is_later = |last: &[Option<u64>; 2]| {
            last[self.lane].is_some_and(|last| last > record.position.0 as u64) || last[1 - self.lane].is_some()
        };
        record.record.value.is_none() || last.is_some_and(is_later)
    }

    /// Tells those who were known when their change was sealed from those who got an identifier only later: these had none to be told by.
    async fn settle(&mut self, pool: &PgPool, found: &mut Findings) -> Result<()> {
        let candidates = std::mem::take(&mut self.candidates);
        if candidates.is_empty() {
            return Ok(());
        }
        let known: Vec<i64> = sqlx::query_scalar(
            "select u.position from unnest($1::bigint[], $2::bigint[], $3::bigint[]) u (position, run_id, profile_id)
             join runs r on r.id = u.run_id
             where r.snapshot = '' or exists (select from identifiers i where i.profile_id = u.profile_id
                                              and pg_visible_in_snapshot(i.xid, r.snapshot::pg_snapshot))",
        )
        .bind(candidates.iter().map(|one| one.position.0).collect::<Vec<_>>())
        .bind(candidates.iter().map(|one| one.run.0).collect::<Vec<_>>())
        .bind(candidates.iter().map(|one| i64::from(one.profile)).collect::<Vec<_>>())
        .fetch_all(pool)
        .await?;
        let known: HashSet<i64> = known.into_iter().collect();
        let (log, told) = (self.checker.log, &self.checker.log.lanes[self.lane]);
        for Candidate { position, run, profile, topic } in candidates {
            if !known.contains(&position.0) {
                self.out_of_sight.insert(position.0 as u64);
                continue;
            }
            self.missing.insert(position.0 as u64);
            let audience = told.part(position.0).map(|part| log.audiences[told.parts[part].audience].key.clone());
            found.add(Difference {
                kind: Kind::Missing,
                detail: "the cursor has passed this change, and there is no record of it".to_owned(),
                lane: Some(told.lane),
                position: Some(position),
                run: Some(run),
                audience,
                profile: Some(profile),
                topic: Some(topic),
                ..Default::default()
            });
        }
        Ok(())
    }
}

/// A record that should be there.
struct Candidate {
    position: Position,
    run: RunId,
    profile: u32,
    topic: String,
}

impl Candidate {
    fn of(record: Told) -> Candidate {
        let Told { position, run, profile, record, .. } = record;
        Candidate { position, run, profile: profile.0, topic: record.topic }
    }
}

/// Stretches of positions, near ones together.
fn stretches(positions: &RoaringTreemap) -> Vec<std::ops::Range<u64>> {
    let mut stretches: Vec<std::ops::Range<u64>> = Vec::new();
    for position in positions {
        match stretches.last_mut() {
            Some(last) if position <= last.end + NEAR => last.end = position + 1,
            _ => stretches.push(position..position + 1),
        }
    }
    stretches
}
