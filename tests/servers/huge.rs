//! Rows 16 and 60: an audience of a million. Memory and transactions stay small, however many are in it; a limit of the system's sees to it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

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

/// Runs a program that gets no more memory than that: what it asks for beyond is refused, and ends it.
fn limited(program: &Command, kibibytes: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -d \"$0\" && exec \"$@\"", &kibibytes.to_string()]);
    command.arg(program.get_program()).args(program.get_args());
    command.current_dir(program.get_current_dir().expect("a folder of the test's own"));
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_are_computed_sealed_and_told_within_256_mebibytes_and_in_short_transactions() {
    let audiences = "  - {name: Everybody, query: \"NOT trait('n').exists()\", schedule: every 1d}";
    let world = World::new(audiences).await;
    fill(&world, 1, PEOPLE).await;
    let serve = world.command(&["serve", "-v", "--color", "never"]);
    let instance = Instance::run(&world, "one", limited(&serve, CEILING_KIBIBYTES));
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

#[tokio::test(flavor = "multi_thread")]
async fn row_16_the_limit_of_memory_is_one_that_ends_whoever_needs_more() {
    let world = World::new("  []").await;
    let mut check = limited(&world.command(&["serve", "-v", "--color", "never"]), 16 << 10);
    let output = check.output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
