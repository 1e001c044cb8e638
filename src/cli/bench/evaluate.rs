//! How fast is an evaluation, beside the best SQL that one would write by hand for the same ids?
//!
//! Both sides read one generated data set, made inside Postgres, the same each time. They take turns, and medians count.

use std::{
    collections::HashMap,
    io::sink,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use super::super::{Context, table};
use crate::{
    Error, Result,
    audience::{
        self,
        conditions::{Formula, Keys, formula},
    },
    database::{self, Sessions},
    evaluate::{Due, Settings, Universe, evaluate},
};

/// How much to generate, and how often to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Profiles of the data set.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub profiles: u32,
    /// Events of the data set, over one year; one in five is an `Order Completed`.
    #[arg(long, default_value_t = 30_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub events: u32,
    /// Each side is measured so many times, in turns.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Keep the data set for the next time, in the database `rollcall_bench_evaluate`.
    #[arg(long)]
    pub keep: bool,
}

/// What was measured of one audience.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Case {
    pub name: &'static str,
    pub members: u64,
    /// The best of the statements written by hand, ids read and thrown away.
    pub sql_seconds: f64,
    /// Transaction, evaluation, diff against yesterday's members, the delta serialised.
    pub evaluate_seconds: f64,
    pub ratio: f64,
    /// What was promised.
    pub at_most: f64,
}

/// An audience, and the statements that a careful person would write for the same ids.
struct Asked {
    name: &'static str,
    query: &'static str,
    sql: &'static [&'static str],
    at_most: f64,
}

/// Later than every event.
pub(super) const NOW: &str = "2026-01-01T00:00:00Z";

const ASKED: [Asked; 3] = [
    Asked {
        name: "windowed count",
        query: "event('Order Completed').within(90 days).count() >= 1",
        sql: &[
            "select distinct profile_id from events where name_id = 1 \
             and occurred_at > '2025-10-03Z' and occurred_at <= '2026-01-01Z'",
            "select profile_id from events where name_id = 1 \
             and occurred_at > '2025-10-03Z' and occurred_at <= '2026-01-01Z' group by profile_id",
        ],
        at_most: 0.7,
    },
    Asked {
        name: "windowed sum",
        query: "event('Order Completed').within(90 days).sum(property('revenue')) >= 100",
        sql: &["select profile_id from events where name_id = 1 \
             and occurred_at > '2025-10-03Z' and occurred_at <= '2026-01-01Z' \
             group by profile_id having sum(number_1) >= 100"],
        at_most: 0.7,
    },
    Asked {
        name: "count, sum and trait",
        query: "event('Order Completed').within(30 days).count() >= 1 \
                AND event('Order Completed').within(90 days).sum(property('revenue')) >= 100 AND trait('plan') = 'pro'",
        sql: &[
            "select e.profile_id from events e join profiles p on p.id = e.profile_id and p.traits ->> 'plan' = 'pro' \
             where e.name_id = 1 and e.occurred_at > '2025-10-03Z' and e.occurred_at <= '2026-01-01Z' \
             group by e.profile_id having sum(e.number_1) >= 100 \
             and count(*) filter (where e.occurred_at > '2025-12-02Z') >= 1",
            "select p.id from profiles p join \
             (select profile_id from events where name_id = 1 \
              and occurred_at > '2025-10-03Z' and occurred_at <= '2026-01-01Z' group by profile_id \
              having sum(number_1) >= 100 and count(*) filter (where occurred_at > '2025-12-02Z') >= 1) e \
             on e.profile_id = p.id where p.traits ->> 'plan' = 'pro'",
        ],
        at_most: 1.0,
    },
];

const DATABASE: &str = "rollcall_bench_evaluate";

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let told = |step: &str| context.output().note(step);
    let cases = with_database(&server, &args, told, async |pool| cases(pool, args.rounds, told).await).await?;
    context.output().show(&cases, |cases| {
        let rows = cases.iter().map(|case| {
            [
                case.name.to_owned(),
                case.members.to_string(),
                format!("{:.2}", case.sql_seconds),
                format!("{:.2}", case.evaluate_seconds),
                format!("{:.2}", case.ratio),
                format!("{:.1}", case.at_most),
            ]
        });
        table(["audience", "members", "SQL s", "rollcall s", "ratio", "promised"], rows)
    })
}

/// Measures in a database of its own, which is filled unless an earlier run kept it.
///
/// # Errors
/// If both sides do not give the same ids.
pub(super) async fn with_database<T>(
    server: &PgConnectOptions,
    args: &Args,
    mut told: impl FnMut(&str) -> Result<()>,
    work: impl AsyncFnOnce(&PgPool) -> Result<T>,
) -> Result<T> {
    let mut connection = database::connect(server).await?;
    let kept = sqlx::query("select from pg_database where datname = $1").bind(DATABASE);
    if kept.fetch_optional(&mut connection).await?.is_none() {
        sqlx::raw_sql(AssertSqlSafe(format!("create database {DATABASE}"))).execute(&mut connection).await?;
    }
    let pool = database::pool(server.clone().database(DATABASE), Sessions::Work, 10);
    database::migrate(&pool).await?;
    let generated = generate(&pool, args, &mut told).await;
    let worked = match generated {
        Ok(()) => work(&pool).await,
        Err(error) => Err(error),
    };
    pool.close().await;
    if !args.keep {
        sqlx::raw_sql(AssertSqlSafe(format!("drop database {DATABASE}"))).execute(&mut connection).await?;
    }
    connection.close().await?;
    worked
}

async fn cases(pool: &PgPool, rounds: usize, told: impl Fn(&str) -> Result<()>) -> Result<Vec<Case>> {
    let mut conn = pool.acquire().await?;
    let now: DateTime<Utc> = NOW.parse().map_err(|error| Error::internal("a constant is no instant").because(error))?;
    let mut cases = Vec::new();
    for asked in &ASKED {
        told(asked.name)?;
        cases.push(measure(&mut conn, asked, now, rounds).await?);
    }
    Ok(cases)
}

async fn measure(conn: &mut PgConnection, asked: &Asked, now: DateTime<Utc>, rounds: usize) -> Result<Case> {
    let formula = formula(&audience::parse(asked.name, asked.query)?, &Keys::default())?;
    // Also warms caches on both sides, and stores the universe.
    let (yesterday, _) = ours(conn, &formula, now - TimeDelta::days(1), &RoaringBitmap::new()).await?;
    let (members, _) = ours(conn, &formula, now, &yesterday).await?;
    let mut taken = vec![Vec::new(); asked.sql.len()];
    let mut took = Vec::new();
    for round in 0..rounds.max(1) {
        for (sql, taken) in asked.sql.iter().zip(&mut taken) {
            let (ids, seconds) = by_hand(conn, sql, round == 0).await?;
            if ids.is_some_and(|ids| ids != members) {
                return Err(Error::internal(format!("the {} has other ids in SQL", asked.name)));
            }
            taken.push(seconds);
        }
        took.push(ours(conn, &formula, now, &yesterday).await?.1);
    }
    let sql_seconds = taken.into_iter().map(median).min().unwrap_or_default().as_secs_f64();
    let evaluate_seconds = median(took).as_secs_f64();
    Ok(Case {
        name: asked.name,
        members: members.len(),
        sql_seconds,
        evaluate_seconds,
        ratio: evaluate_seconds / sql_seconds,
        at_most: asked.at_most,
    })
}

async fn ours(
    conn: &mut PgConnection,
    formula: &Formula,
    at: DateTime<Utc>,
    before: &RoaringBitmap,
) -> Result<(RoaringBitmap, Duration)> {
    // Everyone has one of both identifiers, so that the ids are those of the statements, which know no identifiers.
    let universe = Universe::users(true);
    let start = Instant::now();
    let mut tx = conn.begin_with("begin isolation level repeatable read").await?;
    let due = [Due { key: "measured", formula, universe: &universe }];
    let evaluation = evaluate(&mut tx, at, &due, &HashMap::new(), &Settings::default()).await?;
    let members = evaluation.audiences.into_iter().map(|(_, members)| members).next();
    let members = members.unwrap_or_else(|| Err(Error::internal("an audience was not evaluated")))?;
    for delta in [&members - before, before - &members] {
        delta
            .serialize_into(sink())
            .map_err(|error| Error::internal("a bitmap could not be written").because(error))?;
    }
    tx.commit().await?;
    Ok((members, start.elapsed()))
}

/// As psql would, with room to hash in and without the compiler that only delays it; the copy spares it the text.
async fn by_hand(conn: &mut PgConnection, sql: &str, keep: bool) -> Result<(Option<RoaringBitmap>, Duration)> {
    sqlx::raw_sql("set work_mem = '512MB'; set jit = off").execute(&mut *conn).await?;
    let start = Instant::now();
    let mut text = Vec::new();
    let mut rows = conn.copy_out_raw(&format!("copy ({sql}) to stdout")).await?;
    while let Some(row) = rows.try_next().await? {
        if keep {
            text.extend_from_slice(&row);
        }
    }
    drop(rows);
    let seconds = start.elapsed();
    sqlx::raw_sql("reset work_mem; reset jit").execute(&mut *conn).await?;
    let ids =
        keep.then(|| String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse::<u32>().ok()).collect());
    Ok((ids, seconds))
}

pub(super) fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort();
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}

async fn generate(pool: &PgPool, args: &Args, told: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    let sizes: (i64, i64) =
        sqlx::query_as("select (select count(*) from profiles), (select count(*) from events)").fetch_one(pool).await?;
    if sizes == (args.profiles.into(), args.events.into()) {
        return Ok(());
    }
    if sizes != (0, 0) {
        return Err(Error::settings(format!("the database {DATABASE} holds a data set of another size")).help(
            format!("Drop it (`drop database {DATABASE}`), or ask for {} profiles and {} events.", sizes.0, sizes.1),
        ));
    }
    let mut conn = pool.acquire().await?;
    for (step, sql) in GENERATE {
        told(step)?;
        let sql = sql.replace("{profiles}", &args.profiles.to_string()).replace("{events}", &args.events.to_string());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Hashes instead of random numbers: the same data each time, whatever the plan.
const GENERATE: [(&str, &str); 5] = [
    (
        "making partitions",
        "set synchronous_commit = off; set maintenance_work_mem = '1GB';
         drop index events_by_name; drop index events_by_profile;
         do $$ begin for i in 0..11 loop execute format('create table %I partition of events for values from (%L) to (%L)',
             'events_bench_' || i, timestamptz '2025-01-01Z' + make_interval(months => i), timestamptz '2025-01-01Z' + make_interval(months => i + 1));
         end loop; end $$;
         insert into event_names (name) values ('Order Completed'), ('Page Viewed'), ('Product Viewed'), ('Product Added');
         insert into promotions (name_id, path, slot) values (1, '{revenue}', 1);",
    ),
    (
        "making profiles",
        "insert into profiles (id, traits) select g, jsonb_build_object(
             'plan', (array['free', 'free', 'free', 'pro', 'team'])[1 + (hashint8extended(g, 1) & 1048575) % 5],
             'age', 18 + (hashint8extended(g, 2) & 1048575) % 60,
             'city', 'city ' || (hashint8extended(g, 3) & 1048575) % 1000,
             'email', 'person' || g || '@example.com')
         from generate_series(1, {profiles}) g;
         insert into identifiers (type, value, profile_id, added_at)
         select case when g % 10 = 0 then 'anonymous_id' else 'user_id' end, 'u' || g, g, timestamptz '2025-01-01Z'
         from generate_series(1, {profiles}) g;",
    ),
    (
        "making events",
        "insert into events (profile_id, name_id, occurred_at, message_id, properties, number_1)
         select p, n, moment, 'm' || g,
             case when n = 1 then jsonb_build_object('revenue', r, 'quantity', 1 + g % 5, 'currency', 'EUR')
                  else jsonb_build_object('path', '/' || g % 1000) end,
             case when n = 1 then r end
         from (
             select g, 1 + (hashint8extended(g, 4) & 1099511627775) % {profiles} p,
                 (array[1, 1, 2, 2, 2, 2, 2, 3, 3, 4])[1 + (hashint8extended(g, 5) & 1048575) % 10] n,
                 timestamptz '2025-01-01Z' + g * (interval '365 days' / {events}) moment,
                 ((hashint8extended(g, 6) & 1048575) % 20000)::numeric / 100 r
             from generate_series(1, {events}) g offset 0) s;",
    ),
    (
        "indexing",
        "create index events_by_name on events (name_id, occurred_at) include (profile_id, number_1, number_2);
         create index events_by_profile on events (profile_id, name_id, occurred_at);",
    ),
    ("vacuuming", "vacuum analyze"),
];
