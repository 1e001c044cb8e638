//! How much does a first sync write, beside a membership table with a row for each member?

use std::{collections::HashMap, time::Instant};

use sqlx::{PgPool, Row};

use super::{
    super::{Context, table},
    import::{database, execute},
};
use crate::{
    Error, Result,
    audience::{catalogue::Catalogue, check::Known},
    config::{self, Surroundings},
    registry::register::register,
    runs::seal::{Tick, seal},
};

/// How many members.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Members of the audience; as many profiles again are none, in no order.
    #[arg(long, default_value_t = 2_000_000)]
    pub members: u32,
}

/// What was written.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub members: u64,
    pub seconds: f64,
    /// Growth of the database by the first sync: run, membership, what was told, the delta log.
    pub bytes: i64,
    pub wal_bytes: i64,
    /// The same for a table of (audience, profile) rows, with its primary key.
    pub table_seconds: f64,
    pub table_bytes: i64,
    pub table_wal_bytes: i64,
}

const DATABASE: &str = "rollcall_bench_state";
const CONFIGURATION: &str = "
destinations:
  kafka: {settings: {brokers: 'localhost:9092', mechanism: none, ssl_enabled: false},
          mappings: [{name: all, mapping: {topic: t, payload: {'@path': $.}}}]}
audiences:
  - {name: Chosen, query: \"trait('half') = 'true'\"}
";

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let pool = database(&server, DATABASE).await?;
    let report = measure(&pool, &args).await;
    pool.close().await;
    execute(&server, format!("drop database if exists {DATABASE} with (force)")).await?;
    context.output().show(&report?, |report| {
        let mib = |bytes: i64| format!("{:.2}", bytes as f64 / f64::from(1 << 20));
        let rows = [
            ["rollcall".into(), format!("{:.2}", report.seconds), mib(report.bytes), mib(report.wal_bytes)],
            [
                "a row a member".into(),
                format!("{:.2}", report.table_seconds),
                mib(report.table_bytes),
                mib(report.table_wal_bytes),
            ],
        ];
        format!("{}\n{} members", table(["", "seconds", "MiB kept", "MiB of WAL"], rows), report.members)
    })
}

async fn measure(pool: &PgPool, args: &Args) -> Result<Report> {
    for sql in [
        // Scattered, so that the bitmap has no runs to be short by.
        "insert into profiles (id, traits)
         select id, jsonb_build_object('half', hashint8(id) % 2 = 0) from generate_series(1, 2 * $1::bigint) id",
        "insert into identifiers (type, value, profile_id, added_at)
         select 'user_id', 'u' || id, id, now() from generate_series(1, 2 * $1::bigint) id",
    ] {
        sqlx::query(sql).bind(i64::from(args.members)).execute(pool).await?;
    }
    sqlx::raw_sql("vacuum analyze profiles, identifiers").execute(pool).await?;
    let none = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    let config = config::parse("the benchmark's configuration", CONFIGURATION, &none)?;
    let catalogue = Catalogue::of(&config, &Known::default());
    let audiences = register(pool, config.space_id(), &catalogue.audiences, &HashMap::new()).await?;
    let t = sqlx::query_scalar("select now()").fetch_one(pool).await?;

    let before = standing(pool).await?;
    let started = Instant::now();
    let runs = seal(pool, Tick { audiences: &audiences, t, dry_run: false, fired: None }).await?;
    let seconds = started.elapsed().as_secs_f64();
    let (_, run) = runs.into_iter().next().ok_or_else(|| Error::internal("nothing was sealed"))?;
    let after = standing(pool).await?;

    sqlx::raw_sql(
        "create table members (audience_id bigint, profile_id bigint, primary key (audience_id, profile_id))",
    )
    .execute(pool)
    .await?;
    let table_before = standing(pool).await?;
    let started = Instant::now();
    sqlx::query("insert into members select 1, id from profiles where traits ->> 'half' = 'true'")
        .execute(pool)
        .await?;
    let table_seconds = started.elapsed().as_secs_f64();
    let table_after = standing(pool).await?;
    Ok(Report {
        members: run?.members,
        seconds,
        bytes: after.0 - before.0,
        wal_bytes: after.1 - before.1,
        table_seconds,
        table_bytes: table_after.0 - table_before.0,
        table_wal_bytes: table_after.1 - table_before.1,
    })
}

/// The database's size and the WAL's length, in bytes.
async fn standing(pool: &PgPool) -> Result<(i64, i64)> {
    let row = sqlx::query("select pg_database_size(current_database()), (pg_current_wal_lsn() - '0/0')::bigint")
        .fetch_one(pool)
        .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
