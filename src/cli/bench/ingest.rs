//! How fast are live messages taken in over HTTP or from Kafka, beside psql's `\copy` of the same rows into the same tables?

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use chrono::{DateTime, SecondsFormat, TimeDelta};

use serde_json::json;
use sqlx::{PgPool, postgres::PgConnectOptions};

use super::{super::Context, import};
use crate::{
    Error, Result, cli::table, clock::Clock, config, database, deliver::yardstick, http::tracking::Tracking,
    kafka::settings::Settings, serve::streaming::Streaming,
};

/// How much to send.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Messages, of which one in six is an Identify.
    #[arg(long, default_value_t = 480_000)]
    pub messages: u64,
    /// People they are of.
    #[arg(long, default_value_t = 80_000)]
    pub profiles: u64,
    /// Messages of one request; Segment's libraries send 15 to 100 unless told otherwise.
    #[arg(long, default_value_t = 100)]
    pub batch: u64,
    /// Clients, each with one connection, that send one request after the other.
    #[arg(long, default_value_t = 16)]
    pub clients: u64,
    /// `host:port` of a Kafka without authentication: the messages then come from a topic of it, which is filled before and left there.
    #[arg(long, value_name = "BROKER")]
    pub kafka: Option<String>,
    /// Partitions of that topic.
    #[arg(long, default_value_t = 6)]
    pub partitions: i32,
}

/// What was measured, by one way to Postgres.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub messages: u64,
    /// `HTTP` or `Kafka`.
    pub way: &'static str,
    /// How Postgres was reached: `TCP` or `Unix socket`.
    pub by: &'static str,
    /// Which of Postgres' settings that bear on speed are not as it comes.
    pub settings: Vec<String>,
    /// Of HTTP from the first request to the last answer, the clients' own work included; from Kafka until the last one is stored.
    pub seconds: f64,
    /// psql's `\copy` of the rows that came of it, reached in the same way.
    pub copy_seconds: f64,
    /// Our time over `\copy`'s; the promise is 3 at most.
    pub ratio: f64,
    /// What this process, over HTTP with server and clients, held at most: after a tenth of the messages, and after all.
    pub peak_mebibytes: [f64; 2],
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let mut reports = Vec::new();
    for server in ways(server).await? {
        reports.push(measure(&args, &server).await?);
    }
    context.output().show(&reports, |reports| {
        let rows = reports.iter().map(|report| {
            let rate = |seconds: f64| format!("{:.0}", report.messages as f64 / seconds);
            let [early, late] = report.peak_mebibytes.map(|mebibytes| format!("{mebibytes:.0}"));
            let ours = format!("{:.1} s, {}/s", report.seconds, rate(report.seconds));
            let copy = format!("{:.1} s, {}/s", report.copy_seconds, rate(report.copy_seconds));
            [report.way.to_owned(), report.by.to_owned(), ours, copy, format!("{:.2}", report.ratio), early, late]
        });
        let head =
            ["messages by", "Postgres by", "taken in", "psql \\copy", "ratio", "MiB after 1/10", "MiB after all"];
        let changed: Vec<&str> =
            reports.iter().take(1).flat_map(|report| &report.settings).map(String::as_str).collect();
        let changed = if changed.is_empty() { "its own defaults".to_owned() } else { changed.join(", ") };
        format!("{}\n{} messages; Postgres with {changed}", table(head, rows), args.messages)
    })
}

/// The way that was named, and the other one where it leads to the same server: users come by TCP, benchmarks easily by socket alone.
async fn ways(server: PgConnectOptions) -> Result<Vec<PgConnectOptions>> {
    let mut connection = database::connect(&server).await?;
    let (cluster, folders): (i64, String) = sqlx::query_as(
        "select (select system_identifier from pg_control_system()), current_setting('unix_socket_directories')",
    )
    .fetch_one(&mut connection)
    .await?;
    let other = match server.get_socket() {
        // Built anew: a socket that is named once stays.
        Some(_) => PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(server.get_port())
            .username(server.get_username())
            .database(server.get_database().unwrap_or("postgres")),
        None => server.clone().socket(folders.split(',').next().unwrap_or_default().trim()),
    };
    let is_same = async {
        let mut connection = database::connect(&other).await.ok()?;
        let there = sqlx::query_scalar::<_, i64>("select system_identifier from pg_control_system()");
        Some(there.fetch_one(&mut connection).await.ok()? == cluster)
    };
    if is_same.await == Some(true) {
        return Ok(vec![server, other]);
    }
    tracing::info!("the server is reached in one way alone");
    Ok(vec![server])
}

/// Those of its settings that bear on speed and are not as Postgres comes.
async fn settings(pool: &PgPool) -> Result<Vec<String>> {
    let changed = sqlx::query_scalar(
        "select name || ' = ' || current_setting(name) from pg_settings where setting is distinct from boot_val and name in
         ('shared_buffers', 'work_mem', 'maintenance_work_mem', 'max_wal_size', 'checkpoint_timeout', 'random_page_cost', 'jit',
          'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level') order by name",
    );
    Ok(changed.fetch_all(pool).await?)
}

async fn measure(args: &Args, server: &PgConnectOptions) -> Result<Report> {
    let name = "rollcall_bench_ingest";
    let pool = import::database(server, name).await?;
    let settings = settings(&pool).await?;
    let (way, seconds, peak_mebibytes) = match &args.kafka {
        None => over_http(args, &pool).await?,
        Some(broker) => from_kafka(args, broker, &pool).await?,
    };
    let stored: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&pool).await?;
    if stored.unsigned_abs() != args.messages {
        return Err(Error::internal(format!("{stored} of {} messages are stored", args.messages)));
    }
    let copy_seconds = import::copy_again(server, pool, name).await?;
    let by = if server.get_socket().is_some() { "Unix socket" } else { "TCP" };
    let (messages, ratio) = (args.messages, seconds / copy_seconds);
    Ok(Report { messages, way, by, settings, seconds, copy_seconds, ratio, peak_mebibytes })
}

type Measured = (&'static str, f64, [f64; 2]);

async fn over_http(args: &Args, pool: &PgPool) -> Result<Measured> {
    let config = config::Tracking {
        listen: Some(config::Listen(SocketAddr::from(([127, 0, 0, 1], 0)))),
        ..config::Tracking::default()
    };
    let tracking = Tracking::start(pool.clone(), Clock::system(), &config, Default::default()).await?;
    let start = Instant::now();
    let tenth = args.messages / 10 / args.batch.max(1) * args.batch.max(1);
    send(args, tracking.address(), 0..tenth).await?;
    let early = super::deliver::peak_mebibytes().unwrap_or_default();
    send(args, tracking.address(), tenth..args.messages).await?;
    let seconds = start.elapsed().as_secs_f64();
    let late = super::deliver::peak_mebibytes().unwrap_or_default();
    tracking.stop().await;
    Ok(("HTTP", seconds, [early, late]))
}

/// Fills a topic, and then reads it as `serve` does.
async fn from_kafka(args: &Args, broker: &str, pool: &PgPool) -> Result<Measured> {
    let run: String = sqlx::query_scalar("select gen_random_uuid()::text").fetch_one(pool).await?;
    let topic = format!("rollcall-bench-ingest-{run}");
    let settings = json!({"brokers": broker, "mechanism": "none", "ssl_enabled": false});
    let settings = settings.as_object().cloned().unwrap_or_default();
    let (named, values) = (args.clone(), topic.clone());
    let reached = Settings::parse("bench", &settings)?;
    let filled = tokio::task::spawn_blocking(move || {
        yardstick::fill(&reached, &values, named.partitions, (0..named.messages).map(|n| message(&named, n)))
    });
    filled.await.map_err(|error| Error::internal("the topic was not filled").because(error))??;
    let stream = config::Stream {
        settings: settings.into(),
        topics: vec![topic],
        start: config::Start::Earliest,
        enabled: true,
    };
    let config = config::Config { streams: [("bench".to_owned(), stream)].into(), ..config::Config::default() };
    let start = Instant::now();
    let streaming = Streaming::start(pool.clone(), Clock::system(), &config).await?;
    until_stored(pool, args.messages / 10).await?;
    let early = super::deliver::peak_mebibytes().unwrap_or_default();
    until_stored(pool, args.messages).await?;
    let seconds = start.elapsed().as_secs_f64();
    let late = super::deliver::peak_mebibytes().unwrap_or_default();
    streaming.stop().await;
    Ok(("Kafka", seconds, [early, late]))
}

/// Looks at the offsets, which move with the messages: to count those would cost what is measured.
async fn until_stored(pool: &PgPool, messages: u64) -> Result<()> {
    loop {
        let taken: i64 = sqlx::query_scalar("select coalesce(sum(next_offset), 0)::bigint from stream_offsets")
            .fetch_one(pool)
            .await?;
        if taken.unsigned_abs() >= messages {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends these messages from all clients at once, each its share.
async fn send(args: &Args, address: SocketAddr, messages: std::ops::Range<u64>) -> Result<()> {
    let clients = args.clients.max(1);
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (args, messages) = (args.clone(), messages.clone());
            tokio::task::spawn_blocking(move || {
                let mut connection = BufReader::new(TcpStream::connect(address)?);
                let starts = messages.clone().step_by(usize::try_from(args.batch.max(1)).unwrap_or(1));
                for start in
                    starts.skip(usize::try_from(client).unwrap_or(0)).step_by(usize::try_from(clients).unwrap_or(1))
                {
                    let body = batch(&args, start..messages.end.min(start + args.batch));
                    post(&mut connection, &body)?;
                }
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    for thread in threads {
        let sent = thread.await.map_err(|error| Error::internal("a client ended early").because(error))?;
        sent.map_err(|error| Error::wait("the tracking API did not take all messages").because(error))?;
    }
    Ok(())
}

/// One request by hand: a client of a library would be measured as well.
fn post(connection: &mut BufReader<TcpStream>, body: &str) -> std::io::Result<()> {
    let head = format!(
        "POST /v1/batch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let (mut line, mut status, mut length) = (String::new(), String::new(), 0);
    while line != "\r\n" {
        line.clear();
        connection.read_line(&mut line)?;
        match line.to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(_) => {}
            None if status.is_empty() => status.clone_from(&line),
            None => {}
        }
    }
    connection.read_exact(&mut vec![0; length])?;
    if status.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(std::io::Error::other(status)) }
}

/// Messages in one body of a request.
fn batch(args: &Args, messages: std::ops::Range<u64>) -> String {
    let messages: Vec<String> = messages.map(|n| message(args, n)).collect();
    format!("{{\"batch\":[{}]}}", messages.join(","))
}

/// A message as a shop's server would send it; that of the same number is the same in every run.
fn message(args: &Args, n: u64) -> String {
    let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default();
    let at = (start + TimeDelta::seconds(n.cast_signed() * 60)).to_rfc3339_opts(SecondsFormat::Millis, true);
    // A step that is prime to any usual number of people: all of them come, in no order of their ids.
    let user = n.wrapping_mul(7_919) % args.profiles.max(1);
    match n % 6 {
        0 => format!(
            r#"{{"type":"identify","messageId":"bench-{n:010}","userId":"user-{user}","timestamp":"{at}","traits":{{"email":"user-{user}@example.com","plan":"free","age":{}}}}}"#,
            18 + n % 60
        ),
        _ => format!(
            r#"{{"type":"track","messageId":"bench-{n:010}","userId":"user-{user}","event":"Order Completed","timestamp":"{at}","properties":{{"order_id":"{n}","revenue":{}.5,"quantity":{},"currency":"USD"}},"context":{{"ip":"192.0.2.1","library":{{"name":"analytics-node","version":"3.1.0"}}}}}}"#,
            n % 600,
            1 + n % 5
        ),
    }
}
