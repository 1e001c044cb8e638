//! What random comparison with the peer's published packages found, kept as cases: a mapping, an event, the peer's output.

use rollcall::mapping::{Event, compile, js};
use serde_json::{Value, json};

fn output(mapping: &Value, event: &str) -> String {
    let plan = compile(mapping).expect("a valid mapping");
    let event = Event::parse(event).expect("JSON");
    plan.output(&event).map_or_else(|fault| format!("fault: {fault}"), |output| js::json_text(&output))
}

fn agree(cases: &[(Value, &str, &str)]) {
    for (mapping, event, expected) in cases {
        assert_eq!(output(mapping, event), *expected, "{mapping} over {event}");
    }
}

#[test]
fn a_transform_inside_another_or_inside_an_array_reads_what_they_put_in_its_place() {
    let inner = json!({"@transform": {"apply": {"b": {"@path": "$.sku"}}, "mapping": {"c": {"@path": "$.b"}}}});
    let items = r#"{"items":[{"sku":"A"},{"sku":"B"}],"one":{"sku":"C"}}"#;
    agree(&[
        (json!({"x": {"@arrayPath": ["$.items", {"y": inner}]}}), items, r#"{"x":[{"y":{"c":"A"}},{"y":{"c":"B"}}]}"#),
        (json!({"x": {"@transform": {"apply": {"@path": "$.one"}, "mapping": inner}}}), items, r#"{"x":{"c":"C"}}"#),
    ]);
}

#[test]
fn a_transform_of_nothing_reads_an_empty_object() {
    let nothing = json!({"@path": "$.missing"});
    let inner = json!({"@transform": {"apply": {"b": "kept"}, "mapping": {"c": {"@path": "$.b"}}}});
    let outer = json!({"x": {"@transform": {"apply": nothing, "mapping": inner}}});
    agree(&[(outer, "{}", r#"{"x":{"c":"kept"}}"#)]);
    let of_null = json!({"x": {"@transform": {"apply": {"@path": "$.n"}, "mapping": inner}}});
    assert_eq!(output(&of_null, r#"{"n":null}"#), "fault: @transform: data must be an object, got null");
}

#[test]
fn a_text_in_a_merge_gives_its_characters_under_their_utf16_positions() {
    let merge = json!({"x": {"@merge": {"direction": "right", "objects": [{"@path": "$.t"}]}}});
    agree(&[(merge, r#"{"t":"é!"}"#, r#"{"x":{"0":"é","1":"!"}}"#)]);
}
