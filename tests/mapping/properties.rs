//! What holds for any input: nothing panics, triggers print as they parse, murmur2 is Java's, JSON is JavaScript's.

use proptest::prelude::*;
use rollcall::{
    js::{self, Json, coerce},
    mapping::{Event, Known, Liquid, Outcome, Reads, Trigger, compile, murmur2, partition_for_key},
};
use serde_json::{Value, json};

use super::compile as mapping;

/// Any JSON value, and now and then one that means something to a mapping.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "$.a.b[0]",
            "{{a}} {{{b}}}",
            "left",
            "encode",
            "upper",
            ".",
            "1",
            "0x10",
            " 7 ",
            "true",
            ""
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let keys = prop::sample::select(vec![
            "a",
            "b",
            "traits",
            "10",
            "@path",
            "@template",
            "@if",
            "@case",
            "@replace",
            "@arrayPath",
            "@flatten",
            "@json",
            "@merge",
            "@transform",
            "@literal",
            "@liquid",
            "@excludeWhenNull",
            "_metadata",
            "value",
            "exists",
            "blank",
            "then",
            "else",
            "operator",
            "pattern",
            "replacement",
            "objects",
            "direction",
            "mode",
            "apply",
            "mapping",
            "separator",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..4)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Any JSON value with any texts and keys.
fn wild_json() -> impl Strategy<Value = Value> {
    let number =
        any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number));
    let text = "([a-z\"\\\\é😀\n,:{}]|\\PC){0,20}";
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        number,
        text.prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((text, inner), 0..5).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Triggers as people write them, good and bad.
fn any_trigger() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "type",
        "event",
        "name",
        "userId",
        "traits.vip",
        "properties.a\\ b",
        "context.app.build",
        "traits.tags.0",
        "$.a.b",
        "traits.\\9",
        "length(traits.x)",
        "lowercase(event)",
        "traits.and",
    ]);
    let value = prop::sample::select(vec![
        "\"x\"",
        "'it\"s'",
        "\"a\\\"b\\\"\"",
        "42",
        "-1.5",
        "1e300",
        "1e-7",
        "true",
        "null",
        "gold",
        "traits.b",
        "\"\"",
    ]);
    let op = prop::sample::select(vec![" = ", "!=", " < ", ">=", " in "]);
    let condition = prop_oneof![
        (field.clone(), op, value.clone()).prop_map(|(field, op, value)| format!("{field}{op}{value}")),
        (field.clone(), value.clone()).prop_map(|(field, value)| format!("contains({field}, {value})")),
        (field.clone(), value.clone()).prop_map(|(field, value)| format!("!match({field}, {value})")),
        (field, value.clone(), value).prop_map(|(field, a, b)| format!("{field} in [{a}, {b}]")),
    ];
    condition.prop_recursive(4, 16, 3, |inner| {
        let join = prop::sample::select(vec![" and ", " or ", " ", " and and ", ","]);
        prop_oneof![
            (inner.clone(), join, inner.clone()).prop_map(|(a, join, b)| format!("{a}{join}{b}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.prop_map(|inner| format!("!({inner})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn coercion_never_panics_and_gives_only_finite_numbers(value in any_json()) {
        let value = Json::from(&value);
        coerce::text(&value);
        coerce::boolean(&value);
        prop_assert!(coerce::number(&value).is_none_or(f64::is_finite));
        prop_assert!(coerce::integer(&value).is_none_or(|number| number.fract() == 0.0));
    }

    #[test]
    fn compiling_and_applying_any_mapping_never_panics(fields in any_json(), event in any_json()) {
        if let Ok(plan) = compile(&fields) {
            let _ = plan.output(&Event::of_value(&event));
        }
        let fields = json!({"topic": fields.clone(), "payload": {"x": fields.clone()}, "headers": fields.clone(), "partition": fields});
        if let Ok(mapping) = mapping(fields) {
            let _ = mapping.apply(&Event::of_value(&event));
        }
    }

    #[test]
    fn parsing_any_trigger_never_panics_and_its_problems_lie_in_the_text(text in "[ -~\\\\é\n]{0,60}") {
        if let Err(problems) = Trigger::parse(&text) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(text.get(problem.span.clone()).is_some(), "{:?} of {:?}", problem.span, text);
            }
        }
    }

    #[test]
    fn a_printed_trigger_parses_to_the_same_trigger(text in any_trigger(), event in any_json()) {
        if let Ok(trigger) = Trigger::parse(&text) {
            let printed = trigger.to_string();
            let again = Trigger::parse(&printed);
            prop_assert_eq!(again.as_ref(), Ok(&trigger), "{} printed as {}", text, printed);
            trigger.matches(&Event::of_value(&event));
        }
    }

    #[test]
    fn any_liquid_template_renders_or_fails_without_a_panic(
        text in "(\\{\\{ ?[a-z0-9.|: \"'\\[\\]()-]{0,20} ?\\}\\}|\\{% ?[a-z =|:\"]{0,20} ?%\\}|[ -~é]){0,8}",
        event in any_json(),
    ) {
        if let Ok(liquid) = Liquid::parse(&text) {
            let _ = liquid.render(&Json::from(&event));
        }
    }

    #[test]
    fn the_json_text_of_a_value_reads_back_as_the_value(value in any_json()) {
        let text = js::json_text(&Json::from(&value));
        let again: Value = serde_json::from_str(&text).expect("JSON");
        // -0 is written as 0, and 2e20 without a point: equal as JavaScript's numbers, not as serde's.
        prop_assert_eq!(js::json_text(&Json::from(&again)), text);
    }

    #[test]
    fn an_event_parsed_from_its_text_is_the_event(value in any_json()) {
        let text = value.to_string();
        let parsed = Event::parse(&text).expect("JSON");
        let (mut from_text, mut from_value) = (String::new(), String::new());
        parsed.write_json(&mut from_text);
        Event::of_value(&value).write_json(&mut from_value);
        prop_assert_eq!(from_text, from_value);
    }

    #[test]
    fn an_event_of_ours_is_parsed_as_any_other(value in wild_json()) {
        let text = js::json_text(&Json::from(&value));
        let (ours, foreign) = (Event::known(&text, Known::default()), Event::parse(&text).expect("JSON"));
        prop_assert_eq!(ours.tree(), foreign.tree());
    }

    #[test]
    fn an_event_that_is_parsed_only_as_far_as_it_is_read_gives_the_same_record(
        fields in any_json(), traits in any_json(), context in any_json(), extra in any_json(), located in any::<bool>(),
    ) {
        let event = json!({
            "context": {"a": context, "b": 1}, "integrations": {"All": false}, "extra": extra, "a": context,
            "traits": {"b": traits, "\"a": 1}, "type": "identify", "userId": "u1",
        });
        let json_text = |value: &Value| js::json_text(&Json::from(value));
        let (text, traits) = (json_text(&event), json_text(&event["traits"]));
        let context = Json::read(&json_text(&event["context"]));
        let known = Known {
            kind: Some("identify"),
            user_id: Some("u1"),
            traits: located.then_some(traits.as_str()),
            context: context.as_ref().filter(|_| located),
            ..Known::default()
        };
        let payload = json!({"x": fields, "y": {"@path": "$.traits.b.a"}, "z": {"@path": "$.context.a"}, "t": {"@path": "$.traits"}});
        if let Ok(mapping) = mapping(json!({"topic": "t", "payload": payload, "headers": {"h": fields}})) {
            let foreign = Event::parse(&text).expect("JSON");
            prop_assert_eq!(mapping.apply(&Event::known(&text, known)), mapping.apply(&foreign));
            // Parsed once for several mappings, it gives each of them what it gives it alone.
            let other = super::compile(json!({"topic": {"@path": "$.extra.a"}, "payload": {"@path": "$.context"}, "key": {"@path": "$.a.b"}}));
            let several = [mapping, other.expect("a valid mapping")];
            let reads = Reads::of(&several);
            let shared = Event::known(&text, known).read_by(&reads);
            for mapping in &several {
                prop_assert_eq!(mapping.apply(&shared), mapping.apply(&foreign));
            }
        }
    }

    #[test]
    fn any_text_is_read_as_serde_json_reads_it(
        text in r#"[\[\]{},: "\\a0-9eE.+\-\nunltrfsé\t]{0,24}|"(\\[a-z"/\\]|\\u[dD]8[0-9]{2}|[ -~é]){0,6}"|-?[0-9]{1,22}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?"#,
    ) {
        let expected: Result<Json<'_>, _> = serde_json::from_str(&text);
        match (Event::parse(&text), expected) {
            (Ok(event), Ok(expected)) => prop_assert_eq!(event.tree(), &expected),
            (event, expected) => prop_assert_eq!(event.is_ok(), expected.is_ok()),
        }
    }

    #[test]
    fn a_partition_is_one_of_the_topics(key in prop::collection::vec(any::<u8>(), 0..64), count in 1..10_000i32) {
        prop_assert!((0..count).contains(&partition_for_key(&key, count)));
    }
}

#[test]
fn parentheses_nest_but_do_not_stand_twice() {
    let (a, b, c) = ("userId = 1", "event = \"b\"", "traits.c = 3");
    for text in [
        format!("({a} or ({b} and {c}))"),
        format!("(({a}) or ({b}))"),
        format!("({a})"),
        format!("!(!({a}))"),
        format!("(!({a}))"),
        format!("(({a}) and {b})"),
        format!("({a} and ({b}))"),
    ] {
        assert!(Trigger::parse(&text).is_ok(), "{text}");
    }
    let doubled = |text: &str| -> Vec<String> {
        let problems = Trigger::parse(text).err().unwrap_or_default();
        problems.into_iter().map(|problem| format!("{}: {}", &text[problem.span], problem.message)).collect()
    };
    for (before, after) in [("", ""), ("!", ""), ("event = 1 or ", ""), ("( event = 1 and ", " )")] {
        let text = format!("{before}( ({a}) ){after}");
        assert_eq!(doubled(&text), [format!("( ({a}) ): these parentheses stand twice")], "{text}");
    }
    assert_eq!(doubled(&format!("((({a})))")).len(), 2);
}

#[test]
fn murmur2_is_javas_for_every_key_of_the_table() {
    // Written by Java's own `org.apache.kafka.common.utils.Utils.murmur2`: hex of the key, hash, partition of 12.
    let table = include_str!("../data/murmur2.csv");
    let mut rows = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let [hex, hash, partition] = line.split(',').collect::<Vec<_>>().try_into().expect("three columns");
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        let key: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        assert_eq!(
            (murmur2(&key).to_string(), partition_for_key(&key, 12).to_string()),
            (hash.into(), partition.into()),
            "{hex}"
        );
        rows += 1;
    }
    assert_eq!(rows, 2000);
}

#[test]
fn numbers_are_written_as_javascript_writes_them() {
    let written = |text: &str| js::json_text(&serde_json::from_str::<Json<'_>>(text).expect("JSON"));
    for (read, expected) in [
        ("1.0", "1"),
        ("-0", "0"),
        ("1e21", "1e+21"),
        ("1e20", "100000000000000000000"),
        ("1e-7", "1e-7"),
        ("0.000001", "0.000001"),
        ("5e-324", "5e-324"),
        ("\"\\u2028/\\u0001\"", "\"\u{2028}/\\u0001\""),
        ("{\"b\":1,\"10\":2,\"9\":3,\"01\":4,\"b\":5}", "{\"9\":3,\"10\":2,\"b\":5,\"01\":4}"),
    ] {
        assert_eq!(written(read), expected);
    }
}

#[test]
fn an_unknown_outcome_is_never_a_loss() {
    // Whatever the event, a mapping answers with one of three outcomes, each of which the delivery counts.
    let mapping = mapping(json!({"topic": "t", "payload": {"@path": "$."}})).expect("valid");
    for event in [json!({"type": "identify"}), json!({"type": "alias"}), json!([]), json!(null)] {
        let outcome = mapping.apply(&Event::of_value(&event));
        let sent = matches!(outcome, Outcome::Record(_));
        assert_eq!(sent, event["type"] == "identify");
    }
}
