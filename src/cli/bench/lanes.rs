//! How long do the changes of a hundred small audiences take to be told, alone and beside a backfill of a million?

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::PgPool;

use super::{
    super::{Context, table},
    import::{database, execute},
};
use crate::{
    Error, Result,
    audience::{catalogue::Catalogue, check::Known},
    clock::Clock,
    config::{Audience, Config, Destination},
    deliver::{Bulk, Session, Target, yardstick},
    delta::backfill::{self, State},
    registry::register::{self, Registered},
    runs::seal::{self, Tick},
};

/// The audience that is backfilled.
const BIG: &str = "everyone";

/// How much to tell, and to whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// `host:port` of a Kafka without authentication.
    #[arg(long)]
    pub kafka: String,
    /// Members of the audience that is backfilled.
    #[arg(long, default_value_t = 1_000_000)]
    pub backfill: u32,
    /// Small audiences, one of whose people changes in each round.
    #[arg(long, default_value_t = 100)]
    pub audiences: u32,
    /// Rounds, without the backfill and beside it; fewer beside it if it ends before.
    #[arg(long, default_value_t = 30)]
    pub rounds: u32,
}

/// What was measured: from the store's knowing of the changes to Kafka's having them, all small audiences together.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub alone_median_ms: f64,
    pub alone_worst_ms: f64,
    pub beside_median_ms: f64,
    pub beside_worst_ms: f64,
    /// Of the medians; the promise is 2 at most.
    pub ratio: f64,
    pub rounds_beside: usize,
    pub backfill_seconds: f64,
    pub backfill_per_second: f64,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let pool = database(&server, "rollcall_bench_lanes").await?;
    let report = measure(&pool, &args).await;
    pool.close().await;
    execute(&server, "drop database rollcall_bench_lanes".to_owned()).await?;
    context.output().show(&report?, |report| {
        let row =
            |what: &str, median: f64, worst: f64| [what.to_owned(), format!("{median:.0}"), format!("{worst:.0}")];
        let rows = [
            row("without a backfill", report.alone_median_ms, report.alone_worst_ms),
            row("beside one", report.beside_median_ms, report.beside_worst_ms),
        ];
        format!(
            "{}\n{:.2} times as long, over {} rounds; the backfill took {:.1} s, {:.0} changes/s",
            table(["delay of the small audiences", "median ms", "worst ms"], rows),
            report.ratio,
            report.rounds_beside,
            report.backfill_seconds,
            report.backfill_per_second
        )
    })
}

/// Measures in `pool`, a migrated database that is empty but for this.
async fn measure(pool: &PgPool, args: &Args) -> Result<Report> {
    let mut bench = Bench::new(pool, args).await?;
    // A Java broker is slow until its code is compiled: what is measured comes after.
    bench.rounds(10, &AtomicBool::new(false)).await?;
    let alone = bench.rounds(args.rounds, &AtomicBool::new(false)).await?;

    bench.seal(BIG).await?;
    let (ended, started) = (AtomicBool::new(false), Instant::now());
    let mut bulk = Bulk::new(pool.clone(), &bench.target);
    let backfill = async {
        while backfill::list(pool, 1).await?.first().is_some_and(|row| row.state == State::Running) {
            bulk.step(&|_| true).await?;
        }
        ended.store(true, Ordering::Relaxed);
        Ok::<_, Error>(started.elapsed().as_secs_f64())
    };
    let (backfill_seconds, beside) = tokio::join!(backfill, bench.rounds(args.rounds, &ended));
    let (backfill_seconds, beside) = (backfill_seconds?, beside?);
    if beside.is_empty() {
        return Err(Error::settings("the backfill ended before a round did").help("Give it more members."));
    }
    Ok(Report {
        alone_median_ms: median(&alone),
        alone_worst_ms: worst(&alone),
        beside_median_ms: median(&beside),
        beside_worst_ms: worst(&beside),
        ratio: median(&beside) / median(&alone),
        rounds_beside: beside.len(),
        backfill_seconds,
        backfill_per_second: f64::from(args.backfill) / backfill_seconds,
    })
}

struct Bench<'a> {
    pool: &'a PgPool,
    args: &'a Args,
    target: Target,
    audiences: Vec<Registered>,
    live: Session,
    /// Who changes next.
    next: i64,
}

impl<'a> Bench<'a> {
    async fn new(pool: &'a PgPool, args: &'a Args) -> Result<Bench<'a>> {
        let people = i64::from(args.backfill);
        for sql in [
            "insert into profiles (id) select generate_series(1, $1::bigint)",
            "insert into identifiers (type, value, profile_id, added_at)
             select 'user_id', 'user-' || id, id, '2024-01-01' from generate_series(1, $1::bigint) id",
            "insert into event_names (name) values ('everyone')",
            "insert into events (profile_id, name_id, occurred_at, message_id)
             select id, 1, '2024-05-01', 'm' || id from generate_series(1, $1::bigint) id",
            "insert into event_names (name) select 'small_' || n from generate_series(1, $1::bigint) n",
        ] {
            let count = if sql.contains("small_") { i64::from(args.audiences) } else { people };
            let query = sqlx::query(sql);
            if sql.contains("$1") { query.bind(count) } else { query }.execute(pool).await?;
        }
        sqlx::raw_sql("vacuum analyze profiles, identifiers, events").execute(pool).await?;
        let run: String = sqlx::query_scalar("select gen_random_uuid()::text").fetch_one(pool).await?;
        let topic = format!("rollcall-bench-{run}");
        let config = config(args, &topic)?;
        let target = Target::of(&config, "kafka")?;
        yardstick::create_topic(&target, &topic, 6).await?;
        let catalogue = Catalogue::of(&config, &Known::default());
        let terms = HashMap::from([("kafka".to_owned(), target.terms())]);
        let audiences = register::register(pool, config.space_id(), &catalogue.audiences, &terms).await?;
        let live = Session::start(pool.clone(), target.clone()).await?;
        Ok(Bench { pool, args, target, audiences, live, next: 1 })
    }

    /// One after the other, until `ended`: how long each took.
    async fn rounds(&mut self, rounds: u32, ended: &AtomicBool) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for _ in 0..rounds {
            // In each small audience another person enters.
            sqlx::query(
                "insert into events (profile_id, name_id, occurred_at, message_id)
                 select $1 + n, n + 1, '2024-05-01', 's' || $1 || '-' || n from generate_series(1, $2) n",
            )
            .bind(self.next)
            .bind(self.args.audiences as i32)
            .execute(self.pool)
            .await?;
            self.next += 1;
            let started = Instant::now();
            self.seal("small_").await?;
            self.live.deliver(&|_| true).await?;
            // The last one counts only if it was beside all the way.
            if ended.load(Ordering::Relaxed) {
                break;
            }
            took.push(started.elapsed());
            // As often as a schedule of a few seconds would, not as fast as it goes.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(took)
    }

    /// Computes the audiences whose keys begin so, together.
    async fn seal(&self, prefix: &str) -> Result<()> {
        let due: Vec<_> = self.audiences.iter().filter(|of| of.audience.key.starts_with(prefix)).cloned().collect();
        let tick = Tick { audiences: &due, t: Clock::system().now(), dry_run: false, fired: None };
        for (_, run) in seal::seal(self.pool, tick).await? {
            run?;
        }
        Ok(())
    }
}

fn config(args: &Args, topic: &str) -> Result<Config> {
    let wrong = |error| Error::internal("the benchmark's configuration is wrong").because(error);
    let destination: Destination = serde_json::from_value(json!({
        "settings": {"brokers": args.kafka, "mechanism": "none", "ssl_enabled": false},
        "cursor_topic": format!("{topic}-cursors"),
        "mappings": [{
            "name": "everything",
            "mapping": {"topic": topic, "payload": {"@path": "$."}, "key": {"@path": "$.userId"}},
        }],
    }))
    .map_err(wrong)?;
    let names = (1..=args.audiences).map(|n| format!("small_{n}")).chain([BIG.to_owned()]);
    let audiences = names.map(|name| {
        let query = format!("event('{name}').count() >= 1");
        serde_json::from_value::<Audience>(json!({"name": name, "key": name, "query": query})).map_err(wrong)
    });
    Ok(Config {
        destinations: [("kafka".to_owned(), destination)].into(),
        audiences: audiences.collect::<Result<_>>()?,
        ..Config::default()
    })
}

fn sorted(times: &[Duration]) -> Vec<f64> {
    let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1_000.0).collect();
    ms.sort_by(f64::total_cmp);
    ms
}

fn median(times: &[Duration]) -> f64 {
    let sorted = sorted(times);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn worst(times: &[Duration]) -> f64 {
    sorted(times).last().copied().unwrap_or_default()
}
