//! How fast are live messages taken in over HTTP, beside psql's `\copy` of the same rows into the same tables?

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use chrono::{DateTime, SecondsFormat, TimeDelta};

use super::{super::Context, import};
use crate::{Error, Result, cli::table, clock::Clock, config, http::tracking::Tracking};

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
}

/// What was measured.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub messages: u64,
    /// From the first request to the last answer, the clients' own work included.
    pub http_seconds: f64,
    /// psql's `\copy` of the rows that came of it.
    pub copy_seconds: f64,
    /// HTTP's time over `\copy`'s; the promise is 3 at most.
    pub ratio: f64,
    /// What this process, with server and clients, held at most: after a tenth of the messages, and after all.
    pub peak_mebibytes: [f64; 2],
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let name = "rollcall_bench_ingest";
    let pool = import::database(&server, name).await?;
    let config = config::Tracking {
        listen: Some(config::Listen(SocketAddr::from(([127, 0, 0, 1], 0)))),
        ..config::Tracking::default()
    };
    let tracking = Tracking::start(pool.clone(), Clock::system(), &config, Default::default()).await?;
    let start = Instant::now();
    let tenth = args.messages / 10 / args.batch.max(1) * args.batch.max(1);
    send(&args, tracking.address(), 0..tenth).await?;
    let early = super::deliver::peak_mebibytes().unwrap_or_default();
    send(&args, tracking.address(), tenth..args.messages).await?;
    let http_seconds = start.elapsed().as_secs_f64();
    let late = super::deliver::peak_mebibytes().unwrap_or_default();
    tracking.stop().await;
    let stored: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&pool).await?;
    if stored.unsigned_abs() != args.messages {
        return Err(Error::internal(format!("{stored} of {} messages are stored", args.messages)));
    }
    let copy_seconds = import::copy_again(&server, pool, name).await?;
    let report = Report {
        messages: args.messages,
        http_seconds,
        copy_seconds,
        ratio: http_seconds / copy_seconds,
        peak_mebibytes: [early, late],
    };
    context.output().show(&report, |report| {
        let row = |what: &str, seconds: f64| {
            [what.to_owned(), format!("{seconds:.1}"), format!("{:.0}", report.messages as f64 / seconds)]
        };
        let rows = [row("HTTP", report.http_seconds), row("psql \\copy", report.copy_seconds)];
        let [early, late] = report.peak_mebibytes;
        format!(
            "{}\n{} messages, {:.2} times as long; peak memory {early:.0} MiB after a tenth, {late:.0} MiB after all",
            table(["", "seconds", "messages/s"], rows),
            report.messages,
            report.ratio
        )
    })
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

/// Messages as a shop's server would send them; those of the same number are the same in every run.
fn batch(args: &Args, messages: std::ops::Range<u64>) -> String {
    let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap_or_default();
    let mut out = String::from("{\"batch\":[");
    for n in messages {
        if !out.ends_with('[') {
            out.push(',');
        }
        let at = (start + TimeDelta::seconds(n.cast_signed() * 60)).to_rfc3339_opts(SecondsFormat::Millis, true);
        // A step that is prime to any usual number of people: all of them come, in no order of their ids.
        let user = n.wrapping_mul(7_919) % args.profiles.max(1);
        out += &match n % 6 {
            0 => format!(
                r#"{{"type":"identify","messageId":"bench-{n:010}","userId":"user-{user}","timestamp":"{at}","traits":{{"email":"user-{user}@example.com","plan":"free","age":{}}}}}"#,
                18 + n % 60
            ),
            _ => format!(
                r#"{{"type":"track","messageId":"bench-{n:010}","userId":"user-{user}","event":"Order Completed","timestamp":"{at}","properties":{{"order_id":"{n}","revenue":{}.5,"quantity":{},"currency":"USD"}},"context":{{"ip":"192.0.2.1","library":{{"name":"analytics-node","version":"3.1.0"}}}}}}"#,
                n % 600,
                1 + n % 5
            ),
        };
    }
    out + "]}"
}
