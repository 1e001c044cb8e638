//! How fast are a topic and the log held against each other, beside kcat reading the same topic?

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::PgPool;

use super::{
    super::{Context, table},
    deliver::{self, peak_mebibytes},
    import::{database, execute},
};
use crate::{
    Error, Result,
    deliver::{
        Session, Target,
        verify::{self, Question},
        yardstick,
    },
};

/// What was measured, in seconds.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub records: u64,
    pub kcat_seconds: f64,
    pub verify_seconds: f64,
    /// With the topic added up to one number.
    pub digest_seconds: f64,
    /// Verify's time over kcat's.
    pub ratio: f64,
    /// Of this process when it had verified, and when it had added up.
    pub peak_mebibytes: Option<f64>,
    pub digest_peak_mebibytes: Option<f64>,
}

pub async fn run(args: deliver::Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let pool = database(&server, "rollcall_bench_verify").await?;
    let report = measure(&pool, &args).await;
    pool.close().await;
    execute(&server, "drop database rollcall_bench_verify".to_owned()).await?;
    context.output().show(&report?, |report| {
        let row = |what: &str, seconds: f64| {
            [what.to_owned(), format!("{seconds:.1}"), format!("{:.0}", report.records as f64 / seconds)]
        };
        let rows = [
            row("kcat, reading alone", report.kcat_seconds),
            row("rollcall verify", report.verify_seconds),
            row("rollcall verify --digest", report.digest_seconds),
        ];
        let peak = |peak: Option<f64>| peak.map_or("?".to_owned(), |peak| format!("{peak:.0}"));
        let peaks = format!(
            "{} MiB at most, {} with the digest",
            peak(report.peak_mebibytes),
            peak(report.digest_peak_mebibytes)
        );
        format!("{}\n{:.2} times kcat's time; {peaks}", table(["", "seconds", "records/s"], rows), report.ratio)
    })
}

/// Tells a first sync, and then reads it in each way.
async fn measure(pool: &PgPool, args: &deliver::Args) -> Result<Report> {
    deliver::fill(pool, args.members).await?;
    sqlx::raw_sql(
        "insert into told (destination_id, audience_id, run_id, members)
         select d.destination_id, r.audience_id, r.id, r.entered from deltas d join runs r on r.id = d.run_id",
    )
    .execute(pool)
    .await?;
    let run = deliver::uuid_of(pool).await?;
    let topic = format!("rollcall-bench-{run}");
    let target = deliver::target(args, &topic, &format!("rollcall-bench-cursors-{run}"))?;
    yardstick::create_topic(&target, &topic, args.partitions).await?;
    Session::start(pool.clone(), target.clone()).await?.deliver(&|_| true).await?;
    // Once to warm the broker's cache, then for the clock.
    kcat(args, &topic).await?;
    let kcat_seconds = kcat(args, &topic).await?.as_secs_f64();
    let (records, verify_seconds) = verified(pool, &target, false).await?;
    let peak = peak_mebibytes();
    let (_, digest_seconds) = verified(pool, &target, true).await?;
    Ok(Report {
        records,
        kcat_seconds,
        verify_seconds,
        digest_seconds,
        ratio: verify_seconds / kcat_seconds,
        peak_mebibytes: peak,
        digest_peak_mebibytes: peak_mebibytes(),
    })
}

async fn verified(pool: &PgPool, target: &Target, digest: bool) -> Result<(u64, f64)> {
    let report = verify::verify(pool, target, Question { digest, since: None }, &mut |_, _| {}).await?;
    match report.agrees {
        true => Ok((report.records, report.seconds)),
        false => Err(Error::internal("what was told is not what the database says")),
    }
}

/// kcat reading the topic to its end, and throwing it away.
async fn kcat(args: &deliver::Args, topic: &str) -> Result<Duration> {
    let mut kcat = Command::new("kcat");
    kcat.args([
        "-C",
        "-q",
        "-e",
        "-o",
        "beginning",
        "-X",
        "isolation.level=read_committed",
        "-b",
        &args.kafka,
        "-t",
        topic,
    ]);
    kcat.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let read = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        kcat.status().map(|status| (status.success(), started.elapsed()))
    });
    match read.await {
        Ok(Ok((true, took))) => Ok(took),
        _ => Err(Error::settings("kcat does not read the topic").help("Install kcat (Debian: kcat).")),
    }
}
