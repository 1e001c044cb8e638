//! Messages come in while audiences are computed: each run sees one moment, whole transactions or nothing of them.

use std::{
    io::{Cursor, sink},
    sync::atomic::{AtomicBool, Ordering},
};

use rollcall::{
    evaluate::Settings,
    profile::{
        import::Importer,
        source::{Reading, Source},
    },
};
use serde_json::json;
use sqlx::PgPool;

use super::evaluation::{ask, evaluated, members};
use crate::support::{histories::now, postgres::Database};

const PAIRS: usize = 8;

/// One message each to both of a pair, in one transaction: the flag of one goes up as that of the other goes down.
async fn swap(pool: &PgPool, pair: usize, turn: usize) {
    let message = |side: usize| {
        let (minute, second) = (turn / 60, turn % 60);
        json!({"type": "identify", "userId": format!("u{pair}-{side}"), "messageId": format!("{pair}-{side}-{turn}"),
               "timestamp": format!("2024-01-01T00:{minute:02}:{second:02}Z"), "traits": {"flag": turn % 2 == side}})
    };
    let lines = format!("{}\n{}\n", message(0), message(1));
    let source = Source::stream("-", Box::new(Cursor::new(lines)), Reading::default()).unwrap();
    Importer::new(pool.clone()).run(source, &mut sink(), |_| ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_sees_one_moment_while_writers_swap_a_flag_between_pairs() {
    let database = Database::fresh().await;
    let pool = &database.pool;
    for pair in 0..PAIRS {
        swap(pool, pair, 0).await;
    }
    let done = AtomicBool::new(false);
    let writer = async |pairs: [usize; 4]| {
        let mut turn = 1;
        while !done.load(Ordering::Relaxed) {
            for pair in pairs {
                swap(pool, pair, turn).await;
            }
            turn += 1;
        }
        turn
    };
    let reader = async {
        let formulas = [ask("trait('flag') = 'true'"), ask("NOT trait('flag') = 'true'")];
        let mut seen = std::collections::BTreeSet::new();
        for run in 0..40 {
            let evaluation = evaluated(pool, now(), &formulas, &Settings::default()).await;
            let [up, down] = <[Vec<u32>; 2]>::try_from(members(&evaluation)).unwrap();
            // Ids of a pair follow each other: 1 and 2, 3 and 4, …
            let pairs: Vec<u32> = up.iter().map(|id| (id - 1) / 2).collect();
            assert_eq!(pairs, (0..PAIRS as u32).collect::<Vec<_>>(), "run {run}: {up:?}");
            assert_eq!(down.len(), PAIRS, "run {run}");
            seen.insert(up);
        }
        done.store(true, Ordering::Relaxed);
        seen.len()
    };
    let (seen, a, b) = tokio::join!(reader, writer([0, 1, 2, 3]), writer([4, 5, 6, 7]));
    assert!(seen > 3 && a + b > 6, "{seen} different moments of {a} and {b} turns are too few to prove anything");
}
