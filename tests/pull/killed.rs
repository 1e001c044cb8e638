//! A pull that is killed at any of its steps: each row is there once.

use crate::{
    support::faults::{Way, assert_all_named},
    sync::World,
};

/// Events by a cursor, and people without one; a page in the middle of each is where the program dies.
const PULLED: &str = "
sources:
  orders:
    query: select 'u' || n % 7 as customer, n as id, '2024-01-01Z'::timestamptz + n * interval '1 s' as placed_at, n as at from generate_series(1, 5000) n
    events: {name: Order Completed, user_id: customer, timestamp: placed_at, message_id: id}
    cursor: {column: at, lookback: '100'}
  people:
    query: select 'p' || n as user_id, n as score from generate_series(1, 5000) n
    profiles: {}
";

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_there_once_though_a_pull_is_killed_before_or_after_the_commit_of_a_page() {
    let world = World::new(&format!("  []\n{PULLED}")).await;
    let count = async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&world.db.pool).await.unwrap() };
    const EVENTS: &str = "select count(*) from events";
    const PEOPLE: &str = "select count(*) from source_rows";
    for (source, dealt_with, moved) in [
        ("orders", EVENTS, "select coalesce(max(position), '0')::bigint from sources where name = 'orders'"),
        ("people", PEOPLE, "select count(*) from identifiers where type = 'user_id' and value like 'p%'"),
    ] {
        let deaths = [
            ("before_page:abort", 0),
            ("after_page:abort", 2_000),
            ("before_page@2:abort", 4_000),
            ("after_page@1:abort", 5_000),
        ];
        assert_all_named(Way::Pull, &deaths.map(|(fault, _)| fault));
        for (fault, stored) in deaths {
            let killed = world.command(&["pull", source]).env("ROLLCALL_FAULT", fault).output().unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&killed.status);
            assert_eq!(signal, Some(nix::sys::signal::Signal::SIGABRT as i32), "{source} {fault}: {killed:?}");
            let (rows, place) = (count(dealt_with).await, count(moved).await);
            assert_eq!(rows, place, "{source} after {fault}: the rows and the place that they were read to are one");
            assert!(rows <= stored, "{source} after {fault}: {rows}");
            world.leases_end().await;
        }
        world.json(&["pull", source]);
        assert_eq!((count(dealt_with).await, count(moved).await), (5_000, 5_000), "{source}");
    }
    assert_eq!(count("select count(distinct message_id) from events").await, 5_000);
    let scored = "select count(*) from profiles where traits ? 'score'";
    assert_eq!(count(scored).await, 5_000);
}
