//! Random definitions over random histories at random instants: the store and the interpreter give the same members.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use roaring::RoaringBitmap;
use rollcall::{
    audience::{
        ast::Expr,
        conditions::formula,
        interpret::{self, Profile},
        print,
    },
    membership::{Due, Settings, Universe, evaluate},
};
use sqlx::{Connection, PgConnection};

use super::store;
use crate::support::{
    definitions,
    histories::{self, AUDIENCES, EVENTS},
    postgres::Database,
};

const PROFILES: usize = 150;
const ROUNDS: usize = 12;
const DEFINITIONS_PER_ROUND: usize = 50;

/// Values are drawn from a fixed seed, so that a difference is found again, unless `ROLLCALL_TEST_SEED` names another.
pub fn runner() -> TestRunner {
    let seed: u64 = std::env::var("ROLLCALL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

pub fn draw<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("the strategy yields a value").current()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_gives_the_members_that_the_interpreter_gives() {
    let database = Database::fresh().await;
    let mut runner = runner();
    let profiles: Vec<Profile> = (0..PROFILES).map(|_| draw(&histories::profile(), &mut runner)).collect();
    store::insert(&database.pool, &profiles).await;
    store::promote(&database.pool, EVENTS[0], "revenue", 1).await;
    let mut conn = database.pool.acquire().await.unwrap();
    let strategy = definitions::definition();
    for round in 0..ROUNDS {
        let at = draw(&histories::instant(), &mut runner);
        let definitions: Vec<Expr> = (0..DEFINITIONS_PER_ROUND).map(|_| draw(&strategy, &mut runner)).collect();
        compare(&mut conn, &profiles, &definitions, at, round).await;
    }
}

async fn compare(conn: &mut PgConnection, profiles: &[Profile], definitions: &[Expr], at: DateTime<Utc>, round: usize) {
    let audiences = AUDIENCES.iter().map(|key| key.to_string()).collect();
    let stored: HashMap<String, RoaringBitmap> =
        AUDIENCES.iter().map(|key| (key.to_string(), ids(profiles, |profile| profile.memberships[*key]))).collect();
    let keyed: Vec<_> = definitions
        .iter()
        .enumerate()
        .filter_map(|(n, definition)| Some((format!("a{n}"), definition, formula(definition, &audiences).ok()?)))
        .collect();
    let universe = Universe::users(false);
    let due: Vec<_> = keyed.iter().map(|(key, _, formula)| Due { key, formula, universe: &universe }).collect();
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *tx).await.unwrap();
    let evaluation = evaluate(&mut tx, at, &due, &stored, &Settings::default()).await.unwrap();
    tx.commit().await.unwrap();
    for ((_, members), (_, definition, _)) in evaluation.audiences.iter().zip(&keyed) {
        let told = |text: &str| format!("round {round}, at {at}: {text}\n{}", print(definition));
        let members = members
            .as_ref()
            .unwrap_or_else(|error| panic!("{}", told(&format!("{error} {:?}", std::error::Error::source(error)))));
        let expected = ids(profiles, |profile| interpret::holds(definition, profile, at));
        if *members != expected {
            let wrong = (members ^ &expected).min().unwrap();
            let told = told(&format!("{wrong} is in: {} by the store", members.contains(wrong)));
            panic!("{told}\n{:#?}", profiles[wrong as usize - 1]);
        }
    }
}

fn ids(profiles: &[Profile], holds: impl Fn(&Profile) -> bool) -> RoaringBitmap {
    (1..).zip(profiles).filter(|(_, profile)| holds(profile)).map(|(id, _)| id).collect()
}
