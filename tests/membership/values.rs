//! Random computed traits over random histories at random instants: the store and the interpreter give the same values.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rollcall::{
    audience::{
        Computed, ComputedTrait,
        interpret::{self, Profile},
    },
    evaluate::{DueValue, Settings, Universe, evaluate_all},
    values::Column,
};
use sqlx::Connection;

use super::{
    oracle::{draw, runner},
    store,
};
use crate::support::{
    definitions,
    histories::{self, EVENTS},
    postgres::Database,
};

const PROFILES: usize = 150;
const ROUNDS: usize = 10;
const TRAITS_PER_ROUND: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn the_store_gives_the_values_that_the_interpreter_gives() {
    let database = Database::fresh().await;
    let mut runner = runner();
    let profiles: Vec<Profile> = (0..PROFILES).map(|_| draw(&histories::profile(), &mut runner)).collect();
    store::insert(&database.pool, &profiles).await;
    store::promote(&database.pool, EVENTS[0], "revenue", 1).await;
    let mut conn = database.pool.acquire().await.unwrap();
    let (strategy, universe) = (definitions::computed_trait(), Universe::users(false));
    let mut some = 0;
    for round in 0..ROUNDS {
        let at = draw(&histories::instant(), &mut runner);
        let traits: Vec<ComputedTrait> = (0..TRAITS_PER_ROUND).map(|_| draw(&strategy, &mut runner)).collect();
        let computed: Vec<Computed> = traits.iter().cloned().map(Computed::Value).collect();
        let keys: Vec<String> = (0..traits.len()).map(|n| format!("t{n}")).collect();
        let due: Vec<_> =
            keys.iter().zip(&computed).map(|(key, computed)| DueValue { key, computed, universe: &universe }).collect();
        let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
        let evaluation = evaluate_all(&mut tx, at, &[], &due, &Default::default(), &Settings::default()).await.unwrap();
        tx.commit().await.unwrap();
        assert!(evaluation.statistics.statements < traits.len(), "scans are shared");
        for ((_, settled), definition) in evaluation.values.iter().zip(&traits) {
            let told = |text: &str| format!("round {round}, at {at}: {text}\n{definition}");
            let settled = settled
                .as_ref()
                .unwrap_or_else(|error| panic!("{}", told(&format!("{error} {:?}", std::error::Error::source(error)))));
            let mut found = BTreeMap::new();
            for (chunk, bytes) in &settled.chunks {
                let column = Column::decode(bytes).unwrap();
                found.extend(
                    column.iter().map(|(at, value)| (u32::from(*chunk) << 16 | u32::from(at), value.to_owned())),
                );
            }
            assert!(settled.members.iter().eq(found.keys().copied()));
            assert!(settled.change.entered == settled.members && settled.change.exited.is_empty());
            for (id, profile) in (1..).zip(&profiles) {
                let (expected, _) = interpret::value(definition, profile, at);
                some += usize::from(expected.is_some());
                assert_eq!(
                    found.get(&id),
                    expected.as_ref(),
                    "{}\n{profile:#?}",
                    told("the store and the interpreter differ")
                );
            }
        }
    }
    assert!(some > PROFILES * ROUNDS, "most traits are of something: {some}");
}

proptest! {
    #[test]
    fn a_trait_reads_as_it_is_printed(definition in definitions::computed_trait()) {
        let text = definition.to_string();
        prop_assert_eq!(rollcall::audience::parse_trait("it", &text).unwrap(), definition, "{}", text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_would_take_too_much_memory_reads_again_and_says_the_same() {
    let database = Database::fresh().await;
    let name = store::event_name(&database.pool, "Order Completed").await;
    sqlx::query(
        "insert into identifiers (type, value, profile_id, added_at)
         select 'user_id', 'u' || id, id, now() from generate_series(1, 400000, 4) id",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into events (profile_id, name_id, occurred_at, message_id, properties)
         select 1 + (n * 7919 % 100000) * 4, $1, timestamptz '2024-01-01Z' + n * interval '1 second', 'm' || n,
                jsonb_build_object('revenue', n % 1000 / 10.0, 'sku', 'sku ' || n % 300)
         from generate_series(1, 200000) n",
    )
    .bind(name)
    .execute(&database.pool)
    .await
    .unwrap();
    let traits = [
        "count()",
        "sum(property('revenue'))",
        "max(property('revenue'))",
        "last(property('sku'))",
        "unique(property('sku'))",
    ]
    .map(|reducer| rollcall::audience::parse_trait("it", &format!("event('Order Completed').{reducer}")).unwrap())
    .map(Computed::Value);
    let universe = Universe::users(false);
    let due: Vec<_> = traits.iter().map(|computed| DueValue { key: "t", computed, universe: &universe }).collect();
    let mut outcomes = Vec::new();
    for scan_bytes in [1 << 30, 1 << 20] {
        let mut conn = database.pool.acquire().await.unwrap();
        let mut tx = conn.begin_with("begin isolation level repeatable read").await.unwrap();
        let settings = Settings { scan_bytes, ..Settings::default() };
        let at = "2025-01-01T00:00:00Z".parse().unwrap();
        let evaluation = evaluate_all(&mut tx, at, &[], &due, &Default::default(), &settings).await.unwrap();
        let values: Vec<_> = evaluation.values.into_iter().map(|(_, settled)| settled.unwrap().chunks).collect();
        outcomes.push((evaluation.statistics.rows, values));
    }
    assert_eq!(outcomes[0].1.iter().map(|chunks| chunks.len()).collect::<Vec<_>>(), [7; 5]);
    assert!(outcomes[0].1 == outcomes[1].1, "the values differ");
    // The count reads the index alone, so there are two scans.
    assert_eq!(outcomes[0].0, 400_000);
    assert!(outcomes[1].0 > 400_000, "read again: {}", outcomes[1].0);
}
