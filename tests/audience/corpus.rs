//! Every query of the corpus is parsed, or refused, as its meaning says.

use rollcall::audience::{parse, parse_trait};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    query: String,
    kind: String,
    meaning: String,
}

fn corpus(kinds: &[&str]) -> Vec<Entry> {
    let entries: Vec<Entry> = serde_json::from_str(include_str!("../data/query-corpus.json")).unwrap();
    let entries: Vec<_> = entries.into_iter().filter(|entry| kinds.contains(&entry.kind.as_str())).collect();
    assert!(!entries.is_empty());
    entries
}

/// A fragment put where it belongs: what is published of a function is its call alone.
fn completed(fragment: &str) -> (String, bool) {
    let text = fragment.replace("(expression)", "trait('x')").replace("(value)", "'v'").replace("{s: String}", "'x'");
    let begins = |names: &[&str]| names.iter().any(|name| text.starts_with(name));
    if begins(&["event('Shoes Bought')"]) && text.ends_with(')') && !text.contains(").") {
        return (format!("{text}.count() >= 1"), true);
    }
    if begins(&["trait('total_spend')"]) {
        return (format!("{text}.exists()"), true);
    }
    if begins(&["literal("]) {
        return (format!("trait('x') = {text}"), true);
    }
    if begins(&["expires_after"]) {
        return (format!("event('X').{text}.count()"), false);
    }
    if begins(&["where", "sources", "within(", "between"]) {
        return (format!("event('X').{text}.count() >= 1"), true);
    }
    if begins(&["min", "mode", "last("]) {
        return (format!("event('X').{text} = 1"), true);
    }
    if begins(&["property(parent"]) {
        return (format!("event('X').where(event('Y').where({text} = 1).count() >= 1).count() >= 1"), true);
    }
    if begins(&["!", "<", ">", "="]) {
        return (format!("trait('x') {text}"), true);
    }
    if begins(&["NOT", "trait('x')"]) {
        return (text, true);
    }
    (format!("trait('x').{text}"), true)
}

#[test]
fn audiences_of_the_corpus_parse() {
    for entry in corpus(&["audience", "observed", "third-party", "composed"]) {
        let result = match entry.meaning.contains("trait.") && entry.query.ends_with("count()") {
            true => parse_trait(&entry.query, &entry.query).map(|_| ()),
            false => parse(&entry.query, &entry.query).map(|_| ()),
        };
        assert!(result.is_ok(), "{}: {:?}", entry.query, result.unwrap_err().problems);
    }
}

#[test]
fn computed_traits_of_the_corpus_parse() {
    for entry in corpus(&["trait"]) {
        let result = parse_trait(&entry.query, &entry.query);
        assert!(result.is_ok(), "{}: {:?}", entry.query, result.unwrap_err().problems);
        assert!(parse(&entry.query, &entry.query).is_err(), "{} says neither yes nor no", entry.query);
    }
}

#[test]
fn fragments_of_the_corpus_parse_in_their_place() {
    for entry in corpus(&["fragment", "legacy"]) {
        if entry.query.contains(['“', '‘']) {
            continue;
        }
        let (text, audience) = completed(&entry.query);
        let result = if audience { parse("it", &text).map(|_| ()) } else { parse_trait("it", &text).map(|_| ()) };
        assert!(result.is_ok(), "{} as {text}: {:?}", entry.query, result.unwrap_err().problems);
    }
}

#[test]
fn curly_quotes_are_refused_with_a_hint_at_each() {
    let curly: Vec<_> = corpus(&["legacy"]).into_iter().filter(|entry| entry.query.contains(['“', '‘'])).collect();
    assert_eq!(curly.len(), 2);
    for entry in curly {
        let problems = parse_trait("it", &entry.query).unwrap_err().problems.unwrap();
        assert_eq!(problems.problems.len(), entry.query.matches(['“', '‘']).count());
        assert!(problems.problems.iter().all(|problem| problem.help.as_ref().unwrap().contains("straight ones")));
    }
}

#[test]
fn invalid_queries_of_the_corpus_are_refused_with_help() {
    // The uncertain ones (`&&`, a bare count) are decided: refused, with a hint.
    for entry in corpus(&["invalid", "uncertain"]) {
        let error = parse(&entry.query, &entry.query).expect_err(&entry.query);
        let problems = error.problems.unwrap().problems;
        assert_eq!(problems.len(), 1, "{}: {problems:?}", entry.query);
        assert!(problems[0].help.is_some());
    }
}

#[test]
fn the_language_of_triggers_is_not_this_one() {
    for entry in corpus(&["fql"]) {
        assert!(parse("it", &entry.query).is_err(), "{}", entry.query);
    }
}

#[test]
fn printing_and_parsing_again_changes_nothing() {
    for entry in corpus(&["audience", "observed", "third-party", "composed"]) {
        let Ok(tree) = parse("it", &entry.query) else { continue };
        let text = tree.to_string();
        assert_eq!(parse("it", &text).unwrap(), tree, "{text}");
    }
}
