//! Random definitions over random histories at random instants: the store and the interpreter give the same members. In every
//! other round some of the traits are computed ones; people have imported traits of the same names, which must not be read then.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use roaring::RoaringBitmap;
use rollcall::{
    audience::{
        Computed, ComputedTrait,
        ast::Expr,
        conditions::{Keys, distinct, formula},
        interpret::{self, Profile},
        print,
        value::Value,
    },
    evaluate::{Due, DueValue, Settings, Universe, evaluate_all},
};
use serde_json::{Value as Json, json};
use sqlx::{Connection, PgConnection};

use super::store;
use crate::support::{
    definitions,
    histories::{self, AUDIENCES, EVENTS},
    postgres::Database,
};

const PROFILES: usize = 150;
const ROUNDS: usize = 24;
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
    let values: Vec<Values> = (0..PROFILES).map(|_| draw(&computed_values(), &mut runner)).collect();
    store::insert_values(&database.pool, "score", &column(&values, |values| values.score.clone())).await;
    store::insert_values(
        &database.pool,
        "kept",
        &column(&values, |values| (!values.kept().is_empty()).then(|| values.kept().into())),
    )
    .await;
    let mut conn = database.pool.acquire().await.unwrap();
    let strategy = definitions::definition();
    let mut late = 0;
    for round in 0..ROUNDS {
        let at = draw(&histories::instant(), &mut runner);
        let definitions: Vec<Expr> = (0..DEFINITIONS_PER_ROUND).map(|_| draw(&strategy, &mut runner)).collect();
        let told = |text: &str| format!("round {round}, at {at}: {text}");
        if round % 2 == 0 {
            compare(&mut conn, (&profiles, &profiles), &definitions, (&Keys::default(), None), at, &told).await;
            continue;
        }
        // By turns as stored, and as computed in the same run.
        let due = (round % 4 == 1).then(|| readable(&profiles, at, &mut runner));
        let seen: Vec<Profile> =
            profiles.iter().zip(&values).map(|(profile, values)| values.over(profile, due.as_ref(), at)).collect();
        let traits = COMPUTED.map(|(key, stored)| (key.to_owned(), stored.to_owned())).into();
        let keys = Keys { traits, ..Keys::default() };
        late += compare(&mut conn, (&profiles, &seen), &definitions, (&keys, due), at, &told).await;
    }
    assert!(late > ROUNDS * 4, "{late} conditions that read computed traits are few");
}

/// A computed trait whose values the interpreter reads as exactly as the store does: as `f64`.
fn readable(profiles: &[Profile], at: DateTime<Utc>, runner: &mut TestRunner) -> ComputedTrait {
    let exact = |text: &str| match serde_json::from_str::<Json>(text) {
        Ok(json @ Json::Number(_)) => {
            Value::from_json(&json).and_then(|value| value.text()).is_some_and(|as_read| as_read == text)
        }
        read => read.is_ok(),
    };
    loop {
        let definition = draw(&definitions::computed_trait(), runner);
        let mut values = profiles.iter().filter_map(|profile| interpret::value(&definition, profile, at).0);
        if values.all(|value| exact(&value)) {
            return definition;
        }
    }
}

/// The values of computed traits that one person has: one alone, and some that are told together.
#[derive(Debug)]
struct Values {
    score: Option<Json>,
    plan: Option<Json>,
    tags: Option<Json>,
    renews_at: Option<Json>,
}

/// Some have none at all.
fn computed_values() -> impl Strategy<Value = Values> {
    let value = histories::computed_value;
    let some = (value(), value(), value(), value());
    prop_oneof![3 => some, 1 => Just((None, None, None, None))].prop_map(|(score, plan, tags, renews_at)| Values {
        score,
        plan,
        tags,
        renews_at,
    })
}

impl Values {
    /// Those that are told together.
    fn kept(&self) -> serde_json::Map<String, Json> {
        let values = [("plan", &self.plan), ("tags", &self.tags), ("renews_at", &self.renews_at)];
        values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect()
    }

    /// A person as definitions see them, if a run computes `score` so.
    fn over(&self, profile: &Profile, due: Option<&ComputedTrait>, at: DateTime<Utc>) -> Profile {
        let score = match due {
            None => self.score.clone(),
            Some(due) => match interpret::value(due, profile, at).0 {
                Some(value) => Some(serde_json::from_str(&value).unwrap()),
                None => self.score.as_ref().filter(|_| due.reducer.is_zero_of_nothing()).map(|_| json!(0)),
            },
        };
        let mut seen = profile.clone();
        let traits = seen.traits.as_object_mut().unwrap();
        COMPUTED.iter().for_each(|(key, _)| drop(traits.remove(*key)));
        traits.extend(self.kept());
        traits.extend(score.map(|score| ("score".to_owned(), score)));
        seen
    }
}

/// Which traits are computed in some rounds, and where their values are stored.
const COMPUTED: [(&str, &str); 4] = [("score", "score"), ("plan", "kept"), ("tags", "kept"), ("renews_at", "kept")];

fn column(values: &[Values], of: impl Fn(&Values) -> Option<Json>) -> BTreeMap<u32, String> {
    (1..).zip(values).filter_map(|(id, values)| Some((id, of(values)?.to_string()))).collect()
}

/// Holds the store against people as definitions see them; returns how many conditions read computed traits.
async fn compare(
    conn: &mut PgConnection,
    (profiles, seen): (&[Profile], &[Profile]),
    definitions: &[Expr],
    (keys, due_trait): (&Keys, Option<ComputedTrait>),
    at: DateTime<Utc>,
    told: &dyn Fn(&str) -> String,
) -> usize {
    let audiences = AUDIENCES.iter().map(|key| key.to_string()).collect();
    let keys = Keys { audiences, ..keys.clone() };
    let mut stored: HashMap<String, RoaringBitmap> =
        AUDIENCES.iter().map(|key| (key.to_string(), ids(profiles, |profile| profile.memberships[*key]))).collect();
    // That they have values is what counts here, not who has one.
    stored.extend(keys.traits.values().map(|key| (key.clone(), RoaringBitmap::new())));
    let keyed: Vec<_> = definitions
        .iter()
        .enumerate()
        .filter_map(|(n, definition)| Some((format!("a{n}"), definition, formula(definition, &keys).ok()?)))
        .collect();
    let universe = Universe::users(false);
    let due: Vec<_> = keyed.iter().map(|(key, _, formula)| Due { key, formula, universe: &universe }).collect();
    let computed = due_trait.map(Computed::Value);
    let values: Vec<_> =
        computed.iter().map(|computed| DueValue { key: "score", computed, universe: &universe }).collect();
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *tx).await.unwrap();
    let evaluation = evaluate_all(&mut tx, at, &due, &values, &stored, &Settings::default()).await.unwrap();
    tx.commit().await.unwrap();
    for ((_, members), (_, definition, _)) in evaluation.audiences.iter().zip(&keyed) {
        let told = |text: &str| format!("{}\n{}", told(text), print(definition));
        let members = members
            .as_ref()
            .unwrap_or_else(|error| panic!("{}", told(&format!("{error} {:?}", std::error::Error::source(error)))));
        let expected = ids(seen, |profile| interpret::holds(definition, profile, at));
        if *members != expected {
            let wrong = (members ^ &expected).min().unwrap();
            let told = told(&format!("{wrong} is in: {} by the store", members.contains(wrong)));
            panic!("{told}\n{:#?}", seen[wrong as usize - 1]);
        }
    }
    let conditions = distinct(keyed.iter().map(|(_, _, formula)| formula));
    conditions.into_iter().filter(|condition| !condition.computed().is_empty()).count()
}

fn ids(profiles: &[Profile], holds: impl Fn(&Profile) -> bool) -> RoaringBitmap {
    (1..).zip(profiles).filter(|(_, profile)| holds(profile)).map(|(id, _)| id).collect()
}
