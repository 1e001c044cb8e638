//! A retry killed between every two of its steps tells each record once.

use serde_json::json;

use super::{BROKEN, MENDED, buy, counted, heard, map};
use crate::sync::World;

/// What a retry comes by: its slice, and the transaction that tells it.
const POINTS: [&str; 12] = [
    "before_slice",
    "after_slice",
    "after_fence",
    "after_cursor_read",
    "after_begin",
    "after_first_cursor",
    "amid_records",
    "after_records",
    "after_last_cursor",
    "after_drain",
    "after_commit",
    "after_mirror",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_killed_between_any_two_steps_tells_each_record_once() {
    let world = World::new(super::RECENT).await;
    for (n, point) in POINTS.into_iter().enumerate() {
        map(&world, BROKEN);
        buy(&world, [2 * n, 2 * n + 1], "2024-05-01", json!("nowhere"));
        world.json(&["sync", "--at", "2024-05-02"]);
        assert_eq!(counted(&world), 2);
        if n == 0 {
            // It is put aside again, and killed right after.
            let killed =
                world.command(&["quarantine", "retry"]).env("ROLLCALL_FAULT", "after_quarantine:abort").output();
            assert!(!killed.unwrap().status.success());
            world.leases_end().await;
            world.json(&["sync", "--at", "2024-05-02"]);
            assert_eq!(counted(&world), 2);
        }
        map(&world, MENDED);
        let killed = world.command(&["quarantine", "retry"]).env("ROLLCALL_FAULT", format!("{point}:abort")).output();
        assert!(!killed.unwrap().status.success(), "{point} was never reached");
        world.leases_end().await;
        world.json(&["sync", "--at", "2024-05-02"]);
        world.json(&["quarantine", "retry"]);
        assert_eq!(counted(&world), 0, "after {point}");
    }
    for n in 0..2 * POINTS.len() {
        assert_eq!(heard(&world, &format!("u{n}")), [true], "u{n}, which was told after {}", POINTS[n / 2]);
    }
    world.verified();
}
