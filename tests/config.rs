//! `rollcall.yaml` as text: variables, limits, and agreement of schema, types and delivery.

use std::io;

use rollcall::{
    Error,
    config::{self, Config, Surroundings},
    kafka::settings::Settings,
};
use serde_json::{Value, json};

/// Reads `text` where the environment has `NAME=value` and `EMPTY=`, and a file `secret` is there.
fn parse(text: &str) -> Result<Config, Error> {
    let variable = |name: &str| match name {
        "NAME" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        "YES" => Some("true".to_owned()),
        "YAML" => Some("x\nspace_id: injected".to_owned()),
        _ => None,
    };
    let file = |path: &str| match path {
        "secret" => Ok("hush\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    config::parse("rollcall.yaml", text, &Surroundings { variable: &variable, file: &file })
}

fn problems(text: &str) -> Vec<String> {
    let error = parse(text).expect_err(text);
    error.problems.map(|at| at.problems.into_iter().map(|problem| problem.message).collect()).unwrap_or_default()
}

#[test]
fn a_variable_stands_for_the_environment_a_default_or_a_file() {
    for (text, expected) in [
        ("${NAME}", "value"),
        ("a${NAME}b${NAME}", "avaluebvalue"),
        ("${MISSING:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${file:secret}", "hush"),
        ("$${NAME}", "${NAME}"),
        ("$.userId $NAME", "$.userId $NAME"),
        ("${YAML}", "x\nspace_id: injected"),
    ] {
        let config = parse(&format!("space_id: '{text}'")).expect(text);
        assert_eq!(config.space_id.as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn a_variable_that_is_not_there_is_told_with_all_the_others() {
    let told = problems("space_id: a ${MISSING} b\ndatabase: ${file:gone}\nhttp: {token: '${', listen: '${1x}'}");
    assert_eq!(
        told,
        [
            "the environment has no MISSING",
            "gone cannot be read: entity not found",
            "`${` is not closed",
            "this names no variable",
        ]
    );
}

#[test]
fn a_variable_may_stand_for_a_boolean() {
    let text =
        |value| format!("destinations: {{k: {{settings: {{brokers: 'b:1', ssl_enabled: {value}}}, mappings: []}}}}");
    let config = parse(&text("\"${YES}\"")).unwrap();
    assert_eq!(config.destinations["k"].settings["ssl_enabled"], true);
    assert_eq!(problems(&text("'true'")).len(), 1, "text that is written as text stays text");
}

/// Names, definitions and mappings are shown by `plan`, in logs and on topics.
#[test]
fn a_variable_stands_in_settings_and_secrets_and_is_refused_with_its_place_wherever_people_read() {
    let refused = [
        "audiences: [{name: 'a ${NAME}', query: 'true'}]",
        "audiences: [{name: a, key: '${NAME}', query: 'true'}]",
        "audiences: [{name: a, description: '${NAME}', query: 'true'}]",
        "audiences: [{name: a, query: \"trait('x') = '${NAME}'\"}]",
        "audiences: [{name: a, sql: \"select '${NAME:-x}'\"}]",
        "audiences: [{name: a, query: 'true', schedule: '${NAME}'}]",
        "audiences: [{name: a, query: 'true', schedule: {every: 1h, timezone: '${NAME}'}}]",
        "audiences: [{name: a, query: 'true', destinations: ['${NAME}']}]",
        "audiences: [{name: a, query: 'true', id_sync: [{id: email, map_to: '${NAME}'}]}]",
        "audiences: [{name: a, query: 'true', on_delete: '${NAME}'}]",
        "traits: [{name: a, queries: {b: '${NAME}'}}]",
        "traits: [{name: a, query: 'true', include_traits: ['${file:secret}']}]",
        "sources: {s: {query: 'select ${NAME}', profiles: {user_id: id}}}",
        "sources: {s: {query: 'select 1', profiles: {user_id: '${NAME}'}}}",
        "streams: {s: {settings: {brokers: 'b:1'}, topics: ['${NAME}']}}",
        "tracking: {write_keys: [{name: '${NAME}', key: '0123456789'}]}",
        "identity: {identifiers: [{type: email, blocked: ['${NAME}']}]}",
        "store: {promote: {e: ['${NAME}']}}",
        "destinations: {k: {settings: {brokers: 'b:1'}, cursor_topic: '${NAME}', mappings: []}}",
        "destinations: {k: {settings: {brokers: 'b:1'}, mappings: [{name: '${NAME}', mapping: {topic: t}}]}}",
        "destinations: {k: {settings: {brokers: 'b:1'}, mappings: [{name: m, subscribe: 'type = \"${NAME}\"', mapping: {topic: t}}]}}",
        "destinations: {k: {settings: {brokers: 'b:1'}, mappings: [{name: m, mapping: {topic: t, payload: {a: [{b: '${NAME}'}]}}}]}}",
    ];
    for text in refused {
        let error = parse(text).expect_err(text);
        let at = error.problems.expect("with places");
        let [problem] = &at.problems[..] else { panic!("{text}: {:?}", at.problems) };
        assert_eq!(problem.message, "a variable cannot stand here", "{text}");
        assert!(at.text[problem.span.clone()].starts_with("${"), "{text}: {problem:?}");
        let literal = text.replace("${", "$${");
        let told = parse(&literal).err().map(|error| format!("{:?}", error.problems)).unwrap_or_default();
        assert!(!told.contains("cannot stand here"), "{literal}: {told}");
    }
    let settings = "database: '${NAME}'
space_id: '${NAME}'
http: {enabled: '${YES}', token: '0123456789-${NAME}', listen: '${LISTEN:-127.0.0.1:1}'}
tracking: {listen: '${LISTEN:-127.0.0.1:1}', public_url: 'https://${NAME}', write_keys: [{name: web, key: '0123456789-${NAME}'}]}
sources: {s: {database: '${NAME}', query: select 1, profiles: {user_id: id}, enabled: '${YES}'}}
streams: {s: {settings: {brokers: 'b:1', password: '${NAME}', properties: {x: '${NAME}'}}, topics: [t]}}
retention: {runs: '${DAYS:-90d}'}
destinations: {k: {settings: {brokers: 'b:1', password: '${NAME}', ssl_enabled: '${YES}'}, rate_limit: '${RATE:-5}', mappings: []}}
audiences: [{name: a, query: 'true', enabled: '${YES}'}]";
    let config = parse(settings).unwrap_or_else(|error| panic!("{:?}", error.problems));
    assert_eq!(config.streams["s"].settings["properties"]["x"], "value");
    assert_eq!(config.destinations["k"].rate_limit.map(u32::from), Some(5));
}

#[test]
fn a_mapping_copied_from_segment_stands_as_it_is() {
    let mapping = json!({
        "topic": "audiences", "payload": {"@path": "$."}, "key": {"@template": "{{userId}}"},
        "headers": {"a": {"@if": {"exists": {"@path": "$.x"}, "then": "y", "else": null}}}, "partition": 3
    });
    let pretty = serde_json::to_string_pretty(&mapping).unwrap().replace('\n', "\n        ");
    for form in [mapping.to_string(), pretty] {
        let text = format!(
            "destinations:\n  k:\n    settings: {{brokers: 'b:1'}}\n    mappings:\n      - name: m\n        mapping: {form}\n"
        );
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}: {:?}\n{text}", error.problems));
        assert_eq!(Value::Object(config.destinations["k"].mappings[0].mapping.clone()), mapping);
    }
}

#[test]
fn an_empty_section_is_the_same_as_none() {
    let config = parse("audiences:\ndestinations:\nstore:\n").unwrap();
    assert!(config.audiences.is_empty() && config.destinations.is_empty());
}

#[test]
fn a_listener_that_other_machines_can_reach_needs_a_token() {
    let told = |text: &str| problems(&format!("http: {text}"));
    let exposed = ["other machines can reach this address, but no token is asked of them"];
    for address in ["0.0.0.0:80", "'[::]:80'", "192.168.0.1:1", "'[::ffff:10.0.0.1]:1'"] {
        assert_eq!(told(&format!("{{listen: {address}}}")), exposed, "{address}");
        let text = format!("http: {{listen: {address}, token: 0123456789abcdef}}");
        assert!(parse(&text).is_ok(), "{address}");
    }
    for address in ["127.0.0.1:0", "127.9.9.9:8080", "'[::1]:80'", "'[::ffff:127.0.0.1]:1'"] {
        assert!(parse(&format!("http: {{listen: {address}}}")).is_ok(), "{address}");
    }
    assert_eq!(told("{listen: localhost}"), ["this is no address to listen on"]);
    assert_eq!(told("{token: secret}"), ["the token is too short"]);
    assert_eq!(parse("space_id: x").unwrap().http.address(), Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(parse("http: {enabled: false}").unwrap().http.address(), None);
    let error = parse("space_id: x\nhttp:\n  listen: 0.0.0.0:80\n").unwrap_err();
    let at = error.problems.unwrap();
    assert_eq!(at.position(&at.problems[0]), (3, 11));
}

#[test]
fn an_alias_bomb_and_a_deep_nest_are_refused_at_once() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert_eq!(problems(&bomb).len(), 1);
    let nest = format!("space_id: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(problems(&nest).len(), 1);
    let long = "x".repeat(rollcall::limits::CONFIG_BYTES + 1);
    assert!(parse(&long).unwrap_err().to_string().contains("bytes"));
}

#[test]
fn no_text_makes_it_panic() {
    use proptest::prelude::*;
    let word = prop::sample::select(vec![
        "audiences:",
        "destinations:",
        "name:",
        "settings:",
        "- ",
        "  ",
        "\n",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "${",
        "}",
        "\"",
        "'",
        ": ",
        "é",
        "\t",
        "|",
        "<<:",
        "!!binary ",
        "null",
        "1e999",
        "---\n",
        "# ",
        "password: ",
        "\u{0}",
    ]);
    proptest!(|(words in prop::collection::vec(word, 0..40))| {
        let _ = parse(&words.concat());
    });
}

#[test]
fn debug_shows_no_secret() {
    let text = "database: postgres://u:canary@h/d\ndestinations: {k: {settings: {brokers: 'b:1', username: canary, \
        password: canary, secretAccessKey: canary, ssl_key: canary, properties: {a: canary}}, mappings: []}}";
    let config = parse(text).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("b:1"), "{shown}");
    assert_eq!(config.database.unwrap().expose(), "postgres://u:canary@h/d");
}

#[test]
fn the_schema_uses_only_words_that_the_program_checks() {
    const KNOWN: [&str; 19] = [
        "x-variables",
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "type",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "const",
        "oneOf",
        "anyOf",
        "format",
        "minimum",
        "examples",
    ];
    fn visit(schema: &Value) {
        for (word, value) in schema.as_object().into_iter().flatten() {
            assert!(KNOWN.contains(&word.as_str()), "`{word}` is in the schema, but config/shape.rs does not check it");
            match word.as_str() {
                "properties" | "$defs" => value.as_object().into_iter().flatten().for_each(|(_, schema)| visit(schema)),
                "items" | "additionalProperties" => visit(value),
                "oneOf" | "anyOf" => value.as_array().into_iter().flatten().for_each(visit),
                _ => {}
            }
        }
    }
    visit(&config::schema());
}

#[test]
fn row_65_what_proves_who_we_are_is_sent_over_https_or_stays_on_this_machine() {
    let faults = |name: &str, url: &str| {
        let settings = json!({"brokers": "b:1", "mechanism": if name == "sts_endpoint" { "aws" } else { "oauthbearer" },
            "accessKeyId": "a", "secretAccessKey": "b", "region": "eu-west-1", "authorizationIdentity": "arn:aws:iam::1:role/x",
            "oauth_token_endpoint": "https://issuer.example.com/token", "oauth_client_id": "c", "oauth_client_secret": "d", name: url});
        Settings::parse("kafka", settings.as_object().expect("an object"))
            .err()
            .map(|error| format!("{error} {:?}", error.problems))
    };
    for name in ["sts_endpoint", "oauth_token_endpoint"] {
        for url in
            ["https://sts.eu-west-1.amazonaws.com", "http://127.0.0.1:80/x", "http://[::1]:9/x", "http://localhost:9"]
        {
            assert_eq!(faults(name, url), None, "{name} {url}");
        }
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://sts.example.com",
            "http://127.0.0.1.example.com",
            "http://localhost@example.com/",
            "http://[::ffff:10.0.0.1]/",
            "file:///etc/passwd",
            "ftp://example.com",
            "example.com",
            "https://",
        ] {
            let told = faults(name, url).unwrap_or_else(|| panic!("{name} {url} is taken"));
            assert!(told.contains("is no https address"), "{name} {url}: {told}");
        }
    }
}

#[test]
fn delivery_knows_every_setting_of_the_schema() {
    let schema = config::schema();
    let names = schema["$defs"]["Settings"]["properties"].as_object().expect("settings have properties").keys();
    let mut count = 0;
    for name in names {
        let settings = serde_json::Map::from_iter([(name.clone(), json!(""))]);
        let error =
            Settings::parse("kafka", &settings).expect_err("brokers or the mechanism's credentials are missing");
        let told = format!("{error} {:?}", error.problems);
        assert!(!told.contains("there is no setting"), "{name}: {told}");
        count += 1;
    }
    let unknown = serde_json::Map::from_iter([("zzz".to_owned(), json!(""))]);
    let told = format!("{:?}", Settings::parse("kafka", &unknown).expect_err("unknown").problems);
    assert!(told.contains("zzz") && count == 21, "{count} {told}");
}

#[test]
fn a_destination_has_50_mappings_or_what_it_says() {
    let text = |count, more| {
        let mappings: String = (0..count).map(|index| format!("{{name: m{index}, mapping: {{topic: t}}}}, ")).collect();
        format!("destinations: {{k: {{settings: {{brokers: 'b:1'}}, {more} mappings: [{mappings}]}}}}")
    };
    assert!(parse(&text(50, "")).is_ok());
    assert_eq!(problems(&text(51, "")), ["`k` has 51 mappings"]);
    assert!(parse(&text(51, "max_mappings: 51,")).is_ok());
    assert_eq!(problems(&text(1, "max_mappings: -1,")), ["destinations.k.max_mappings is too small"]);
}

#[test]
fn a_stream_that_makes_no_sense_is_told() {
    let settings = "settings: {brokers: 'a:1', password: a-secret}";
    let text = format!(
        "streams:\n  'a b': {{{settings}, topics: [x, x, '..']}}\n  b: {{{settings}, topics: []}}\n  \
         c: {{{settings}, topics: [y], start: newest}}\n  d: {{topics: [y]}}\n"
    );
    let told = problems(&text);
    for expected in [
        "`a b` cannot name a stream",
        "the topic `x` is named twice",
        "this cannot name a topic",
        "the stream `b` has no topics",
        "streams.c.start has no such value",
        "`streams.d` needs `settings`",
    ] {
        assert!(told.iter().any(|told| told == expected), "{expected}: {told:#?}");
    }
    let shown = parse(&text).expect_err("it is wrong").problems.expect("with places").text;
    assert!(!shown.contains("a-secret"), "{shown}");
    let sound = parse(&format!("streams: {{shop: {{{settings}, topics: [x, y]}}}}")).expect("it is right");
    assert_eq!(sound.streams["shop"].start, config::Start::Earliest);
}

#[test]
fn a_statement_runs_in_a_source_that_is_there_and_a_query_in_none() {
    let text = "
sources: {crm: {database: 'postgres://crm/crm'}}
audiences:
  - {name: A, query: 'true', source: crm}
  - {name: B, sql: 'select 1', source: crm}
traits:
  - {name: C, query: 'true', source: crm}
  - {name: D, sql: 'select 1', source: crm}
  - {name: E, sql: 'select 1', source: cm}";
    let expected = ["`source` is for `sql` alone", "`source` is for `sql` alone", "there is no source `cm`"];
    assert_eq!(problems(text), expected);
}
