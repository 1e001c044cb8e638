//! Row 62: definitions whose every name and value tries to end the text that it might stand in. The text of what Postgres is asked
//! depends on the shape of the tree alone, and what they mean is what the interpreter says.

use std::collections::{BTreeSet, HashMap};

use rollcall::{
    audience::{
        ast::Expr,
        conditions::{self, Keys},
        interpret::{self, Event, Profile},
        parse, print,
    },
    evaluate::{Names, Settings, statements},
};
use serde_json::Value as Json;

use super::{
    evaluation::{evaluated, members},
    oracle::{draw, runner},
    store,
};
use crate::support::{
    definitions,
    histories::{self, EVENTS, now},
    postgres::Database,
};

/// Both begin alike, so that they are sorted alike; neither is a number or a date, nor has a dot, which parts a path.
const PAYLOADS: [&str; 2] =
    ["'; drop table profiles; -- \"$1", "')) or 1=1 union select * from pg_shadow /* $$ {0} %s :p1"];

/// The same definition with `payload` at the end of every name and text.
fn hostile(definition: &Expr, payload: &str) -> Option<Expr> {
    let (mut text, mut within, mut escaped) = (String::new(), false, false);
    for c in print(definition).chars() {
        if c == '\'' && !escaped {
            if within {
                text.push_str(&payload.replace('\'', "\\'"));
            }
            within = !within;
        }
        escaped = within && c == '\\' && !escaped;
        text.push(c);
    }
    // One that has become too long is left out.
    parse("a", &text).ok()
}

/// What would be asked, in the order of the texts.
fn asked(definition: &Expr, payload: &str) -> (Vec<String>, BTreeSet<String>) {
    let ids = EVENTS.iter().zip(1..).map(|(name, id)| (format!("{name}{payload}"), id)).collect();
    let names = Names::new(ids, HashMap::from([((1, vec![format!("revenue{payload}")]), 1)]));
    let formula = conditions::formula(definition, &Keys::default()).unwrap();
    let queries = statements(&conditions::distinct([&formula]), now(), &names).unwrap();
    let mut texts: Vec<String> = queries.iter().map(|query| query.text.clone()).collect();
    texts.sort();
    (texts, queries.into_iter().flat_map(|query| query.parameters).collect())
}

#[test]
fn row_62_what_postgres_is_asked_depends_on_the_shape_of_a_definition_alone() {
    let mut runner = runner();
    let (mut compared, mut carried) = (0, 0);
    for _ in 0..400 {
        let definition = draw(&definitions::definition_without_references(), &mut runner);
        let twins = PAYLOADS.map(|payload| hostile(&definition, payload));
        let [Some(one), Some(other)] = twins else { continue };
        let ((text, parameters), (text_of_other, _)) = (asked(&one, PAYLOADS[0]), asked(&other, PAYLOADS[1]));
        assert_eq!(text, text_of_other, "{}", print(&one));
        for word in ["drop", "pg_shadow", "1=1", "$1\""] {
            assert!(!text.iter().any(|text| text.contains(word)), "{word} in {text:#?}");
        }
        compared += 1;
        carried += usize::from(parameters.iter().any(|parameter| parameter.contains("drop table profiles")));
    }
    assert!(compared > 250 && carried > compared / 2, "{carried} of {compared} are few");
}

/// A value with the payload at the end of every text and of every name that holds one.
fn poisoned(value: &Json, payload: &str) -> Json {
    match value {
        Json::String(text) => format!("{text}{payload}").into(),
        Json::Array(items) => items.iter().map(|item| poisoned(item, payload)).collect(),
        Json::Object(entries) => {
            let holds_objects = |value: &Json| match value {
                Json::Array(items) => items.iter().any(Json::is_object),
                value => value.is_object(),
            };
            let entry = |(key, value): (&String, &Json)| {
                let key = if holds_objects(value) { key.clone() } else { format!("{key}{payload}") };
                (key, poisoned(value, payload))
            };
            Json::Object(entries.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

fn poisoned_profile(profile: &Profile, payload: &str) -> Profile {
    let event = |event: &Event| Event {
        name: format!("{}{payload}", event.name),
        source_id: event.source_id.as_ref().map(|source| format!("{source}{payload}")),
        properties: poisoned(&event.properties, payload),
        context: poisoned(&event.context, payload),
        ..event.clone()
    };
    Profile {
        traits: poisoned(&profile.traits, payload),
        events: profile.events.iter().map(event).collect(),
        ..profile.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_62_hostile_definitions_mean_in_postgres_what_the_interpreter_says_and_change_nothing() {
    let mut runner = runner();
    let mut met = 0;
    for payload in PAYLOADS {
        let database = Database::fresh().await;
        let profiles: Vec<Profile> =
            (0..60).map(|_| poisoned_profile(&draw(&histories::profile(), &mut runner), payload)).collect();
        store::insert(&database.pool, &profiles).await;
        let drawn = (0..120).map(|_| draw(&definitions::definition_without_references(), &mut runner));
        let definitions: Vec<Expr> = drawn.filter_map(|definition| hostile(&definition, payload)).collect();
        let formulas: Vec<_> =
            definitions.iter().map(|definition| conditions::formula(definition, &Keys::default()).unwrap()).collect();
        let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
        for (definition, members) in definitions.iter().zip(members(&evaluation)) {
            let holds = |profile: &Profile| interpret::holds(definition, profile, now());
            let expected: Vec<u32> =
                (1..).zip(&profiles).filter(|(_, profile)| holds(profile)).map(|(id, _)| id).collect();
            met += usize::from(!expected.is_empty() && expected.len() < profiles.len());
            assert_eq!(members, expected, "{}", print(definition));
        }
        let left: i64 = sqlx::query_scalar("select count(*) from profiles").fetch_one(&database.pool).await.unwrap();
        assert_eq!(left, 60);
    }
    assert!(met > 20, "{met} definitions that some satisfy and some do not are few");
}
