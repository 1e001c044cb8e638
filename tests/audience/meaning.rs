//! What definitions mean, edge by edge, as `docs/audience-language.md` says.

use chrono::{DateTime, Utc};
use rollcall::audience::{
    interpret::{Event, Profile, holds},
    parse,
    value::{Number, Value, instant_of, number_of, plain},
};
use serde_json::{Value as Json, json};

pub fn at(text: &str) -> DateTime<Utc> {
    instant_of(text).unwrap()
}

pub const NOW: &str = "2024-03-10T12:00:00Z";

pub fn event(name: &str, when: &str, properties: Json) -> Event {
    Event {
        name: name.into(),
        occurred_at: at(when),
        message_id: when.into(),
        source_id: Some("web".into()),
        properties,
        context: json!({"page": {"url": "/docs"}}),
    }
}

pub fn profile(traits: Json, events: Vec<Event>) -> Profile {
    Profile { traits, events, memberships: [("vip".to_owned(), true)].into() }
}

fn is(text: &str, profile: &Profile) -> bool {
    holds(&parse("it", text).unwrap_or_else(|error| panic!("{text}: {error:?}")), profile, at(NOW))
}

#[track_caller]
fn hold(texts: &[&str], profile: &Profile) {
    for text in texts {
        assert!(is(text, profile), "{text} should hold");
    }
}

#[track_caller]
fn fail(texts: &[&str], profile: &Profile) {
    for text in texts {
        assert!(!is(text, profile), "{text} should not hold");
    }
}

#[test]
fn a_missing_left_side_is_false_but_for_negations() {
    let nobody = profile(json!({"gone": null}), vec![]);
    for name in ["gone", "never", "never.deeper", "gone.deeper"] {
        for comparator in [
            "= 'x'",
            "!= 'x'",
            "> 1",
            ">= 1",
            "< 1",
            "<= 1",
            ".exists()",
            ".contains('')",
            ".starts_with('')",
            ".ends_with('')",
            ".one_of('x')",
            ".before_date(2999-01-01)",
            ".after_date(1970-01-01)",
            ".within_last(7 days)",
            ".within_next(7 days)",
            ".before_last(1 day)",
            ".after_next(1 day)",
        ] {
            assert!(!is(&format!("trait('{name}') {comparator}"), &nobody), "{comparator}");
        }
        for comparator in [".absent()", ".omits('x')", ".none_of('x')"] {
            assert!(is(&format!("trait('{name}'){comparator}"), &nobody), "{comparator}");
        }
        assert!(is(&format!("NOT trait('{name}') = 'x'"), &nobody));
    }
}

#[test]
fn a_missing_right_side_is_false_even_for_negations() {
    let person = profile(json!({"a": "x", "list": ["x"], "object": {}}), vec![]);
    for right in ["trait('b')", "trait('list')", "trait('object')", "event('E').avg(property('p'))"] {
        for comparator in [
            "equals",
            "differs",
            "greater_than",
            "at_most",
            "contains",
            "omits",
            "starts_with",
            "one_of",
            "none_of",
            "before_date",
        ] {
            assert!(!is(&format!("trait('a').{comparator}({right})"), &person), "{comparator} {right}");
        }
    }
    // One of several that is missing does not matter to the positive form.
    hold(&["trait('a').one_of(trait('b'), 'x')", "NOT trait('a').none_of(trait('b'), 'y')"], &person);
}

#[test]
fn the_type_of_the_right_side_decides() {
    let person = profile(
        json!({"n": 5, "text": "5.0", "yes": true, "word": "true", "small": 0.0000001, "big": 1e17, "p": "pro"}),
        vec![],
    );
    hold(
        &[
            "trait('n') = 5",
            "trait('n') = '5'",
            "trait('n') != '5.0'",
            "trait('text') = 5",
            "trait('text') = '5.0'",
            "trait('text') != '5'",
            "trait('yes') = 'true'",
            "trait('word') = 'true'",
            "trait('yes') = trait('word')",
            "trait('word') = trait('yes')",
            "trait('text') = trait('n')",
            "trait('n') != trait('text')",
            "trait('small') = .0000001",
            "trait('small') = '0.0000001'",
            "trait('big') = '100000000000000000'",
            "trait('p') != 5",
            "trait('n') > '10'",
            "trait('n') < 10",
            "trait('p') > 'Pro'",
            "trait('n').contains(5)",
            "trait('vip') = 'true'",
        ],
        &person,
    );
    fail(&["trait('yes') = 1", "trait('p') > 5", "trait('p') < 5", "trait('p') = 'Pro'", "trait('vip') = 1"], &person);
}

#[test]
fn an_array_is_looked_into_by_equality_and_search_alone() {
    let person = profile(
        json!({"tags": ["a", 5, true, null, ["z"], {"k": "v"}], "none": [], "o": {"k": {"x": 1}}, "items": [{"s": "a"}, {"s": "b"}, {}]}),
        vec![],
    );
    hold(
        &[
            "trait('tags') = 'a'",
            "trait('tags') = 5",
            "trait('tags').one_of('q', 'true')",
            "trait('tags').contains('a')",
            "trait('tags') != 'b'",
            "trait('tags.$') = 'a'",
            "trait('tags.$') > 4",
            "trait('tags.$') != 'a'",
            "trait('items.$.s') = 'b'",
            "trait('items.$.s').none_of('c')",
            "trait('none').exists()",
            "trait('none').omits('a')",
            "trait('none.$').absent()",
            "trait('o').exists()",
            "trait('o') != 'x'",
            "trait('o.k.x') = 1",
        ],
        &person,
    );
    fail(
        &[
            "trait('tags') != 'a'",
            "trait('tags') = 'z'",
            "trait('tags') > 4",
            "trait('tags').within_last(7 days)",
            "trait('tags').omits('a')",
            "trait('o') = 'x'",
            "trait('o').contains('')",
            "trait('none').contains('')",
            "trait('items.$.s').none_of('a')",
            "trait('items.0.s').exists()",
            "trait('items.s').exists()",
        ],
        &person,
    );
}

#[test]
fn windows_have_one_open_edge() {
    let person = |when: &str| profile(json!({}), vec![event("E", when, json!({}))]);
    let edges = [
        ("within(7 days)", "2024-03-03T12:00:00Z", false),
        ("within(7 days)", "2024-03-03T12:00:00.000001Z", true),
        ("within(7 days)", NOW, true),
        ("within(7 days)", "2024-03-10T12:00:00.000001Z", false),
        ("between(1 day, 2 days)", "2024-03-09T12:00:00Z", true),
        ("between(1 day, 2 days)", "2024-03-09T12:00:00.000001Z", false),
        ("between(1 day, 2 days)", "2024-03-08T12:00:00Z", false),
        ("between(1 day, 2 days)", "2024-03-08T12:00:00.000001Z", true),
    ];
    for (window, when, inside) in edges {
        assert_eq!(is(&format!("event('E').{window}.count() = 1"), &person(when)), inside, "{window} {when}");
    }
    // Without a window too, the future does not exist.
    assert!(is("event('E').count() = 0", &person("2024-03-10T12:00:00.000001Z")));
}

#[test]
fn a_funnel_looks_forward_from_each_parent() {
    let abandoned = "event('Added').where(NOT event('Ordered').within(parent: 1 day).count() >= 1).count() >= 1";
    let events = |ordered: &str| {
        profile(
            json!({}),
            vec![
                event("Added", "2024-03-01T12:00:00Z", json!({"sku": "a"})),
                event("Ordered", ordered, json!({"sku": "a"})),
            ],
        )
    };
    for (ordered, in_time) in [
        ("2024-03-01T12:00:00Z", false),
        ("2024-03-01T12:00:00.000001Z", true),
        ("2024-03-02T12:00:00Z", true),
        ("2024-03-02T12:00:00.000001Z", false),
    ] {
        assert_eq!(is(abandoned, &events(ordered)), !in_time, "{ordered}");
    }
    let same = "event('Added').where(event('Ordered').where(property('sku') = property(parent: 'sku')).count() >= 1).count() >= 1";
    assert!(is(same, &events("2024-03-05")));
    let mut again = events("2024-03-01T13:00:00Z");
    assert!(!is(abandoned, &again));
    again.events.push(event("Added", "2024-03-01T14:00:00Z", json!({})));
    assert!(is(abandoned, &again), "added, ordered, added again");
}

#[test]
fn dates_of_values_are_compared_as_instants() {
    let person = |value: &str| profile(json!({"d": value}), vec![]);
    for (comparator, value, holds) in [
        ("within_last(1 day)", "2024-03-09T12:00:00Z", true),
        ("within_last(1 day)", "2024-03-09T11:59:59.999999Z", false),
        ("within_last(1 day)", NOW, true),
        ("within_last(1 day)", "2024-03-10T12:00:00.000001Z", false),
        ("within_next(1 day)", NOW, true),
        ("within_next(1 day)", "2024-03-11T12:00:00Z", true),
        ("within_next(1 day)", "2024-03-11T12:00:00.000001Z", false),
        ("before_last(1 day)", "2024-03-09T12:00:00Z", true),
        ("before_last(1 day)", "2024-03-09T12:00:00.000001Z", false),
        ("after_next(1 day)", "2024-03-11T12:00:00Z", true),
        ("after_next(1 day)", "2024-03-11T11:59:59.999999Z", false),
        ("before_date(2024-03-10)", "2024-03-09", true),
        ("before_date(2024-03-10)", "2024-03-10", false),
        ("after_date('2024-03-10T00:00:00+01:00')", "2024-03-10", true),
        ("after_date(2024-03-10)", "2024-03-10T00:30:00+01:00", false),
        ("before_date(2999-01-01)", "soon", false),
        ("equals(2024-03-10)", "2024-03-10T01:00:00+0100", true),
        ("differs(2024-03-10)", "soon", true),
        ("greater_than(2024-03-09)", "2024-03-10 00:00", true),
    ] {
        assert_eq!(is(&format!("trait('d').{comparator}"), &person(value)), holds, "{comparator} {value}");
    }
}

#[test]
fn reducers_read_what_they_can() {
    let values =
        [json!(10), json!("2.5"), json!("ten"), json!(null), json!(true), json!([1, 2]), json!({"a": 1}), json!(9)];
    let days = values
        .into_iter()
        .enumerate()
        .map(|(n, value)| event("E", &format!("2024-03-0{}", n + 1), json!({"v": value})))
        .collect();
    let person = profile(json!({}), days);
    hold(
        &[
            "event('E').count() = 8",
            "event('E').sum(property('v')) = 21.5",
            "event('E').avg(property('v')) > 7.1666666666",
            "event('E').avg(property('v')) < 7.1666666667",
            "event('E').avg(property('v')) = '7.166666666667'",
            "event('E').min(property('v')) = 2.5",
            "event('E').max(property('v')) = 10",
            "event('E').max(property('v') as string) = 'true'",
            "event('E').min(property('v') as string) = '10'",
            "event('E').first(property('v')) = 10",
            "event('E').last(property('v')) = 9",
            "event('E').unique(property('v')).count() = 5",
            "event('E').mode(property('v'), 1) = '10'",
            "event('E').sum(property('v.$')) = 3",
            "event('E').mode(property('v.$') as array, 1) = '1,2'",
            "event('E').mode(property('v') as array, 1) = '1,2'",
            "event('E').last(context('timestamp')) = 2024-03-08",
            "event('E').where(context('page.url') = '/docs').count() = 8",
            "event('E').sources({exclude: 'web'}).count() = 0",
            "event('E').sources({exclude: 'ios'}).count() = 8",
            "event('F').count() = 0",
            "event('F').sum(property('v')) = 0",
        ],
        &person,
    );
    fail(
        &[
            "event('E').mode(property('v'), 2).exists()",
            "event('F').avg(property('v')).exists()",
            "event('F').first(property('v')).exists()",
        ],
        &person,
    );
}

#[test]
fn ties_are_decided() {
    let same = |id: &str, v: &str| Event { message_id: id.into(), ..event("E", "2024-03-01", json!({"v": v})) };
    let person = profile(json!({}), vec![same("b", "2"), same("a", "3"), same("c", "1")]);
    hold(
        &[
            "event('E').first(property('v')) = '3'",
            "event('E').last(property('v')) = '1'",
            "event('E').mode(property('v'), 1) = '1'",
        ],
        &person,
    );
}

#[test]
fn numbers_and_dates_of_text_are_exact() {
    let number = |text| number_of(text).map(|number| plain(&number));
    for (text, expected) in [
        ("5", "5"),
        ("+5", "5"),
        ("-05.50", "-5.5"),
        ("5.", "5"),
        (".5", "0.5"),
        ("-.5e1", "-5"),
        ("1E-3", "0.001"),
        ("-0", "0"),
    ] {
        assert_eq!(number(text).as_deref(), Some(expected), "{text}");
    }
    for text in ["", ".", "5 ", " 5", "1e", "1e1000", "0x1", "NaN", "inf", "1_000", "٣", "--1", &"1".repeat(65)] {
        assert_eq!(number(text), None, "{text}");
    }
    for (text, expected) in [
        ("2024-02-29", "2024-02-29T00:00:00.000000Z"),
        ("2024-02-29T23:59", "2024-02-29T23:59:00.000000Z"),
        ("2024-02-29 23:59:59.1234569", "2024-02-29T23:59:59.123456Z"),
        ("2024-02-29T23:59:59-07:30", "2024-03-01T07:29:59.000000Z"),
        ("0001-01-01T00:00:00+15", "0000-12-31T09:00:00.000000Z"),
    ] {
        assert_eq!(
            Value::Text(text.into()).instant().map(|at| Value::Instant(at).text().unwrap()).as_deref(),
            Some(expected)
        );
    }
    for text in [
        "2023-02-29",
        "0000-01-01",
        "2024-1-1",
        "2024-01-01T24:00",
        "2024-01-01T00:60",
        "2024-01-01T00:00:60",
        "2024-01-01T",
        "2024-01-01T12",
        "2024-01-01Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00+16:00",
        "2024-01-01T00:00+01:60",
        "2024-01-01T00:00z",
        "20240101",
        " 2024-01-01",
        "2024-01-01T00:00:00.1234567891",
    ] {
        assert_eq!(instant_of(text), None, "{text}");
    }
    assert_eq!(Number::average((-5).into(), 3).text(), "-1.666666666667");
    assert_eq!(Number::average(5.into(), 2).text(), "2.5");
    assert_eq!(Number::average(number_of("1e-12").unwrap(), 2).text(), "0.000000000001", "half goes away from zero");
    assert_eq!(Number::average(number_of("-1e-13").unwrap(), 3).text(), "0");
    let long = Number::average(number_of("1e200").unwrap(), 3).text();
    assert_eq!(long, format!("{}.{}", "3".repeat(200), "3".repeat(12)), "all digits are exact");
}
