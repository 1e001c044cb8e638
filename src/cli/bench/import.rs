//! How fast is an import, beside psql's `\copy` of the same rows into the same tables with the same indexes?

use std::{
    fs::File,
    io::{BufWriter, Write, sink},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use chrono::{DateTime, SecondsFormat, TimeDelta};
use sqlx::{AssertSqlSafe, Connection, PgPool, postgres::PgConnectOptions};

use super::super::{Context, table};
use crate::{
    Error, Result,
    database::{self, Sessions},
    profile::{
        import::Importer,
        source::{Reading, Source},
    },
};

/// How much to import.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Track messages.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub events: u64,
    /// People they are of; each sends an Identify first.
    #[arg(long, default_value_t = 200_000)]
    pub profiles: u64,
    /// As rows of a CSV file, of the events alone.
    #[arg(long)]
    pub csv: bool,
}

/// What was measured.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub messages: u64,
    pub file_bytes: u64,
    pub import_seconds: f64,
    /// Messages, or rows of CSV; to be held against that of another build.
    pub import_per_second: f64,
    /// psql's `\copy` of the rows that the import made: profiles, identifiers, messages, events.
    pub copy_seconds: f64,
    pub copy_per_second: f64,
    /// The import's time over `\copy`'s; the promise is 3 at most.
    pub ratio: f64,
}

/// The tables that the import fills here; `\copy` does them one after the other.
const TABLES: [&str; 4] = ["profiles", "identifiers", "messages", "events"];

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let report = measure(&context.database().await?, &args).await?;
    context.output().show(&report, |report| {
        let row =
            |what: &str, seconds: f64, rate: f64| [what.to_owned(), format!("{seconds:.1}"), format!("{rate:.0}")];
        let rows = [
            row("rollcall import", report.import_seconds, report.import_per_second),
            row("psql \\copy", report.copy_seconds, report.copy_per_second),
        ];
        format!(
            "{}\n{} messages, {:.2} times as long",
            table(["", "seconds", "messages/s"], rows),
            report.messages,
            report.ratio
        )
    })
}

/// Measures in two databases of its own on the server of `server`, and drops them.
async fn measure(server: &PgConnectOptions, options: &Args) -> Result<Report> {
    let folder = tempfile::tempdir().map_err(unusable)?;
    let file = folder.path().join(if options.csv { "messages.csv" } else { "messages.jsonl" });
    generate(&file, options).map_err(unusable)?;
    let file_bytes = std::fs::metadata(&file).map_err(unusable)?.len();

    let imported = database(server, "rollcall_bench_import").await?;
    let start = Instant::now();
    let source = Source::open(&file, Reading::default())?;
    let summary = Importer::new(imported.clone()).run(source, &mut sink(), |_| ()).await?;
    let import_seconds = start.elapsed().as_secs_f64();

    let copy_seconds = copy_again(server, imported, "rollcall_bench_import").await?;
    if summary.refused > 0 {
        return Err(Error::internal(format!("{} generated messages were refused", summary.refused)));
    }
    let messages = summary.accepted;
    Ok(Report {
        messages,
        file_bytes,
        import_seconds,
        import_per_second: messages as f64 / import_seconds,
        copy_seconds,
        copy_per_second: messages as f64 / copy_seconds,
        ratio: import_seconds / copy_seconds,
    })
}

/// How long psql takes to `\copy` the rows of a database called `name` into an empty one. Drops both.
pub(super) async fn copy_again(server: &PgConnectOptions, filled: PgPool, name: &str) -> Result<f64> {
    let folder = tempfile::tempdir().map_err(unusable)?;
    let copied = database(server, "rollcall_bench_copy").await?;
    partitions_as_in(&filled, &copied).await?;
    let mut seconds = 0.0;
    for table in TABLES {
        let rows = folder.path().join(table);
        psql(server, name, &format!("\\copy (select * from {table}) to '{}'", rows.display()))?;
        let start = Instant::now();
        psql(server, "rollcall_bench_copy", &format!("\\copy {table} from '{}'", rows.display()))?;
        seconds += start.elapsed().as_secs_f64();
    }
    for (pool, name) in [(filled, name), (copied, "rollcall_bench_copy")] {
        pool.close().await;
        execute(server, format!("drop database {name}")).await?;
    }
    Ok(seconds)
}

/// Messages as an order system would export them: by time, over two years.
fn generate(path: &Path, options: &Args) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default();
    let step = TimeDelta::milliseconds(63_072_000_000 / options.events.max(1).cast_signed());
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    if options.csv {
        writeln!(
            out,
            "type,messageId,userId,event,timestamp,properties.order_id,properties.revenue,properties.quantity,properties.currency"
        )?;
    }
    for n in 0..options.profiles.max(options.events) {
        let at = (start + step * i32::try_from(n).unwrap_or(i32::MAX)).to_rfc3339_opts(SecondsFormat::Millis, true);
        if n < options.profiles && !options.csv {
            writeln!(
                out,
                r#"{{"type":"identify","messageId":"identify-{n:010}","userId":"user-{n}","timestamp":"{at}","traits":{{"email":"user-{n}@example.com","plan":"free","age":{}}}}}"#,
                18 + n % 60
            )?;
        }
        if n < options.events {
            // xorshift64: the same rows in every run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (user, cents) = (random % options.profiles.max(1), random >> 40 & 0xffff);
            if options.csv {
                let (revenue, quantity) = (format!("{}.{:02}", cents / 100, cents % 100), 1 + cents % 5);
                writeln!(out, "track,order-{n:010},user-{user},Order Completed,{at},{n},{revenue},{quantity},USD")?;
                continue;
            }
            writeln!(
                out,
                r#"{{"type":"track","messageId":"order-{n:010}","userId":"user-{user}","event":"Order Completed","timestamp":"{at}","properties":{{"order_id":"{n}","revenue":{}.{:02},"quantity":{},"currency":"USD"}},"context":{{"ip":"192.0.2.1","library":{{"name":"analytics-node","version":"3.1.0"}}}}}}"#,
                cents / 100,
                cents % 100,
                1 + cents % 5
            )?;
        }
    }
    out.flush()
}

/// An empty database of that name, migrated.
pub(super) async fn database(server: &PgConnectOptions, name: &str) -> Result<PgPool> {
    execute(server, format!("drop database if exists {name}")).await?;
    execute(server, format!("create database {name}")).await?;
    let pool = crate::database::pool(server.clone().database(name), Sessions::Work, 10);
    database::migrate(&pool).await?;
    Ok(pool)
}

/// One statement outside of any such database.
pub(super) async fn execute(server: &PgConnectOptions, sql: String) -> Result<()> {
    let mut connection = crate::database::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// `\copy` makes no partitions, so it is given them.
async fn partitions_as_in(from: &PgPool, to: &PgPool) -> Result<()> {
    let partitions: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, pg_get_expr(c.relpartbound, c.oid) from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'events'::regclass and c.relname <> 'events_default'",
    )
    .fetch_all(from)
    .await?;
    for (name, bound) in partitions {
        sqlx::raw_sql(AssertSqlSafe(format!("create table {name} partition of events {bound}"))).execute(to).await?;
    }
    Ok(())
}

fn psql(server: &PgConnectOptions, database: &str, command: &str) -> Result<()> {
    let program =
        std::env::var_os("PG_BIN").map_or_else(|| PathBuf::from("psql"), |bin| PathBuf::from(bin).join("psql"));
    let host = server.get_socket().map_or_else(|| server.get_host().to_owned(), |socket| socket.display().to_string());
    let output = Command::new(program)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", &host, "-p", &server.get_port().to_string()])
        .args(["-U", server.get_username(), "-d", database, "-c", command])
        .output()
        .map_err(|error| {
            Error::settings("psql cannot be run")
                .help("Put it on the PATH, or name its folder by PG_BIN.")
                .because(error)
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::settings(format!("psql failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

fn unusable(error: std::io::Error) -> Error {
    Error::settings("the folder for temporary files cannot be used").because(error)
}
