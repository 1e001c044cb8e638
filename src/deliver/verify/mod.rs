//! Is what the topic says what the database says? Reads both, and says where they differ. Changes neither.
//!
//! ```text
//!  Postgres: runs ─► membership        Kafka: cursor ─► topics, as a reader of committed records
//!              │         │                      │          │
//!            log, chain ─┴─ told                └─ decide ─┴─ each position once, in order, saying what the log says there
//! ```
//!
//! **The argument.** If the log's chain is what its rows come to, the log is what was sealed. If `told` is what the log adds up to, and
//! each position up to the cursor is on the topics once, in its order, with the bytes that were told, saying of the profile at that
//! position what the log says, then the topics add up to `told`. Each of these is looked at by itself, so a difference names its place.
//!
//! **In which order it is read.** First the cursor: what it has passed was committed. Then where the topics end, so all of that lies before.
//! Then the log: what is on the topics was sealed before. So it may be asked while a delivery goes on, and finds no difference that is
//! only a matter of time.

mod check;
mod event;
mod log;
mod missing;
mod people;
mod report;
mod seen;
mod should;
mod told;
mod topic;

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

pub use self::report::{AudienceReport, Difference, Kind, LaneReport, Report, RunDigest, TopicReport};
use self::{
    check::{Checker, Terms},
    log::Log,
    people::People,
    report::Findings,
    topic::Topic,
};
use super::{
    Target, cursor,
    recover::{self, Decision, Facts, Found},
    topic_ids,
};
use crate::{
    Error, Result,
    clock::Clock,
    config::{Delivery, OnExit},
    delta::{self, Head, lane::Lane},
    ids::Position,
    kafka::cluster::Cluster,
    kafka::topic as topics,
};

/// How long Kafka may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a topic may show nothing new before its end: as long as another's transaction may be open, and some.
const STANDSTILL: Duration = Duration::from_secs(90);

/// What is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question {
    /// Records from that time on alone.
    pub since: Option<DateTime<Utc>>,
    /// Whether the topics are added up and held against what counts as told, which takes about 50 bytes of memory for each person and
    /// audience.
    pub digest: bool,
}

/// Holds what a destination's topics say against what the database says. `progress` hears of records that were read, and of how many
/// there are.
///
/// # Errors
/// If Postgres or Kafka cannot be asked, or the destination was never told anything. A difference is no error: it is in the report.
pub async fn verify(
    pool: &PgPool,
    target: &Target,
    question: Question,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Report> {
    let clock = Clock::system();
    let started = clock.monotonic();
    let mut found = Findings::default();
    let cursors = cursors(pool, target, &mut found).await?;
    let (cluster, topics) = look(pool, target, &cursors, question, &mut found).await?;
    let log = Log::read(pool, &target.name, &mut found).await?;
    let whole_events = target.mappings.iter().all(|mapping| mapping.sends_whole_events());
    let terms = Terms { delivery: target.delivery, whole_events, several: target.mappings.len() > 1 };
    if !whole_events {
        found.cannot_see(
            "A mapping sends other values than whole events: their records are held against their checksum and place alone.",
        );
    }
    let tombstones = target.mappings.iter().any(|mapping| mapping.on_exit() == OnExit::Tombstone)
        || log.lanes.iter().flat_map(|lane| &lane.parts).any(|part| part.tombstone);
    let people = question.digest.then(|| topics.iter().map(|_| People::new(tombstones)).collect());
    let earlier = earlier_streams(pool).await?;
    let mut checker = Checker::new(pool, &log, &topics, terms, earlier, people);
    let total =
        topics.iter().flat_map(|topic| &topic.stretches).map(|stretch| (stretch.end - stretch.from) as u64).sum();
    let mut batches = {
        let topics = topics.clone();
        blocking(move || topic::read(&cluster, &topics, STANDSTILL)).await?
    };
    let mut records = 0;
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        checker.take(&batch, &mut found).await?;
        records += batch.records.len() as u64;
        progress(batch.records.len() as u64, total);
    }
    let lanes = lanes(pool, target, &cursors, &checker, &mut found).await?;
    should::look(pool, target, &cursors, &mut checker, &mut found).await?;
    let mut report = report(target, &log, checker, lanes, found);
    name_people(pool, &mut report.differences).await?;
    report.records = records;
    report.seconds = clock.monotonic().duration_since(started).as_secs_f64();
    Ok(report)
}

/// Where a lane is, as was found first of all.
struct At {
    head: Head,
    cursor: Position,
}

/// Reads each lane's cursor, and holds it against its mirror and the log as delivery does when it recovers.
async fn cursors(pool: &PgPool, target: &Target, found: &mut Findings) -> Result<HashMap<Lane, At>> {
    let mut cursors = HashMap::new();
    for lane in [Lane::Live, Lane::Bulk] {
        // What must be behind the cursor is read before it, what must be ahead of it after.
        let Some(before) = delta::find(pool, &target.name, lane).await? else { continue };
        let cursor = match target.delivery {
            Delivery::AtLeastOnce => Found::Nothing,
            Delivery::ExactlyOnce => {
                let (name, settings, topic) =
                    (target.name.clone(), target.settings.clone(), target.cursor_topic.clone());
                let stream = before.stream;
                blocking(move || {
                    let cluster = Cluster::open(&name, &settings)?;
                    match cursor::read(&cluster, &topic, stream, PATIENCE + STANDSTILL) {
                        // Nothing was ever told: there need be no cursor topic.
                        Err(error) if error.kind == crate::Kind::Settings && before.mirror == Position(0) => {
                            Ok(Found::Nothing)
                        }
                        read => Ok(read?.found),
                    }
                })
                .await?
            }
        };
        let Some(head) = delta::find(pool, &target.name, lane).await? else { continue };
        if head.stream != before.stream {
            return Err(Error::wait("the destination was given a new stream meanwhile").help("Verify again."));
        }
        let mut at = At { cursor: before.mirror, head };
        if target.delivery == Delivery::ExactlyOnce {
            let next = match &cursor {
                Found::Cursor(cursor) => cursor.next,
                _ => Position(0),
            };
            let chain = delta::chain_at(pool, at.head.destination, next).await?;
            let (stream, log_end, mirror) = (at.head.stream, at.head.end, before.mirror);
            let (delivery, deleted, recreated) = (target.delivery, false, Vec::new());
            let facts = Facts { delivery, stream, log_end, mirror, cursor, deleted, chain, recreated };
            at.cursor = next.min(log_end);
            if let Decision::Halt(halt) = recover::decide(&facts) {
                let detail = format!("{}: {}", halt.reason, halt.detail);
                let (kind, lane, position) = (Kind::Cursor, Some(lane), Some(next));
                found.add(Difference { kind, detail, lane, position, ..Default::default() });
            }
        }
        cursors.insert(lane, at);
    }
    if cursors.is_empty() {
        return Err(Error::settings(format!("no destination '{}' has been told anything yet", target.name))
            .help("`rollcall sync` tells it what it must know."));
    }
    Ok(cursors)
}

/// Looks at the topics that the streams were told to, and those that mappings name outright.
async fn look(
    pool: &PgPool,
    target: &Target,
    cursors: &HashMap<Lane, At>,
    question: Question,
    found: &mut Findings,
) -> Result<(Cluster, Vec<Topic>)> {
    let mut known = Vec::new();
    for at in cursors.values() {
        known.extend(topic_ids::known(pool, at.head.stream).await?);
    }
    known.retain(|(name, _)| *name != target.cursor_topic);
    let mut names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
    let told: std::collections::HashSet<String> = names.iter().cloned().collect();
    names.extend(target.mappings.iter().filter_map(|mapping| mapping.literal_topic()));
    names.sort();
    names.dedup();
    let (name, settings) = (target.name.clone(), target.settings.clone());
    let (cluster, topics, gone, ids) = blocking(move || {
        let cluster = Cluster::open(&name, &settings)?;
        let (topics, gone) = topic::look(&cluster, &names, question.since, PATIENCE)?;
        let ids = topics::describe(cluster.admin()?.inner(), &names, PATIENCE).unwrap_or_default();
        Ok((cluster, topics, gone, ids))
    })
    .await?;
    let mut topic = |name: &str, detail: &str| {
        let (kind, topic) = (Kind::Topic, Some(name.to_owned()));
        found.add(Difference { kind, detail: detail.to_owned(), topic, ..Default::default() });
    };
    gone.iter().filter(|name| told.contains(*name)).for_each(|name| topic(name, "the topic that was told to is gone"));
    for (name, id) in &known {
        if ids.iter().any(|now| now.name == *name && now.id.is_some_and(|now| now != *id)) {
            topic(name, "the topic that was told to was deleted and created again");
        }
    }
    for topic in &topics {
        if (0..topic.stretches.len()).any(|partition| topic.is_cut(partition)) {
            found.cannot_see(format!(
                "Topic '{}' is not read from its first record: the rest of it is past retention, or before --since.",
                topic.name
            ));
        }
        if topic.compacted {
            found.cannot_see(format!("Topic '{}' is compacted: of each key the last record is looked for, and the earlier ones where they are still there.", topic.name));
        }
    }
    Ok((cluster, topics))
}

/// The streams that were told before the last start-over of any destination.
async fn earlier_streams(pool: &PgPool) -> Result<Vec<String>> {
    let streams: Vec<Uuid> = sqlx::query_scalar(
        "select distinct stream from delivery_topics t where not exists (select from destinations d where d.stream = t.stream)",
    )
    .fetch_all(pool)
    .await?;
    Ok(streams.iter().map(Uuid::to_string).collect())
}

async fn lanes(
    pool: &PgPool,
    target: &Target,
    cursors: &HashMap<Lane, At>,
    checker: &Checker<'_>,
    found: &mut Findings,
) -> Result<Vec<LaneReport>> {
    let mut reports = Vec::new();
    for (index, lane) in checker.log.lanes.iter().enumerate() {
        let at = cursors.get(&lane.lane);
        let cursor = at.map_or(Position(0), |at| at.cursor);
        let mut report = LaneReport {
            lane: lane.lane,
            stream: lane.stream.to_string(),
            from: lane.from().min(cursor),
            end: lane.end,
            cursor,
            mirror: at.map_or(Position(0), |at| at.head.mirror),
            seen: 0,
            without_record: 0,
            quarantined: 0,
            out_of_sight: 0,
        };
        missing::look(pool, target, index, checker, &mut report, found).await?;
        reports.push(report);
    }
    Ok(reports)
}

fn report(target: &Target, log: &Log, checker: Checker<'_>, lanes: Vec<LaneReport>, found: Findings) -> Report {
    let mut topics = checker.tallies;
    if let Some(people) = &checker.people {
        topics.iter_mut().zip(people).for_each(|(topic, people)| topic.digest = Some(people.digest()));
    }
    let audiences = log.audiences.iter().filter(|audience| !(audience.last.is_empty())).map(|audience| {
        AudienceReport { key: audience.key.clone(), class: audience.class, told: audience.last.entered.len() }
    });
    let mut runs: Vec<RunDigest> =
        checker.runs.iter().map(|((lane, part), sum)| run_digest(log, *lane, *part, *sum)).collect();
    runs.sort_by_key(|run| (run.lane, run.from));
    Report {
        destination: target.name.clone(),
        agrees: found.counts.is_empty(),
        records: 0,
        seconds: 0.0,
        lanes,
        topics,
        audiences: audiences.collect(),
        runs,
        counts: found.counts,
        differences: found.differences,
        unseen: found.unseen,
    }
}

fn run_digest(log: &Log, lane: usize, part: usize, sum: u128) -> RunDigest {
    let (lane, part) = (log.lanes[lane].lane, &log.lanes[lane].parts[part]);
    RunDigest {
        run: part.run,
        audience: log.audiences[part.audience].key.clone(),
        lane,
        from: Position(part.range.start),
        to: Position(part.range.end),
        digest: format!("{sum:032x}"),
    }
}

/// Gives those whom differences are about a name: their latest user id, or another identifier.
async fn name_people(pool: &PgPool, differences: &mut [Difference]) -> Result<()> {
    let profiles: Vec<i64> = differences.iter().filter_map(|difference| difference.profile.map(i64::from)).collect();
    let named: Vec<(i64, String)> = sqlx::query_as(
        "select distinct on (profile_id) profile_id, case type when 'user_id' then value else type || ':' || value end
         from identifiers where profile_id = any($1) order by profile_id, type <> 'user_id', added_at desc, value desc",
    )
    .bind(profiles)
    .fetch_all(pool)
    .await?;
    let named: HashMap<i64, String> = named.into_iter().collect();
    for difference in differences {
        difference.person = difference.profile.and_then(|profile| named.get(&i64::from(profile)).cloned());
    }
    Ok(())
}

/// Runs what blocks beside the other tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("a look at Kafka broke").because(error))?
}
