//! Waiting for one's turn costs one session, not a new one for each look.

use std::{collections::BTreeSet, time::Duration};

use rollcall::delta::turn::Turn;

use crate::support::postgres::Database;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_turn_does_so_in_one_session() {
    let db = Database::fresh().await;
    let turn = Turn::wait(&db.pool, None).await.unwrap();
    let waiting = tokio::spawn({
        let pool = db.pool.clone();
        async move { Turn::wait(&pool, None).await.map(drop) }
    });
    let mut seen = BTreeSet::new();
    // Some twenty looks of the one who waits.
    for _ in 0..40 {
        let sessions: Vec<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity where datname = current_database() and starts_with(application_name, 'instance:')",
        )
        .fetch_all(&db.pool)
        .await
        .unwrap();
        seen.extend(sessions);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!waiting.is_finished() && seen.len() == 2, "the one that has it and the one that waits: {seen:?}");
    drop(turn);
    waiting.await.unwrap().unwrap();
}
