//! What is in quarantine, and what would be told of a record there? For people to read: it shows whom a record is about.
//!
//! It only reads. Telling a record again is [`crate::delta::backfill::retry`].

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::{
    page::{enrichment, known},
    people::people,
    target::Target,
};
use crate::{
    Error, Result,
    audience::Class,
    delta::{self, Now, SealedRun, lane::Lane},
    identify::Envelope,
    ids::{BackfillId, DestinationId, Position, ProfileId, RunId},
    js::Json,
    mapping::{Event, Outcome},
    profile::lookup::{self, Name},
    runs::history,
    values,
};

/// Which records are meant; all that are open, where nothing is said.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub id: Option<i64>,
    pub destination: Option<String>,
    pub mapping: Option<String>,
    pub reason: Option<String>,
    pub run: Option<RunId>,
    /// Also those that were told again, or need not be.
    pub settled: bool,
}

/// A record in a list.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    #[serde(flatten)]
    pub row: Row,
    #[serde(flatten)]
    pub who: Name,
}

/// As the store has it.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Row {
    pub id: i64,
    pub destination: String,
    /// The key of the audience or computed trait.
    pub audience: String,
    pub run: RunId,
    pub mapping: String,
    pub reason: String,
    pub detail: String,
    /// `open`, `retried` or `superseded`.
    pub state: String,
    /// The backfill to which it was given to be told again.
    pub backfill: Option<BackfillId>,
    /// Its place, in the log of which lane.
    pub lane: Lane,
    pub position: Position,
    pub created_at: DateTime<Utc>,
    #[serde(skip)]
    destination_id: DestinationId,
    #[serde(skip)]
    profile_id: i64,
    #[serde(skip)]
    identity: i64,
}

/// The latest records in quarantine.
///
/// # Errors
/// The database's own.
pub async fn list(pool: &PgPool, filter: &Filter, limit: u32) -> Result<Vec<Record>> {
    let mut connection = pool.acquire().await?;
    let rows: Vec<Row> = sqlx::query_as(
        "select q.id, d.name as destination, a.key as audience, q.run_id as run, q.mapping, q.reason, q.detail, q.state,
                q.backfill_id as backfill, d.lane, q.position, q.created_at, q.destination_id, q.profile_id, q.identity
         from quarantine q join destinations d on d.id = q.destination_id
         join runs r on r.id = q.run_id join audiences a on a.id = r.audience_id
         where ($1::bigint is null or q.id = $1) and ($2::text is null or d.name = $2)
           and ($3::text is null or q.mapping = $3) and ($4::text is null or q.reason = $4)
           and ($5::bigint is null or q.run_id = $5) and ($6 or q.state = 'open')
         order by q.id desc limit $7",
    )
    .bind(filter.id)
    .bind(&filter.destination)
    .bind(&filter.mapping)
    .bind(&filter.reason)
    .bind(filter.run)
    .bind(filter.settled)
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    let profiles: Vec<ProfileId> = rows.iter().map(|row| ProfileId(row.profile_id as u32)).collect();
    let names = lookup::names(&mut connection, &profiles).await?;
    Ok(rows.into_iter().zip(names).map(|(row, who)| Record { row, who }).collect())
}

/// What would be told of a record now.
#[derive(Debug, Clone, Serialize)]
pub struct Look {
    #[serde(flatten)]
    pub record: Record,
    /// The event, with what is true now; its time and message id are those of the place where it was put aside. None if there is
    /// nobody to be told of any more under that name.
    pub event: Option<Value>,
    /// What the mapping in force makes of it.
    pub now: Would,
}

/// What the mapping in force makes of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Would {
    /// A record for the topic.
    Record { topic: String, key: Option<String>, partition: Option<i32>, bytes: usize },
    /// Still none that can be told.
    Rejected { reason: String, detail: String },
    /// The trigger does not match.
    Unsubscribed,
    /// The destination has no such mapping, or it is disabled.
    UnknownMapping,
    /// The person has that name no longer.
    Nobody,
}

/// The record of this number.
///
/// # Errors
/// [`crate::Kind::Settings`] if there is none; the database's own.
pub async fn find(pool: &PgPool, id: i64) -> Result<Record> {
    let found = list(pool, &Filter { id: Some(id), settled: true, ..Filter::default() }, 1).await?;
    found.into_iter().next().ok_or_else(|| {
        Error::settings(format!("there is no record {id} in quarantine")).help("`rollcall quarantine` lists them.")
    })
}

/// Makes the event of a record anew, as things are now, and holds the mapping in force against it.
///
/// # Errors
/// The database's own; [`crate::Kind::Halted`] if the log is damaged.
pub async fn look(pool: &PgPool, target: &Target, record: Record) -> Result<Look> {
    let nobody = |record| Ok(Look { record, event: None, now: Would::Nobody });
    let mut reader = delta::Reader::new(record.row.destination_id);
    reader.take_as_told(Position(i64::MAX));
    let Some(page) = reader.page(pool, record.row.position, 1).await? else { return nobody(record) };
    let pages = [page];
    let [page] = &pages;
    let people = people(pool, &pages).await?;
    let profile = ProfileId(record.row.profile_id as u32);
    let Some(who) = people.hears(profile, &page.run) else { return nobody(record) };
    let identities = people.identities(who, &page.run);
    let identity = identities.iter().find(|identity| identity.digest() == record.row.identity);
    let (Some(identity), Some(person)) = (identity, people.get(who)) else { return nobody(record) };
    let now = holds(pool, &page.run, who).await?;
    let stream = delta::head(pool, &target.name, record.row.lane).await?.stream;
    let envelope = Envelope::new(&page.run, &target.space_id, &target.name, stream);
    let mut text = String::new();
    let traits = enrichment(person, &page.run.options.include_traits);
    let written = envelope.write(&mut text, profile, identity, &traits, &now);
    let context = Json::read(envelope.context());
    let event = Event::known(&text, known(&text, &written, &envelope, context.as_ref(), &now));
    let mapping = target.mappings.iter().find(|mapping| mapping.name() == record.row.mapping);
    let now = match mapping.map(|mapping| mapping.apply(&event)) {
        None => Would::UnknownMapping,
        Some(Outcome::Unsubscribed) => Would::Unsubscribed,
        Some(Outcome::Rejected(why)) => Would::Rejected { reason: why.code.to_owned(), detail: why.detail },
        Some(Outcome::Record(told)) => Would::Record {
            topic: told.topic,
            key: told.key,
            partition: told.partition,
            bytes: told.value.map_or(0, |value| value.len()),
        },
    };
    Ok(Look { record, event: serde_json::from_str(&text).ok(), now })
}

/// What holds of a person by the last run of what the record tells of.
async fn holds(pool: &PgPool, run: &SealedRun, who: ProfileId) -> Result<Now> {
    Ok(match run.class {
        Class::Audience if history::members(pool, &run.key, None).await?.contains(who.0) => Now::In,
        Class::Audience => Now::Out,
        Class::Trait => {
            let value = values::of(&mut *pool.acquire().await?, run.audience, &[who]).await?;
            value.into_iter().next().map_or(Now::Nothing, |(_, value)| Now::Value(value))
        }
    })
}

/// What became of records that somebody asked to be told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Retried {
    /// In the log once more, and told, unless the backfill is still under way.
    pub retried: i64,
    /// Not told: a later change of the person is.
    pub superseded: i64,
    /// Of those that were told again, how many were put aside once more.
    pub put_aside_again: i64,
}

/// What became of the records that were given to these backfills.
///
/// # Errors
/// The database's own.
pub async fn retried(pool: &PgPool, backfills: &[BackfillId]) -> Result<Retried> {
    let ids: Vec<i64> = backfills.iter().map(|backfill| backfill.0).collect();
    Ok(sqlx::query_as(
        "select count(*) filter (where state = 'retried') as retried, count(*) filter (where state = 'superseded') as superseded,
                (select count(*) from deltas d join quarantine again on again.destination_id = d.destination_id
                     and again.position >= d.from_position and again.position < d.to_position
                 where d.backfill_id = any($1)) as put_aside_again
         from quarantine where backfill_id = any($1)",
    )
    .bind(ids)
    .fetch_one(pool)
    .await?)
}
