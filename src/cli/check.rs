//! `rollcall check`: is everything that the configuration names within reach?
//!
//! It looks and changes nothing: no schema is set up, no topic made, no record sent.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use sqlx::PgConnection;
use tokio::{task::spawn_blocking, time::timeout};
use uuid::Uuid;

use super::Context;
use crate::{
    Error, Kind, Result,
    audience::{catalogue::Catalogue, check::Known},
    config::Config,
    database,
    deliver::{self, Target},
    profile::rules::Rules,
    pull,
    registry::{register, seen},
    stream::Stream,
};

/// Check the configuration, the database and every destination, stream and SQL source, and say how to mend what is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall check
  rollcall check --destination kafka
  rollcall check --json | jq '.[] | select(.ok | not)'

It changes nothing. The exit code is 0 if all is well, else that of the first thing that is not.")]
pub struct Args {
    /// Name of a destination; all enabled ones if not given.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
}

/// A server that takes longer is as good as away.
const REACH: Duration = Duration::from_secs(5);
/// `server_version_num` of PostgreSQL 14.
const OLDEST: i32 = 140_000;

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    ok: bool,
    detail: String,
    /// How to mend it, where it is not well.
    remedy: Option<String>,
    #[serde(skip)]
    kind: Kind,
}

impl Finding {
    fn good(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Finding { subject: subject.into(), ok: true, detail: detail.into(), remedy: None, kind: Kind::Settings }
    }
    fn bad(subject: impl Into<String>, error: &Error) -> Self {
        let problems = error.problems.iter().flat_map(|at| &at.problems);
        let details = std::iter::once(error.message.as_str()).chain(problems.clone().map(|p| p.message.as_str()));
        let remedy = error.help.clone().or_else(|| problems.clone().find_map(|problem| problem.help.clone()));
        let detail = details.collect::<Vec<_>>().join("; ");
        Finding { subject: subject.into(), ok: false, detail, remedy, kind: error.kind }
    }
    fn of(subject: impl Into<String>, result: Result<String>) -> Self {
        match result {
            Ok(detail) => Finding::good(subject, detail),
            Err(error) => Finding::bad(subject, &error),
        }
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    // Its problems are told as ever, with the places: nothing else can be looked at before they are mended.
    let config = context.config()?;
    let known = known(&config, context).await.unwrap_or_default();
    let mut findings = configuration(&config, &known);
    findings.extend(database(context).await);
    findings.extend(sources(&config, context).await);
    for name in config.chosen_destinations(args.destination.as_deref())? {
        findings.extend(kafka(name, &config, context).await);
    }
    if args.destination.is_none() {
        findings.extend(topics_of_streams(&config).await);
    }
    context.output().show(&findings, |findings| findings.iter().map(line).collect())?;
    let bad: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    match bad.first() {
        None => Ok(()),
        Some(first) => {
            Err(Error::new(first.kind, format!("{} of {} checks found something", bad.len(), findings.len())))
        }
    }
}

fn line(finding: &Finding) -> String {
    let mark = if finding.ok { '✓' } else { '✗' };
    let remedy = finding.remedy.as_ref().map(|remedy| format!("\n    {remedy}")).unwrap_or_default();
    format!("{mark} {}: {}{remedy}\n", finding.subject, finding.detail)
}

fn configuration(config: &Config, known: &Known) -> Vec<Finding> {
    let (audiences, traits, destinations) = (config.audiences.len(), config.traits.len(), config.destinations.len());
    let counts = format!("{audiences} audiences, {traits} traits, {destinations} destinations");
    let mut findings = vec![Finding::good("configuration", counts)];
    // As `plan` reads them.
    let catalogue = Catalogue::of(config, known);
    for (key, error) in &catalogue.refused {
        findings.push(Finding::bad(subject(config, key), error));
    }
    for (key, warning) in &catalogue.warnings {
        findings.push(Finding::good(subject(config, key), format!("perhaps a mistake: {warning}")));
    }
    findings
}

/// An audience's or trait's key; where none can be had, its name.
fn subject(config: &Config, key: &str) -> String {
    let is_trait = config.traits.iter().any(|of| of.key() == key || of.name == key);
    format!("{} '{key}'", if is_trait { "trait" } else { "audience" })
}

/// What the store holds, if it is there and set up; what is wrong with the database is told elsewhere.
async fn known(config: &Config, context: &Context) -> Option<Known> {
    if !context.has_store().ok()? {
        return None;
    }
    let options = context.database().await.ok()?;
    let mut connection = timeout(REACH, database::connect(&options)).await.ok()?.ok()?;
    let mut known = register::known(&mut connection).await.ok()?;
    seen::carried(&mut connection, config, &mut known).await.ok()?;
    seen::names(&mut connection, config, &mut known).await.ok()?;
    Some(known)
}

/// Each statement is understood by its database; no row is read.
async fn sources(config: &Config, context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, source) in config.sources.iter().filter(|(_, source)| source.enabled) {
        let looked = async {
            if let (false, Some(url)) = (source.is_pulled(), &source.database) {
                pull::session::open(name, pull::session::options(name, url)?).await?;
                return Ok("may be read by SQL audiences and traits".into());
            }
            let own = match (&source.database, context.has_store()?) {
                (None, false) => {
                    return Ok("in the embedded database, to be set up by the first command that needs it".into());
                }
                (None, true) => Some(context.database().await?),
                (Some(_), _) => None,
            };
            Ok(format!("columns {}", pull::check(own, name, source).await?.join(", ")))
        };
        findings.push(Finding::of(format!("source '{name}'"), looked.await));
    }
    findings
}

async fn database(context: &Context) -> Vec<Finding> {
    match context.has_store() {
        Ok(true) => {}
        Ok(false) => {
            return vec![Finding::good("database", "embedded, to be set up by the first command that needs it")];
        }
        Err(error) => return vec![Finding::bad("database", &error)],
    }
    let options = match context.database().await {
        Ok(options) => options,
        Err(error) => return vec![Finding::bad("database", &error)],
    };
    let connected = async {
        timeout(REACH, database::connect(&options))
            .await
            .map_err(|_| Error::wait("the database does not answer"))?
            .map_err(|error| {
                let message = format!("no connection: {error}");
                Error::new(Error::from(error).kind, message).help("Check --database, DATABASE_URL or `database`.")
            })
    };
    let mut connection = match connected.await {
        Ok(connection) => connection,
        Err(error) => return vec![Finding::bad("database", &error)],
    };
    vec![
        Finding::of("database", version(&mut connection).await),
        Finding::of("database sessions", database::refuse_shared_sessions(&options).await.map(|()| "our own".into())),
        Finding::of("database role", role(&mut connection).await),
        Finding::of("database schema", steps(&mut connection).await),
    ]
}

async fn version(connection: &mut PgConnection) -> Result<String> {
    let (version, number, standby): (String, i32, bool) = sqlx::query_as(
        "select current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery()",
    )
    .fetch_one(connection)
    .await?;
    if number < OLDEST {
        return Err(Error::settings(format!("PostgreSQL {version} is too old")).help("Use PostgreSQL 14 or newer."));
    }
    if standby {
        let help = "Name the primary: runs are sealed in the transaction that evaluates them.";
        return Err(Error::settings(format!("PostgreSQL {version} is a standby")).help(help));
    }
    Ok(format!("PostgreSQL {version}, primary"))
}

async fn role(connection: &mut PgConnection) -> Result<String> {
    let (role, schema, may_create): (String, Option<String>, Option<bool>) = sqlx::query_as(
        "select current_user::text, current_schema()::text, has_schema_privilege(current_schema(), 'create')",
    )
    .fetch_one(connection)
    .await?;
    let schema = schema.ok_or_else(|| {
        let help =
            format!("Create a schema that is in its search_path, or: alter role {role} set search_path = public");
        Error::settings(format!("{role} has no schema to work in")).help(help)
    })?;
    match may_create {
        Some(true) => Ok(format!("{role} may create tables in {schema}")),
        _ => Err(Error::settings(format!("{role} may not create tables in {schema}"))
            .help(format!("As its owner: grant create, usage on schema {schema} to {role}"))),
    }
}

async fn steps(connection: &mut PgConnection) -> Result<String> {
    let newest = database::newest_step();
    let is_set_up: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&mut *connection).await?;
    if !is_set_up {
        return Ok("empty, to be set up by the first command that needs it".into());
    }
    let step: Option<i64> =
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(connection).await?;
    match step.unwrap_or(0) {
        step if step == newest => Ok(format!("at step {step}, the newest")),
        step if step < newest => Ok(format!("at step {step}, to be brought to {newest} by the next command")),
        step => Err(Error::settings(format!("at step {step}, but this program knows no more than {newest}"))
            .help("A newer Rollcall has used this database: run that one.")),
    }
}

/// Whether what the enabled streams read is there.
async fn topics_of_streams(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stream) in config.streams.iter().filter(|(_, stream)| stream.enabled) {
        let subject = format!("stream '{name}'");
        let looked = async {
            let rules = Arc::new(Rules::of(&config.identity)?);
            Arc::new(Stream::of(name, stream, &rules)?).look().await
        };
        match looked.await {
            Ok((partitions, missing)) => {
                findings.extend(missing.iter().map(|error| Finding::bad(subject.clone(), error)));
                findings.push(Finding::good(subject, format!("{partitions} partitions")));
            }
            Err(error) => findings.push(Finding::bad(subject, &error)),
        }
    }
    findings
}

/// The streams of the destination's lanes, if the database is there and knows it; what is wrong with the database is told elsewhere.
async fn streams(name: &str, context: &Context) -> Option<Vec<Uuid>> {
    if !context.has_store().ok()? {
        return None;
    }
    let options = context.database().await.ok()?;
    let mut connection = timeout(REACH, database::connect(&options)).await.ok()?.ok()?;
    deliver::state::streams(&mut connection, name).await.ok()
}

async fn kafka(name: &str, config: &Config, context: &Context) -> Vec<Finding> {
    let subject = format!("destination '{name}'");
    let target = match Target::of(config, name) {
        Ok(target) => target,
        Err(error) => return vec![Finding::bad(subject, &error)],
    };
    let mut findings =
        vec![Finding::good(format!("{subject}, mappings"), format!("{} enabled", target.mappings.len()))];
    let Some(destination) = config.destinations.get(name).cloned() else { return findings };
    let streams = streams(name, context).await.unwrap_or_default();
    let name = name.to_owned();
    // librdkafka's calls block.
    match spawn_blocking(move || deliver::check::check(&name, &target.settings, &destination, &streams)).await {
        Ok(found) => findings
            .extend(found.into_iter().map(|found| Finding::of(format!("{subject}, {}", found.subject), found.result))),
        Err(_) => findings.push(Finding::bad(&subject, &Error::internal("the check was cut off"))),
    }
    findings
}
