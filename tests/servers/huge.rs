//! Rows 16 and 60: an audience of a million. Memory and transactions stay small, however many are in it.

use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;

use crate::{serve::Instance, sync::World};

const PEOPLE: u32 = 1_000_000;
/// What a small machine gives a container.
const CEILING_KIBIBYTES: u64 = 256 << 10;
/// So many are told before the memory is looked at: more than a slice, and many pages.
const TOLD: i64 = 60_000;
/// The longest that a transaction in Postgres may be open, on a slow machine and without optimization.
const TRANSACTION: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(180);

async fn fill(world: &World, from: u32, to: u32) {
    let sql = format!(
        "insert into profiles (id) select generate_series({from}, {to});
         insert into identifiers (type, value, profile_id, added_at)
         select 'user_id', 'u' || id, id, '2024-01-01' from generate_series({from}, {to}) id;
         analyze profiles, identifiers"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.db.pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_are_computed_sealed_and_told_within_256_mebibytes_and_in_short_transactions() {
    let audiences = "  - {name: Everybody, query: \"NOT trait('n').exists()\", schedule: every 1d}";
    let world = World::new(audiences).await;
    fill(&world, 1, PEOPLE).await;
    let instance = Instance::start(&world, "one", "");
    let (deadline, mut longest) = (Instant::now() + DEADLINE, 0.0_f64);
    loop {
        let (open, told): (f64, i64) = sqlx::query_as(
            "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8,
                    (select coalesce(max(cursor_position), 0) from deliveries)
             from pg_stat_activity
             where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()",
        )
        .fetch_one(&world.db.pool)
        .await
        .unwrap();
        longest = longest.max(open);
        if told >= TOLD {
            break;
        }
        assert!(Instant::now() < deadline, "{told} are told: {}", instance.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let members: i64 = sqlx::query_scalar("select members from runs").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(members, i64::from(PEOPLE));
    let peak = instance.peak_kibibytes();
    println!("{} MiB at most, the longest transaction in Postgres {longest:.1} s", peak >> 10);
    assert!(peak < CEILING_KIBIBYTES, "{} MiB", peak >> 10);
    assert!(longest < TRANSACTION.as_secs_f64(), "{longest} s");
    assert!(!instance.log().contains("in doubt"), "{}", instance.log());
}
