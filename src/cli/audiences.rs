//! `rollcall audiences`: whom do we mean, what do we compute of them, and what was found last?

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Context, status::instant, table};
use crate::{
    Result,
    audience::Class,
    config::Config,
    freshness,
    ids::RunId,
    runs::{failed::Failure, held},
    schedule::{Freshness, Setting},
};

/// List the configured audiences and computed traits with their state, schedule, freshness, last run and members.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall audiences
  rollcall audiences --json | jq -r '.[].key'")]
pub struct Args {}

/// One audience of the configuration, and what the database knows of it.
#[derive(Debug, Serialize)]
struct Listed {
    key: String,
    /// `audience` or `trait`.
    class: &'static str,
    name: String,
    state: &'static str,
    schedule: Option<String>,
    query: String,
    /// None if it is disabled, and where no database can be reached.
    freshness: Option<Freshness>,
    /// The instant of the last run that every destination has been told.
    true_as_of: Option<DateTime<Utc>>,
    /// The last accepted one; none before it, and where no database can be reached.
    last_run: Option<LastRun>,
    /// The latest failure since then.
    last_failure: Option<Failure>,
    /// The run that waits for a person.
    held_run: Option<RunId>,
}

#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
struct LastRun {
    #[serde(skip)]
    key: String,
    evaluated_at: DateTime<Utc>,
    members: i64,
    entered: i64,
    exited: i64,
}

pub async fn run(_: Args, context: &Context) -> Result<()> {
    let config = context.config()?;
    let (mut last_runs, mut fresh, mut held) = match known(context, &config).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "the last runs are not shown");
            Default::default()
        }
    };
    let mut listed = |class, key: String, name: &str, enabled, schedule: Option<&Setting>, query: &str| {
        let fresh = fresh.remove(&key);
        Listed {
            class,
            name: name.to_owned(),
            state: if enabled { "enabled" } else { "disabled" },
            schedule: schedule.map(ToString::to_string),
            query: query.to_owned(),
            freshness: fresh.as_ref().map(|fresh| fresh.fresh.freshness),
            true_as_of: fresh.as_ref().and_then(|fresh| fresh.true_as_of),
            last_failure: fresh.and_then(|fresh| fresh.last_failure),
            last_run: last_runs.remove(&key),
            held_run: held.remove(&key),
            key,
        }
    };
    let mut all = Vec::new();
    for of in &config.audiences {
        all.push(listed(
            Class::Audience.as_str(),
            of.key(),
            &of.name,
            of.enabled,
            of.schedule.as_ref(),
            &of.definition(),
        ));
    }
    for of in &config.traits {
        all.push(listed(Class::Trait.as_str(), of.key(), &of.name, of.enabled, of.schedule.as_ref(), &of.definition()));
    }
    context.output().show(&all, |listed| {
        let rows = listed.iter().map(|audience| {
            let run = audience.last_run.as_ref();
            let count = |count: fn(&LastRun) -> i64| run.map(count).map(|count| count.to_string()).unwrap_or_default();
            [
                audience.key.clone(),
                audience.class.into(),
                match (&audience.held_run, &audience.last_failure) {
                    (_, Some(failure)) => format!("{}, failed: {}", audience.state, failure.reason),
                    (Some(run), None) => format!("{}, run {run} is held", audience.state),
                    (None, None) => audience.state.into(),
                },
                audience.schedule.clone().unwrap_or_default(),
                audience.freshness.map(Freshness::name).unwrap_or_default().into(),
                instant(audience.true_as_of),
                instant(run.map(|run| run.evaluated_at)),
                count(|run| run.members),
                count(|run| run.entered),
                count(|run| run.exited),
            ]
        });
        let header = [
            "key",
            "class",
            "state",
            "schedule",
            "freshness",
            "true as of",
            "last run",
            "members",
            "entered",
            "exited",
        ];
        table(header, rows)
    })
}

/// What the database knows of the configured audiences, by key.
type Known = (HashMap<String, LastRun>, HashMap<String, freshness::Audience>, HashMap<String, RunId>);

/// An embedded Postgres that was never started knows nothing, and is not set up for being asked.
async fn known(context: &Context, config: &Config) -> Result<Known> {
    if !context.has_store()? {
        return Ok(Default::default());
    }
    let store = context.store().await?;
    let runs: Vec<LastRun> = sqlx::query_as(
        "select a.key, r.evaluated_at, r.members, r.entered_count as entered, r.exited_count as exited
         from audiences a
         cross join lateral (
             select * from runs where audience_id = a.id and state in ('sealed', 'released') order by id desc limit 1
         ) r",
    )
    .fetch_all(&store)
    .await?;
    let survey = freshness::survey(&store, config, context.clock().now()).await?;
    let held = held::waiting(&store).await?.into_iter().map(|held| (held.key, held.run));
    Ok((
        runs.into_iter().map(|run| (run.key.clone(), run)).collect(),
        survey.audiences.into_iter().map(|audience| (audience.key.clone(), audience)).collect(),
        held.collect(),
    ))
}
