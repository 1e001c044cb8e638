//! Who is who, under random messages: the store holds what a naive model says, in whatever batches they come, and whoever
//! else is writing.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRng, TestRunner},
};
use rollcall::{
    config::{Identifier, Identity, Window},
    profile::{
        import::Importer,
        rules::Rules,
        source::{Reading, Source},
    },
};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{
    count,
    model::{Call, Limits, Message, Model, Person},
};
use crate::support::postgres::Database;

fn messages(users: usize, with_alias: bool) -> impl Strategy<Value = Vec<Message>> {
    let id = |letter: char, n: usize| (0..n).prop_map(move |n| format!("{letter}{n}"));
    let value = prop_oneof![Just(json!(null)), (0..3).prop_map(Value::from), Just(json!({"a": [1, null]}))];
    let identify = prop::collection::btree_map("[a-c]", value, 0..3).prop_map(Call::Identify);
    let alias = if with_alias { 2 } else { 0 };
    let call = prop_oneof![
        4 => Just(Call::Track),
        4 => identify,
        1 => id('g', 3).prop_map(Call::Group),
        alias => prop_oneof![id('a', 5), id('u', users)].prop_map(Call::Alias),
    ];
    let user = prop::option::weighted(0.5, id('u', users));
    let anonymous = prop::option::weighted(0.6, id('a', 5));
    let crm = prop::option::weighted(0.3, id('c', 4));
    let message = (user, anonymous, crm, call, 0..30i64);
    prop::collection::vec(message, 1..40).prop_map(|drawn| {
        let start: DateTime<Utc> = "2024-03-01T00:00:00Z".parse().unwrap();
        type Drawn = (Option<String>, Option<String>, Option<String>, Call, i64);
        let of = |(n, (user, anonymous, crm, call, day)): (usize, Drawn)| {
            let user = if matches!(call, Call::Alias(_)) || anonymous.is_none() {
                user.or_else(|| Some("u0".into()))
            } else {
                user
            };
            // No two at one time, so that the order of arrival decides nothing where it should not.
            let at = start + TimeDelta::days(day) + TimeDelta::microseconds(n as i64);
            Message { id: format!("m{n}"), at, user, anonymous, crm, call }
        };
        drawn.into_iter().enumerate().map(of).collect()
    })
}

fn rules(limits: &Limits) -> Arc<Rules> {
    let identifiers = limits.iter().map(|(kind, (limit, days))| Identifier {
        kind: (*kind).to_owned(),
        limit: Some(*limit as u32),
        window: match days {
            None => Window::Ever,
            Some(7) => Window::Weekly,
            Some(_) => Window::Monthly,
        },
        priority: None,
        blocked: Vec::new(),
        normalize: None,
    });
    Arc::new(Rules::of(&Identity { identifiers: identifiers.collect(), blocked: None }).unwrap())
}

async fn write(pool: &PgPool, rules: &Arc<Rules>, messages: &[Message], batch: usize) {
    let text: String = messages.iter().map(|message| format!("{}\n", message.to_json())).collect();
    let source = Source::stream("-", Box::new(std::io::Cursor::new(text)), Reading::default()).unwrap();
    let mut importer = Importer::new(pool.clone());
    importer.rules = rules.clone();
    importer.batch_messages = batch;
    let summary = importer.run(source, &mut std::io::sink(), |_| ()).await.unwrap();
    assert_eq!((summary.refused, summary.repeated), (0, 0));
}

async fn stored(pool: &PgPool) -> Vec<Person> {
    let mut people: BTreeMap<i64, Person> = BTreeMap::new();
    let rows: Vec<(i64, Value)> = sqlx::query_as("select id, traits from profiles").fetch_all(pool).await.unwrap();
    for (id, traits) in rows {
        people.entry(id).or_default().traits = serde_json::from_value(traits).unwrap();
    }
    let rows: Vec<(i64, String, String, DateTime<Utc>)> =
        sqlx::query_as("select profile_id, type, value, added_at from identifiers").fetch_all(pool).await.unwrap();
    for (id, kind, value, added) in rows {
        people.get_mut(&id).expect("an identifier's profile exists").ids.insert((kind, value), added);
    }
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select profile_id, message_id from events").fetch_all(pool).await.unwrap();
    for (id, message) in rows {
        people.get_mut(&id).expect("an event's profile exists").events.insert(message);
    }
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select profile_id, group_id from group_members").fetch_all(pool).await.unwrap();
    for (id, group) in rows {
        people.get_mut(&id).expect("a member's profile exists").groups.insert(group);
    }
    let mut people: Vec<Person> = people.into_values().collect();
    people.sort_by(|a, b| a.ids.keys().cmp(b.ids.keys()));
    people
}

async fn empty(pool: &PgPool) {
    sqlx::raw_sql(
        "truncate profiles, identifiers, events, messages, merges, groups, group_members, aliases, universes;
         alter sequence profile_ids restart",
    )
    .execute(pool)
    .await
    .unwrap();
}

fn runner(seed: u8) -> TestRunner {
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(Default::default(), &[seed; 32]))
}

fn limits(which: usize) -> Limits {
    match which % 3 {
        0 => Limits::from([("user_id", (1, None)), ("anonymous_id", (5, None)), ("crm_id", (5, None))]),
        1 => Limits::from([("user_id", (2, None)), ("anonymous_id", (2, None)), ("crm_id", (1, None))]),
        _ => Limits::from([("user_id", (1, None)), ("anonymous_id", (2, Some(7))), ("crm_id", (1, Some(30)))]),
    }
}

#[tokio::test]
async fn in_whatever_batches_messages_come_people_are_as_a_naive_model_says() {
    let database = Database::fresh().await;
    let mut runner = runner(1);
    let mut merged = 0;
    for case in 0..90 {
        empty(&database.pool).await;
        let limits = limits(case);
        let messages = messages(4, true).new_tree(&mut runner).unwrap().current();
        let mut model = Model::default();
        messages.iter().for_each(|message| model.take(message, &limits));
        let batch = [1, 2, 5, 1_000][case / 3 % 4];
        write(&database.pool, &rules(&limits), &messages, batch).await;
        let (stored, told) = (stored(&database.pool).await, model.into_people());
        assert_eq!(stored, told, "case {case}, batches of {batch}: {messages:#?}");
        merged += count(&database.pool, "select count(*) from merges").await;
    }
    assert!(merged > 25, "{merged} merges are too few to prove anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_else_is_writing_people_are_as_if_one_had_written_alone() {
    let database = Database::fresh().await;
    let mut runner = runner(2);
    // Without limits that bite, who is one person does not depend on the order.
    let limits = Limits::from([("user_id", (99, None)), ("anonymous_id", (99, None)), ("crm_id", (99, None))]);
    let rules = rules(&limits);
    for case in 0..15 {
        empty(&database.pool).await;
        let mut messages = messages(12, false).new_tree(&mut runner).unwrap().current();
        messages.extend(self::messages(12, false).new_tree(&mut runner).unwrap().current().into_iter().map(
            |mut message| {
                message.id.push('b');
                message.at += TimeDelta::milliseconds(1);
                message
            },
        ));
        let mut model = Model::default();
        messages.iter().for_each(|message| model.take(message, &limits));
        let writers = messages
            .chunks(messages.len().div_ceil(4))
            .enumerate()
            .map(|(n, part)| write(&database.pool, &rules, part, if n == 0 { 1_000 } else { n }));
        futures_util::future::join_all(writers).await;
        let strip = |people: Vec<Person>| -> Vec<Person> {
            let without_times = |mut person: Person| {
                person.ids.values_mut().for_each(|added| *added = DateTime::UNIX_EPOCH);
                person
            };
            people.into_iter().map(without_times).collect()
        };
        assert_eq!(strip(stored(&database.pool).await), strip(model.into_people()), "case {case}: {messages:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_else_is_writing_no_limit_is_broken_and_nothing_is_lost() {
    let database = Database::fresh().await;
    let mut runner = runner(3);
    let limits = limits(0);
    let rules = rules(&limits);
    for case in 0..10 {
        empty(&database.pool).await;
        let parts: Vec<Vec<Message>> = (0..4)
            .map(|writer| {
                let mut part = messages(4, true).new_tree(&mut runner).unwrap().current();
                part.iter_mut().for_each(|message| message.id += &format!("-{writer}"));
                part
            })
            .collect();
        let writers = parts.iter().enumerate().map(|(n, part)| write(&database.pool, &rules, part, n + 1));
        futures_util::future::join_all(writers).await;
        let people = stored(&database.pool).await;
        for person in &people {
            assert!(!person.ids.is_empty(), "case {case}: a person without an identifier: {person:?}");
            for (kind, (limit, _)) in &limits {
                let held = person.ids.keys().filter(|(of, _)| of == kind).count();
                assert!(held <= *limit, "case {case}: {held} of {kind}");
            }
        }
        let tracked = parts.iter().flatten().filter(|message| message.call == Call::Track).count();
        assert_eq!(people.iter().map(|person| person.events.len()).sum::<usize>(), tracked, "case {case}");
        assert_eq!(
            count(&database.pool, "select count(*) from merges where from_id in (select id from profiles)").await,
            0
        );
    }
}
