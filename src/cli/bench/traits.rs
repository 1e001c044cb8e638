//! How fast are computed traits: ten beside one over the same event, and a week's change beside the best SQL by hand?
//!
//! The data set is that of `bench evaluate`. Ours is a whole run each time: evaluated, held against the stored values,
//! sealed with the values to be told, committed. It goes a week forward and back, so that each round has a change to find.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, PgPool};

use super::{
    super::{Context, table},
    evaluate::{Args, NOW, median, with_database},
};
use crate::{
    Error, Result,
    audience::{catalogue::Catalogue, check::Known},
    config::{self, Surroundings},
    registry::register::register,
    runs::seal::{Tick, seal},
};

/// What was measured.
#[derive(Debug, Clone, serde::Serialize)]
struct Case {
    name: &'static str,
    seconds: f64,
    /// What it is held against, and what that took.
    yardstick: &'static str,
    yardstick_seconds: f64,
    ratio: f64,
    /// Changes that a run tells.
    changes: u64,
    /// Values stored, and the bytes of each.
    values: i64,
    bytes_a_value: f64,
}

const WEEK: [&str; 1] = ["event('Order Completed').within(90 days).sum(property('revenue'))"];

/// Over a number in a typed column.
const PROMOTED: [&str; 10] = [
    "event('Order Completed').within(90 days).sum(property('revenue'))",
    "event('Order Completed').within(90 days).avg(property('revenue'))",
    "event('Order Completed').within(90 days).min(property('revenue'))",
    "event('Order Completed').within(90 days).max(property('revenue'))",
    "event('Order Completed').within(90 days).count()",
    "event('Order Completed').within(60 days).sum(property('revenue'))",
    "event('Order Completed').within(60 days).count()",
    "event('Order Completed').within(30 days).sum(property('revenue'))",
    "event('Order Completed').within(30 days).max(property('revenue'))",
    "event('Order Completed').within(30 days).count()",
];

/// Over a property in JSON, with every kind of reducer.
const JSON: [&str; 10] = [
    "event('Order Completed').within(30 days).sum(property('quantity'))",
    "event('Order Completed').within(30 days).avg(property('quantity'))",
    "event('Order Completed').within(30 days).min(property('quantity'))",
    "event('Order Completed').within(30 days).max(property('quantity'))",
    "event('Order Completed').within(30 days).where(property('quantity') > 1).count()",
    "event('Order Completed').within(30 days).first(property('quantity'))",
    "event('Order Completed').within(30 days).last(property('quantity'))",
    "event('Order Completed').within(30 days).mode(property('quantity'), 1)",
    "event('Order Completed').within(30 days).unique(property('quantity'))",
    "event('Order Completed').within(30 days).unique(property('quantity')).count()",
];

/// A careful person keeps the values in a table, makes the next one beside it, and reads out what differs.
const BY_HAND: &str = "create table next as select profile_id, sum(number_1) as value from events where name_id = 1 \
     and occurred_at > '{from}' and occurred_at <= '{to}' group by profile_id; analyze next";
const BY_HAND_DELTA: &str = "select coalesce(n.profile_id, o.profile_id), coalesce(n.value, 0) from next n \
     full join known o on o.profile_id = n.profile_id where n.value is distinct from o.value";

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let server = context.database().await?;
    let cases =
        with_database(&server, &args, |step| context.output().note(step), async |pool| cases(pool, args.rounds).await);
    let cases = cases.await?;
    context.output().show(&cases, |cases| {
        let rows = cases.iter().map(|case| {
            [
                case.name.to_owned(),
                format!("{:.2}", case.seconds),
                case.yardstick.to_owned(),
                format!("{:.2}", case.yardstick_seconds),
                format!("{:.2}", case.ratio),
                case.changes.to_string(),
                case.values.to_string(),
                format!("{:.2}", case.bytes_a_value),
            ]
        });
        table(["", "s", "beside", "its s", "ratio", "changes", "values", "bytes each"], rows)
    })
}

async fn cases(pool: &PgPool, rounds: usize) -> Result<Vec<Case>> {
    let now: DateTime<Utc> = NOW.parse().map_err(|error| Error::internal("a constant is no instant").because(error))?;
    let mut cases = Vec::new();
    let week = ours(pool, "week", &WEEK, now, rounds).await?;
    let hand = by_hand(pool, now, rounds).await?;
    cases.push(week.beside("a week's change of a sum", "SQL by hand", hand));
    for (name, asked) in [("ten over a typed column", &PROMOTED), ("ten over JSON", &JSON)] {
        let one = ours(pool, &format!("one{}", cases.len()), &asked[..1], now, rounds).await?;
        let ten = ours(pool, &format!("ten{}", cases.len()), asked, now, rounds).await?;
        cases.push(ten.beside(name, "one of them", one.seconds));
    }
    Ok(cases)
}

struct Measured {
    seconds: f64,
    changes: u64,
    values: i64,
    bytes: i64,
}

impl Measured {
    fn beside(self, name: &'static str, yardstick: &'static str, yardstick_seconds: f64) -> Case {
        let Measured { seconds, changes, values, bytes } = self;
        let (ratio, bytes_a_value) = (seconds / yardstick_seconds, bytes as f64 / values.max(1) as f64);
        Case { name, seconds, yardstick, yardstick_seconds, ratio, changes, values, bytes_a_value }
    }
}

async fn ours(pool: &PgPool, prefix: &str, queries: &[&str], now: DateTime<Utc>, rounds: usize) -> Result<Measured> {
    let one = |(n, query): (usize, &&str)| {
        format!("  - {{name: {prefix} {n}, query: \"{query}\", include_anonymous: true}}\n")
    };
    let traits: String = queries.iter().enumerate().map(one).collect();
    let none = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    let config = config::parse("the benchmark's configuration", &format!("guard: off\ntraits:\n{traits}"), &none)?;
    let catalogue = Catalogue::of(&config, &Known::default());
    if let Some((_, error)) = catalogue.refused.into_iter().next() {
        return Err(error);
    }
    let audiences = register(pool, config.space_id(), &catalogue.audiences, &HashMap::new()).await?;
    let mut taken = Vec::new();
    let mut changes = 0;
    // The first run stores every value, and warms caches.
    for round in 0..=2 * rounds.max(1) {
        let t = if round % 2 == 0 { now - TimeDelta::days(7) } else { now };
        let start = Instant::now();
        let runs = seal(pool, Tick { audiences: &audiences, t, dry_run: false, fired: None }).await?;
        if round > 0 {
            taken.push(start.elapsed());
        }
        changes = 0;
        for (_, run) in runs {
            let run = run?;
            changes += run.entered + run.exited;
        }
    }
    let (bytes, values): (i64, i64) = sqlx::query_as(
        "select coalesce(sum(octet_length(v.values)), 0)::bigint,
                (select coalesce(sum(r.members), 0)::bigint from memberships m join runs r on r.id = m.run_id
                 join audiences b on b.id = m.audience_id where b.name like $1)
         from trait_values v join audiences a on a.id = v.audience_id where a.name like $1",
    )
    .bind(format!("{prefix} %"))
    .fetch_one(pool)
    .await?;
    Ok(Measured { seconds: median(taken).as_secs_f64(), changes, values, bytes })
}

async fn by_hand(pool: &PgPool, now: DateTime<Utc>, rounds: usize) -> Result<f64> {
    let mut conn = pool.acquire().await?;
    sqlx::raw_sql("set work_mem = '512MB'; set jit = off; drop table if exists known, next")
        .execute(&mut *conn)
        .await?;
    let next = |t: DateTime<Utc>| {
        BY_HAND.replace("{from}", &(t - TimeDelta::days(90)).to_rfc3339()).replace("{to}", &t.to_rfc3339())
    };
    let mut taken: Vec<Duration> = Vec::new();
    for round in 0..=2 * rounds.max(1) {
        let t = if round % 2 == 0 { now - TimeDelta::days(7) } else { now };
        let start = Instant::now();
        sqlx::raw_sql(AssertSqlSafe(next(t))).execute(&mut *conn).await?;
        if round > 0 {
            let mut rows = conn.copy_out_raw(&format!("copy ({BY_HAND_DELTA}) to stdout")).await?;
            while rows.try_next().await?.is_some() {}
            drop(rows);
            sqlx::raw_sql("drop table known").execute(&mut *conn).await?;
        }
        sqlx::raw_sql("alter table next rename to known").execute(&mut *conn).await?;
        if round > 0 {
            taken.push(start.elapsed());
        }
    }
    sqlx::raw_sql("reset work_mem; reset jit; drop table known").execute(&mut *conn).await?;
    Ok(median(taken).as_secs_f64())
}
