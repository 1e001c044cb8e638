//! Random computed traits over random histories at random instants: the store and the interpreter give the same values.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rollcall::{
    audience::{
        ComputedTrait,
        interpret::{self, Profile},
    },
    membership::{DueValue, Settings, Universe, evaluate_all, values::Column},
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
        let keys: Vec<String> = (0..traits.len()).map(|n| format!("t{n}")).collect();
        let due: Vec<_> = keys
            .iter()
            .zip(&traits)
            .map(|(key, definition)| DueValue { key, definition, universe: &universe })
            .collect();
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
