//! What is new in somebody's tables? A statement's rows become messages, which are stored with the place that they were read to.
//!
//! ```text
//!  statement ──► read (one snapshot, page after page) ──► row (pure: a line of Segment's form) ──► profile::pulled
//!   (read only)      which rows: `cursor`                                                        (messages and place, one commit)
//! ```
//!
//! A cursor never trusts that rows become visible in the order of their values: see `cursor`. Without one all rows are read each
//! time and held against what was read last, so it is known who vanished. Must never write where it reads.

mod cursor;
mod read;
mod row;
pub mod session;
mod whole;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::{
    Error, Result,
    config::{self, Config},
    lease::{Held, Instance},
    profile::{
        pulled::{self, Page, Settle, Summary, Writer},
        rules::Rules,
    },
};
use read::Reader;
use row::Rows;

/// Asks for the right to pull a source, so that two instances do not take turns. Safety does not depend on it: see [`pulled`].
///
/// # Errors
/// The database's own.
pub async fn lease(instance: &Instance, name: &str) -> Result<Option<Held>> {
    Held::acquire(instance, &format!("source:{name}")).await
}

/// Pulls one source to its end. What it met is noted for `rollcall sources`; an error stops this source alone.
///
/// # Errors
/// Whatever stopped it. What was stored until then stays.
pub async fn pull(instance: &Instance, config: &Config, name: &str, progress: impl FnMut(&Summary)) -> Result<Summary> {
    let source = config.sources.get(name).filter(|of| of.is_pulled()).ok_or_else(|| unknown(config, name))?;
    let rules = Arc::new(Rules::of(&config.identity)?);
    let pulled = Pull { instance, name, source, rules }.run(progress).await;
    if let Err(error) = &pulled {
        pulled::failed(&instance.pool, name, error, instance.clock.now()).await?;
    }
    pulled
}

/// The enabled sources, or the one of this name, enabled or not.
///
/// # Errors
/// [`crate::Kind::Settings`] for a name that none has.
pub fn chosen<'c>(config: &'c Config, name: Option<&'c str>) -> Result<Vec<&'c str>> {
    match name {
        Some(name) if config.sources.get(name).is_some_and(config::Source::is_pulled) => Ok(vec![name]),
        Some(name) => Err(unknown(config, name)),
        None => Ok(config
            .sources
            .iter()
            .filter(|(_, of)| of.enabled && of.is_pulled())
            .map(|(name, _)| name.as_str())
            .collect()),
    }
}

/// The enabled sources whose time has come: a tick of their schedule after the last pull, or that to try again.
///
/// # Errors
/// The database's own.
pub async fn due(pool: &PgPool, config: &Config, now: DateTime<Utc>) -> Result<Vec<String>> {
    let scheduled = config.sources.iter().filter(|(_, of)| of.enabled && of.is_pulled() && of.schedule.is_some());
    let scheduled: Vec<_> = scheduled.collect();
    if scheduled.is_empty() {
        return Ok(Vec::new());
    }
    let known = pulled::progress(pool).await?;
    let is_due = |(name, of): &(&String, &config::Source)| {
        let known = known.iter().find(|known| known.source == **name);
        let last = known.and_then(|known| known.pulled_at);
        let is_too_early = known.and_then(|known| known.retry_at).is_some_and(|at| now < at);
        // What is wrong with it was told when the configuration was read.
        let Some(Ok(schedule)) = of.schedule.as_ref().map(|setting| setting.parse(name)) else { return false };
        let tick = schedule.last_at_or_before(now - schedule.delay(name));
        !is_too_early && last.is_none_or(|last| tick.is_some_and(|tick| tick.at > last))
    };
    Ok(scheduled.into_iter().filter(is_due).map(|(name, _)| name.clone()).collect())
}

fn unknown(config: &Config, name: &str) -> Error {
    let known = config.sources.iter().filter(|(_, of)| of.is_pulled());
    let known = known.map(|(known, _)| format!("'{known}'")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none" } else { &known };
    let lack = if config.sources.contains_key(name) { "no query for the source" } else { "no source" };
    Error::settings(format!("the configuration has {lack} '{name}'")).help(format!("It has {known}."))
}

struct Pull<'a> {
    instance: &'a Instance,
    name: &'a str,
    source: &'a config::Source,
    rules: Arc<Rules>,
}

impl Pull<'_> {
    async fn run(&self, mut progress: impl FnMut(&Summary)) -> Result<Summary> {
        let Instance { pool, clock, .. } = self.instance;
        let options = options(Some((*pool.connect_options()).clone()), self.name, self.source)?;
        let place = pulled::begin(pool, self.name, &definition(self.source)).await?;
        let rows = Rows::of(self.name, self.source);
        let started = clock.now();
        let (mut reader, kept) = Reader::open(options, self.name, self.source, &rows, &place).await?;
        let mut writer = Writer::new(pool, clock, self.name, place.pull, &self.rules).await?;
        let mut summary = Summary::new(self.name);
        if self.source.cursor.is_none() && self.source.profiles.is_some() {
            let names = writer.gives(rows.others(reader.columns())).await?;
            whole::pull(&mut reader, &mut writer, &rows, names, started, &mut summary, &mut progress).await?;
        } else {
            loop {
                let page = reader.page().await?;
                let Some(last) = page.last() else { break };
                let position = reader.position(last.key.as_deref()).await?;
                let mut stored = Page::default();
                for row in &page {
                    rows.read(row.json.as_deref(), None, started, writer.defaults(), &mut stored);
                }
                writer.write(stored, Settle::Position(position.as_deref()), &mut summary).await?;
                progress(&summary);
            }
        }
        reader.close().await;
        writer.finish(started, &kept, &summary).await?;
        Ok(summary)
    }
}

/// Where the tables are: in the store's `own` database, unless the source says otherwise.
fn options(own: Option<PgConnectOptions>, name: &str, source: &config::Source) -> Result<PgConnectOptions> {
    match (&source.database, own) {
        (None, Some(own)) => Ok(own),
        (Some(url), _) => session::options(name, url),
        (None, None) => Err(Error::internal("the store's own database is not known")),
    }
}

/// Whether a source's statement would run, without reading a row: the names of its columns.
///
/// # Errors
/// What is wrong with it, or with its database.
pub async fn check(own: Option<PgConnectOptions>, name: &str, source: &config::Source) -> Result<Vec<String>> {
    let options = options(own, name, source)?;
    let (reader, _) = Reader::open(options, name, source, &Rows::of(name, source), &pulled::Place::default()).await?;
    let columns = reader.columns().to_vec();
    reader.close().await;
    Ok(columns)
}

/// Whatever changes which rows are read, or what they become.
fn definition(source: &config::Source) -> String {
    let config::Source { query, profiles, events, cursor, .. } = source;
    format!("{query}\n{profiles:?} {events:?} {:?}", cursor.as_ref().map(|of| (&of.column, &of.xid)))
}
