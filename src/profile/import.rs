//! How does a whole file get in? Batch after batch, each with the place it reached, so that no stop loses or repeats a line.
//!
//! ```text
//!  a thread: read, decompress, parse ──► one batch waits ──► here: a transaction a batch ──► imports.records
//! ```

use std::{
    io::Write,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    message::{Defaults, Message, Refusal},
    partition::{self, Month},
    rules::Rules,
    source::{Batch, Place, Source},
    store::{Store, Stored},
};
use crate::{
    Error, Result,
    clock::Clock,
    fault::{self, Point},
    lease::Leased,
    limits::BATCH_MESSAGES,
};

/// A transaction that others got in the way of is tried again this often.
pub(super) const TRIES: u32 = 5;
/// From this many messages on, tables are vacuumed and analyzed afterwards: their plans would else be made for empty ones.
const BULK_MESSAGES: u64 = 10_000;

/// Imports sources into one database.
#[derive(Debug, Clone)]
pub struct Importer {
    pool: PgPool,
    /// For messages that name no source themselves.
    pub source_id: Option<String>,
    /// Reads from the first line even what was imported before.
    pub again: bool,
    /// Messages in one transaction.
    pub batch_messages: usize,
    /// Whose a message is.
    pub rules: Arc<Rules>,
}

/// What became of a source's lines.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    pub name: String,
    /// The last line dealt with.
    pub line: u64,
    /// Where an earlier import of the same content had stopped: lines up to it were not read into messages again.
    pub resumed_after_line: u64,
    /// Messages stored.
    pub accepted: u64,
    /// Messages that were stored already.
    pub repeated: u64,
    /// Messages dropped, since they are of somebody who was forgotten or suppressed.
    pub suppressed: u64,
    /// Lines refused; each stands in the report with its reason.
    pub refused: u64,
    /// Messages without a time, taken as of the import.
    pub undated: u64,
    /// Messages whose time could not be read, taken as of their arrival.
    pub misdated: u64,
    pub seconds: f64,
}

/// Consecutive messages that go into one transaction, and what else it settles.
pub(super) struct Piece<'a> {
    messages: &'a [Message],
    places: &'a [Place],
    through: Place,
    refused: u64,
}

impl<'a> Piece<'a> {
    /// Messages of no file.
    pub fn of(messages: &'a [Message]) -> Piece<'a> {
        Piece { messages, places: &[], through: Place::default(), refused: 0 }
    }

    fn of_batch(batch: &'a Batch) -> Piece<'a> {
        let Batch { messages, places, through, refusals, .. } = batch;
        Piece { messages, places, through: *through, refused: refusals.len() as u64 }
    }

    /// What is left of a piece whose only message is refused.
    fn without_messages(self) -> Piece<'a> {
        Piece { messages: &[], refused: self.refused + 1, ..self }
    }

    /// Its two halves, in their order. The lines refused before are counted with the second.
    fn halves(self) -> (Piece<'a>, Piece<'a>) {
        let half = self.messages.len() / 2;
        let (first, second) = self.messages.split_at(half);
        let (before, behind) = self.places.split_at(half);
        let through = before.last().copied().unwrap_or_default();
        let first = Piece { messages: first, places: before, through, refused: 0 };
        (first, Piece { messages: second, places: behind, ..self })
    }
}

impl Summary {
    fn count_times(&mut self, messages: &[Message]) {
        let count = |is: fn(&Message) -> bool| messages.iter().filter(|message| is(message)).count() as u64;
        self.undated += count(|message| message.undated);
        self.misdated += count(|message| message.misdated);
    }

    fn count_piece(&mut self, piece: &Piece<'_>, stored: &Stored) {
        self.accepted += stored.accepted;
        self.suppressed += stored.suppressed;
        self.repeated += piece.messages.len() as u64 - stored.accepted - stored.suppressed;
        self.refused += piece.refused;
        self.line = piece.through.line;
    }
}

impl Importer {
    pub fn new(pool: PgPool) -> Importer {
        Importer { pool, source_id: None, again: false, batch_messages: BATCH_MESSAGES, rules: Arc::default() }
    }

    /// Imports all of `source`. Refused lines are written to `report`, one JSON object a line; `progress` is called after
    /// every transaction. When this is dropped or fails half-way, what it stored stays, and the next call goes on from there.
    pub async fn run(
        &self,
        source: Source,
        report: &mut (dyn Write + Send),
        mut progress: impl FnMut(&Summary),
    ) -> Result<Summary> {
        let start = Instant::now();
        // Its own: dropped half-way, it is closed and its transaction rolled back.
        let mut session = Leased::open(&self.pool).await?;
        let mut summary = Summary { name: source.name.clone(), ..Summary::default() };
        let digest = source.digest.clone();
        let mut after = 0;
        if let Some(digest) = &digest {
            let (place, finished) = self.begin(&mut session, digest, &source.name).await?;
            (after, summary.line, summary.resumed_after_line) = (place.records, place.line, place.line);
            if finished {
                session.close().await;
                return Ok(summary);
            }
        }
        let defaults = Defaults {
            now: Clock::system().now(),
            is_arrival: false,
            place: None,
            source_id: self.source_id.clone(),
            rules: self.rules.clone(),
        };
        let (now, read_bytes) = (defaults.now, source.read_bytes.clone());
        let most = self.batch_messages;
        let (sender, mut batches) = mpsc::channel::<Batch>(1);
        let reader =
            spawn_blocking(move || source.read(after, most, &defaults, |batch| sender.blocking_send(batch).is_ok()));
        let mut store = Store::new(self.rules.clone());
        while let Some(batch) = batches.recv().await {
            batch.refusals.iter().try_for_each(|refusal| tell(report, refusal))?;
            summary.count_times(&batch.messages);
            let mut pieces = vec![Piece::of_batch(&batch)];
            while let Some(piece) = pieces.pop() {
                let place = digest.as_deref().map(|digest| (digest, read_bytes.load(Ordering::Relaxed)));
                match commit(&mut session, &mut store, &piece, place, now).await {
                    Ok(stored) => summary.count_piece(&piece, &stored),
                    // Postgres refuses something that we did not foresee: its neighbours are stored without it.
                    Err(error) if is_about_data(&error) && !piece.messages.is_empty() => match piece.messages {
                        [message] => {
                            tell(report, &Refusal { line: message.line, field: "line", reason: reason(&error) })?;
                            pieces.push(piece.without_messages());
                        }
                        _ => {
                            let (first, second) = piece.halves();
                            pieces.extend([second, first]);
                        }
                    },
                    Err(error) => return Err(error),
                }
                summary.seconds = start.elapsed().as_secs_f64();
                progress(&summary);
            }
            report.flush().map_err(unwritable)?;
        }
        reader.await.map_err(|error| Error::internal("reading the source ended early").because(error))??;
        if let Some(digest) = &digest {
            finish(&mut session, digest).await?;
        }
        if summary.accepted >= BULK_MESSAGES {
            settle(&mut session, summary.accepted, &store.tables()).await?;
        }
        session.close().await;
        summary.seconds = start.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// Where an earlier import of the same content stopped, and whether it had reached the end.
    async fn begin(&self, connection: &mut PgConnection, digest: &str, name: &str) -> Result<(Place, bool)> {
        let (records, line, finished): (i64, i64, bool) = sqlx::query_as(
            "insert into imports as i (digest, name) values ($1, $2)
             on conflict (digest) do update set name = excluded.name,
                 records = case when $3 then 0 else i.records end, line = case when $3 then 0 else i.line end,
                 finished = i.finished and not $3
             returning records, line, finished",
        )
        .bind(digest)
        .bind(name)
        .bind(self.again)
        .fetch_one(connection)
        .await?;
        Ok((Place { records: records.unsigned_abs(), line: line.unsigned_abs() }, finished))
    }
}

/// Notes that the content was read to its end.
async fn finish(connection: &mut PgConnection, digest: &str) -> Result<()> {
    sqlx::query("update imports set finished = true, updated_at = now() where digest = $1")
        .bind(digest)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores a piece and the place it ends at in one transaction.
pub(super) async fn commit(
    connection: &mut PgConnection,
    store: &mut Store,
    piece: &Piece<'_>,
    place: Option<(&str, u64)>,
    now: DateTime<Utc>,
) -> Result<Stored> {
    let mut tries = 0;
    loop {
        tries += 1;
        match attempt(connection, store, piece, place, now).await {
            Err(error) if tries < TRIES && is_about_others(&error) => {}
            done => return done,
        }
    }
}

async fn attempt(
    connection: &mut PgConnection,
    store: &mut Store,
    piece: &Piece<'_>,
    place: Option<(&str, u64)>,
    now: DateTime<Utc>,
) -> Result<Stored> {
    store.prepare(connection, piece.messages, now).await?;
    let mut transaction = connection.begin().await?;
    let stored = match piece.messages {
        [] => Stored::default(),
        messages => store.store(&mut transaction, messages).await?,
    };
    if let Some((digest, bytes)) = place {
        // `greatest`: of two imports of one file the one behind must not take the other's place back.
        sqlx::query(
            "update imports set records = greatest(records, $2), line = greatest(line, $3), bytes = greatest(bytes, $4),
             accepted = accepted + $5, repeated = repeated + $6, refused = refused + $7, updated_at = now() where digest = $1",
        )
        .bind(digest)
        .bind(piece.through.records.cast_signed())
        .bind(piece.through.line.cast_signed())
        .bind(bytes.cast_signed())
        .bind(stored.accepted.cast_signed())
        .bind((piece.messages.len() as u64 - stored.accepted - stored.suppressed).cast_signed())
        .bind(piece.refused.cast_signed())
        .execute(&mut *transaction)
        .await?;
    }
    fault::point(Point::BeforeTakenIn);
    transaction.commit().await?;
    Ok(stored)
}

/// The columns whose statistics plans use; those of JSON cost most of an ANALYZE and tell it nothing.
const EVENT_COLUMNS: &str = "(profile_id, name_id, occurred_at, number_1, number_2)";

/// Vacuums and analyzes what grew: index-only scans need the visibility map, plans need the statistics.
async fn settle(connection: &mut PgConnection, accepted: u64, months: &[String]) -> Result<()> {
    for table in ["profiles (id)", "identifiers", "messages"] {
        run(connection, format!("vacuum (analyze, skip_locked) {table}")).await?;
    }
    // Months that are past retention may have been dropped meanwhile.
    let there = partition::existing(connection).await?.into_iter().map(Month::table).collect::<Vec<_>>();
    let months: Vec<&String> =
        months.iter().filter(|table| there.contains(table) || *table == "events_default").collect();
    for table in &months {
        run(connection, format!("vacuum (skip_locked) {table}")).await?;
    }
    let events: f64 = sqlx::query_scalar(
        "select coalesce(sum(reltuples) filter (where reltuples > 0), 0)::float8
         from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = 'events'::regclass",
    )
    .fetch_one(&mut *connection)
    .await?;
    // The parent has statistics of its own, which nothing else gathers. Its ANALYZE includes every partition's: worth it
    // only when much has changed.
    if accepted as f64 >= events / 10.0 {
        return run(connection, format!("analyze events {EVENT_COLUMNS}")).await;
    }
    for table in months {
        run(connection, format!("analyze (skip_locked) {table} {EVENT_COLUMNS}")).await?;
    }
    Ok(())
}

/// Runs a statement made of our own names.
async fn run(connection: &mut PgConnection, statement: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

fn tell(report: &mut (dyn Write + Send), refusal: &Refusal) -> Result<()> {
    serde_json::to_writer(&mut *report, refusal)
        .map_err(std::io::Error::from)
        .and_then(|()| report.write_all(b"\n"))
        .map_err(unwritable)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::settings("the report of refused lines cannot be written").because(error)
}

/// Why a message is refused that Postgres does not take.
pub(super) fn reason(error: &Error) -> String {
    format!("was refused by Postgres ({})", error.sqlstate().unwrap_or_default())
}

/// Serialization failure, deadlock, or a lock that was not to be had in time: others were first, now it is our turn.
pub(super) fn is_about_others(error: &Error) -> bool {
    matches!(error.sqlstate(), Some("40001" | "40P01" | "55P03"))
}

/// Data exceptions, violated constraints, and rows too large for an index.
pub(super) fn is_about_data(error: &Error) -> bool {
    error.sqlstate().is_some_and(|code| ["22", "23", "54"].contains(&&code[..2]))
}
