//! What random comparison with the peer's published packages found, kept as cases: a mapping, an event, the peer's output.

use rollcall::{
    js,
    mapping::{Event, compile},
};
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

#[test]
fn a_date_takes_every_flag_width_and_modifier_as_the_peer_does() {
    let event = r#"{"t":"2025-03-04T09:06:05.089Z"}"#;
    for (form, expected) in [
        ("%#b %^b %#B %b %h %5h", "MAR MAR MARCH Mar Mar 00Mar"),
        ("%p %#p %^p %P %#P %^P", "AM am AM am AM AM"),
        ("%d|%-d|%_d|%0d|%5d|%-5d|%_5d", "04|4| 4|04|00004|4|    4"),
        ("%e|%-e|%0e|%3e|%I|%l|%k|%-I|%j|%-j", " 4|4|04|  4|09| 9| 9|9|063|63"),
        ("%N|%3N|%6N|%12N|%L|%-L", "089000000|089|089000|089000000000|089|89"),
        ("%Y|%6Y|%y|%-y|%C|%U|%W|%u|%w|%3w", "2025|002025|25|25|20|09|09|2|2|002"),
        ("%EY|%Od|%-Em|%:z|%z|%Z|%5q|%3%|%s", "2025|04|3|+00:00|+0000|UTC|000th|00%|1741079165"),
        ("%Q|%-5Q|%E|%10|%|%-%|%5\n%Y", "%Q|%-5Q|%E|%10|%|%|%5\n2025"),
        ("%10A|%_10p|%010p|%^a|%#a|%10z", "   Tuesday|        AM|00000000AM|TUE|TUE|00000+0000"),
    ] {
        let mapping = json!({"x": {"@liquid": format!("{{{{ t | date: '{form}' }}}}")}});
        let expected = json!({"x": expected}).to_string();
        agree(&[(mapping, event, expected.as_str())]);
    }
}
