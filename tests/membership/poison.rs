//! No value of a profile makes a query fail: odd numbers, dates that do not exist, deep nesting, large arrays.

use rollcall::{
    audience::{
        ast::{Comparator, Comparison, Literal, Operand, Path, Reducer, Scalar, Segment, Source, Stream},
        conditions::{Condition, Formula},
        interpret,
    },
    evaluate::Settings,
};
use serde_json::{Value as Json, json};

use super::{
    evaluation::{ask, evaluated, event, members, profile},
    store,
};
use crate::support::{histories::now, postgres::Database};

fn poison() -> Vec<Json> {
    let mut deep = json!("core");
    for _ in 0..100 {
        deep = json!([{ "er": deep }]);
    }
    let mut values = vec![
        deep,
        json!((0..20_000).collect::<Vec<_>>()),
        json!("x".repeat(1_000_000)),
        json!({}),
        json!([]),
        json!(null),
    ];
    let texts = [
        "1e400",
        "-1e999",
        "1e-999",
        "1e1000",
        "Infinity",
        "NaN",
        "0x10",
        "1_000",
        "٣",
        " 1",
        "1 ",
        "1\n",
        "--1",
        ".",
        "e5",
        "+",
        "",
        "2023-02-30",
        "2023-02-29",
        "2024-02-29",
        "1900-02-29",
        "2000-02-29",
        "2023-13-01",
        "2023-00-10",
        "0000-01-01",
        "0001-01-01T00:00:00+15:59",
        "9999-12-31T23:59:59.999999999-15:59",
        "2023-01-01T24:00:00Z",
        "2023-01-01T23:60:00Z",
        "2023-01-01T23:59:60Z",
        "2023-01-01T00:00:00+16:00",
        "2023-01-01T00:00:00+01:60",
        "2023-01-01T00:00:00.1234567890Z",
        "2023-01-01t00:00:00z",
        "2023-01-01T00Z",
        "2023-1-1",
        "12023-01-01",
        "2023-01-01\n",
        "infinity",
        "now",
        "today",
        "epoch",
        "\u{feff}",
        "\u{10ffff}",
        "💥",
        "'; drop table events; --",
        "\\",
        "%",
        "${1}",
    ];
    values.extend(texts.map(Json::from));
    values.extend([json!(1e308), json!(-1e308), json!(5e-324), json!(u64::MAX), json!(i64::MIN), json!(true)]);
    values
}

const QUERIES: [&str; 20] = [
    "trait('v') > 0",
    "trait('v') = 1",
    "trait('v') != 1",
    "trait('v') = '1'",
    "trait('v').contains('1', 'x')",
    "trait('v').one_of(1, 'x', 2024-02-29)",
    "trait('v').before_date(2024-01-01)",
    "trait('v').within_last(36500 days)",
    "trait('v.$') > 5",
    "event('E').sum(property('v')) > 0",
    "event('E').avg(property('v')) > 0",
    "event('E').avg(property('v')) = '0.5'",
    "event('E').min(property('v')) < 0",
    "event('E').max(property('v') as string) > 'a'",
    "event('E').mode(property('v') as array, 1).contains('1')",
    "event('E').first(property('v')) = trait('v')",
    "event('E').unique(property('v')).count() >= 2",
    "event('E').where(property('v') >= trait('v')).count() >= 1",
    "event('E').where(property('v').after_date(trait('v'))).count() = 0",
    "event('E').avg(property('v')) >= trait('v')",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_value_makes_a_query_fail_and_each_means_what_the_interpreter_says() {
    let database = Database::fresh().await;
    let values = poison();
    let profiles: Vec<_> = values
        .iter()
        .zip(values.iter().cycle().skip(7))
        .map(|(value, other)| {
            profile(json!({ "v": value }), [event("E", 1, json!({ "v": value })), event("E", 2, json!({ "v": other }))])
        })
        .collect();
    store::insert(&database.pool, &profiles).await;
    let formulas: Vec<_> = QUERIES.iter().map(|query| ask(query)).collect();
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    for (query, members) in QUERIES.iter().zip(members(&evaluation)) {
        let definition = rollcall::audience::parse("a", query).unwrap();
        for (id, profile) in (1..).zip(&profiles) {
            let expected = interpret::holds(&definition, profile, now());
            let value: String = profile.traits["v"].to_string().chars().take(60).collect();
            assert_eq!(members.contains(&id), expected, "{query} for {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_the_end_of_what_postgres_holds_do_not_overflow() {
    let database = Database::fresh().await;
    store::insert(&database.pool, &[profile(json!({}), [event("E", 1, json!({})), event("E", 2, json!({}))])]).await;
    // A JSON number of 131,072 digits; twice it is more than `numeric` holds.
    sqlx::raw_sql(
        "update events set properties = jsonb_build_object('v', ('9e131071')::numeric); \
         update profiles set traits = jsonb_build_object('v', ('9e131071')::numeric)",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let queries = [
        "event('E').sum(property('v')) > 0",
        "event('E').avg(property('v')) > 0",
        "event('E').avg(property('v')) >= trait('v')",
        "event('E').max(property('v')) > 5",
        "trait('v') > 5",
    ];
    let formulas = queries.map(ask);
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    // Too large a number takes no part in arithmetic; it compares all the same.
    assert_eq!(members(&evaluation), [vec![], vec![], vec![], vec![1], vec![1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_with_a_character_that_no_value_can_have_fails_alone() {
    let database = Database::fresh().await;
    store::insert(&database.pool, &[profile(json!({ "plan": "pro" }), [])]).await;
    // The parser refuses it; a tree made otherwise must do no harm either.
    let with_nul = |left, text: &str| {
        let comparator = Comparator::Equals(Operand::Literal(Literal::Text(text.into())));
        Formula::Condition(Condition(Comparison { left, comparator }))
    };
    let path = || Path(vec![Segment::Key("plan".into())]);
    let nobody_s = Stream { source: Source::Event("a\0".into()), filters: Vec::new() };
    let formulas = [
        with_nul(Scalar::Trait(path()), "p\0"),
        with_nul(Scalar::Reduce(nobody_s.into(), Reducer::Count), "0"),
        ask("trait('plan') = 'pro'"),
    ];
    let evaluation = evaluated(&database.pool, now(), &formulas, &Settings::default()).await;
    let outcomes: Vec<_> = evaluation
        .audiences
        .iter()
        .map(|(_, members)| members.as_ref().map(|members| members.len()).map_err(|error| error.kind))
        .collect();
    assert_eq!(outcomes[0], Err(rollcall::Kind::Definition));
    assert_eq!(outcomes[1], Ok(1), "nobody has such an event");
    assert_eq!(outcomes[2], Ok(1));
}
