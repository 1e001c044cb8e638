//! How fast is a first sync told to a real Kafka, beside librdkafka alone sending the same bytes?

use std::time::Instant;

use roaring::RoaringBitmap;
use serde_json::json;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use super::{
    super::{Context, table},
    import::{database, execute},
};
use crate::{
    Error, Result,
    config::{Config, Destination},
    deliver::{Session, Target, yardstick},
    delta::{Chain, Link},
    ids::{DestinationId, Position, RunId},
    membership::diff,
};

/// How much to tell, and to whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// `host:port` of a Kafka without authentication.
    #[arg(long)]
    pub kafka: String,
    /// Members of the audience.
    #[arg(long, default_value_t = 1_000_000)]
    pub members: u32,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 6)]
    pub partitions: i32,
}

/// What was measured.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub members: u32,
    pub deliver_seconds: f64,
    pub deliver_per_second: f64,
    /// librdkafka alone: the same bytes, the same transactions.
    pub alone_seconds: f64,
    pub alone_per_second: f64,
    /// Our rate over librdkafka's; the promise is 0.5 at least.
    pub ratio: f64,
    /// Of this process when it had delivered; the promise is 200 at most. `None` where the system does not tell.
    pub peak_mebibytes: Option<f64>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let pool = database(&server, "rollcall_bench_deliver").await?;
    let report = measure(&pool, &args).await;
    pool.close().await;
    execute(&server, "drop database rollcall_bench_deliver".to_owned()).await?;
    context.output().show(&report?, |report| {
        let row =
            |what: &str, seconds: f64, rate: f64| [what.to_owned(), format!("{seconds:.1}"), format!("{rate:.0}")];
        let rows = [
            row("rollcall, first sync", report.deliver_seconds, report.deliver_per_second),
            row("librdkafka alone", report.alone_seconds, report.alone_per_second),
        ];
        let peak = report.peak_mebibytes.map_or(String::new(), |peak| format!(", {peak:.0} MiB at most"));
        format!("{}\n{:.2} of librdkafka's rate{peak}", table(["", "seconds", "records/s"], rows), report.ratio)
    })
}

/// Measures in `pool`, a migrated database that is empty but for this.
async fn measure(pool: &PgPool, options: &Args) -> Result<Report> {
    fill(pool, options.members).await?;
    let run = uuid_of(pool).await?;
    let topic = format!("rollcall-bench-{run}");
    let target = target(options, &topic, &format!("rollcall-bench-cursors-{run}"))?;
    let other = format!("rollcall-bench-alone-{run}");
    for topic in [&topic, &other] {
        yardstick::create_topic(&target, topic, options.partitions).await?;
    }
    // A Java broker is slow until its code is compiled: what is measured comes after.
    yardstick::alone(pool.clone(), &target, &other, u64::from(options.members / 5)).await?;

    let started = Instant::now();
    let mut session = Session::start(pool.clone(), target).await?;
    let delivered = session.deliver(&|_| true).await?;
    let deliver_seconds = started.elapsed().as_secs_f64();
    if delivered.to != Position(i64::from(options.members)) {
        return Err(Error::internal("not everybody was told"));
    }
    let peak_mebibytes = peak_mebibytes();
    let target = self::target(options, &topic, "")?;
    let alone = yardstick::alone(pool.clone(), &target, &other, u64::from(options.members)).await?;
    let rate = |seconds: f64| f64::from(options.members) / seconds;
    Ok(Report {
        members: options.members,
        deliver_seconds,
        deliver_per_second: rate(deliver_seconds),
        alone_seconds: alone.as_secs_f64(),
        alone_per_second: rate(alone.as_secs_f64()),
        ratio: alone.as_secs_f64() / deliver_seconds,
        peak_mebibytes,
    })
}

pub(super) fn target(options: &Args, topic: &str, cursor_topic: &str) -> Result<Target> {
    let destination = json!({
        "settings": {"brokers": options.kafka, "mechanism": "none", "ssl_enabled": false},
        "cursor_topic": cursor_topic,
        "mappings": [{
            "name": "everything",
            "mapping": {"topic": topic, "payload": {"@path": "$."}, "key": {"@path": "$.userId"}},
        }],
    });
    let destination: Destination = serde_json::from_value(destination)
        .map_err(|error| Error::internal("the benchmark's destination is wrong").because(error))?;
    let config = Config { destinations: [("kafka".to_owned(), destination)].into(), ..Config::default() };
    Target::of(&config, "kafka")
}

/// Profiles with a user id each, and a log of one run that all of them enter.
pub(super) async fn fill(pool: &PgPool, members: u32) -> Result<()> {
    for sql in [
        "insert into profiles (id) select generate_series(1, $1::bigint)",
        "insert into identifiers (type, value, profile_id, added_at)
         select 'user_id', 'user-' || id, id, '2024-01-01' from generate_series(1, $1::bigint) id",
    ] {
        sqlx::query(sql).bind(i64::from(members)).execute(pool).await?;
    }
    sqlx::raw_sql("vacuum analyze profiles, identifiers").execute(pool).await?;
    sqlx::raw_sql(
        "insert into audiences (key, name, computation_id) values ('big_spenders', 'Big spenders', 'aud_bench');
         insert into definitions (audience_id, version, query) select id, 1, 'TRUE' from audiences;
         insert into destinations (name) values ('kafka');",
    )
    .execute(pool)
    .await?;
    let entered = diff::encode(&(1..=members).collect());
    let exited = diff::encode(&RoaringBitmap::new());
    let row = sqlx::query(
        "insert into runs (audience_id, definition_version, evaluated_at, snapshot, members, entered_count,
                           exited_count, entered, exited, evaluate_ms)
         select a.id, 1, now(), '', $1, $1, 0, $2, $3, 0 from audiences a
         returning id, (select id from destinations) as destination",
    )
    .bind(i64::from(members))
    .bind(&entered)
    .bind(&exited)
    .fetch_one(pool)
    .await?;
    let (run, destination): (RunId, DestinationId) = (row.try_get("id")?, row.try_get("destination")?);
    let end = Position(i64::from(members));
    let chain = Chain::default().link(&Link::of(run, Position(0)..end, &entered, &exited, Uuid::nil()));
    sqlx::query(
        "with log as (
             insert into deltas (destination_id, from_position, to_position, run_id, mapping_version, chain, nonce)
             values ($1, 0, $2, $3, '', $4, $5))
         update destinations set next_position = $2, chain = $4 where id = $1",
    )
    .bind(destination)
    .bind(end)
    .bind(run)
    .bind(&chain.0)
    .bind(Uuid::nil())
    .execute(pool)
    .await?;
    Ok(())
}

/// Topic names that no earlier run has.
pub(super) async fn uuid_of(pool: &PgPool) -> Result<String> {
    Ok(sqlx::query_scalar("select stream::text from destinations where name = 'kafka'").fetch_one(pool).await?)
}

/// `VmHWM` of this process.
pub(super) fn peak_mebibytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
}
