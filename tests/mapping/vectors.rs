//! The peer's own answers. What differs is listed in `docs/segment-compatibility.md`, case by case, and nothing else does.

use std::{collections::BTreeMap, fs};

use rollcall::cli::map::vectors::{Case, run};

const FILES: [&str; 5] = ["mapping", "fql", "send", "partitioner", "membership"];

fn cases(file: &str) -> Vec<Case> {
    let text = fs::read_to_string(format!("tests/data/vectors/{file}.json")).expect("the vectors are checked in");
    run(&text).expect("the vectors can be read")
}

/// The ids in the first column of the tables of the compatibility page.
fn listed() -> Vec<String> {
    let page = fs::read_to_string("docs/segment-compatibility.md").expect("the page is there");
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let ids = first_cells.flat_map(|cell| cell.split(", ").map(|id| id.trim_matches('`').to_owned()));
    let is_id = |id: &String| {
        let mut parts = id.splitn(2, '-');
        matches!(parts.next(), Some("m" | "f" | "s" | "p" | "a"))
            && parts.next().is_some_and(|n| n.parse::<u32>().is_ok())
    };
    ids.filter(is_id).collect()
}

#[test]
fn every_core_and_edge_case_agrees_but_for_those_that_are_listed() {
    let listed = listed();
    let unlisted: Vec<String> = FILES
        .iter()
        .flat_map(|file| cases(file))
        .filter(|case| case.tier != "quirk" && !listed.contains(&case.id))
        .filter_map(|case| Some(format!("{} {}: {}", case.id, case.kind, case.difference?)))
        .collect();
    assert!(unlisted.is_empty(), "{}", unlisted.join("\n"));
}

#[test]
fn the_page_lists_exactly_the_cases_that_differ() {
    let mut differing: Vec<String> = FILES
        .iter()
        .flat_map(|file| cases(file))
        .filter(|case| case.difference.is_some())
        .map(|case| case.id)
        .collect();
    let mut listed = listed();
    differing.sort();
    listed.sort();
    assert_eq!(listed, differing);
}

#[test]
fn the_core_agrees_without_exception() {
    let differing: Vec<String> = FILES
        .iter()
        .flat_map(|file| cases(file))
        .filter(|case| case.tier == "core")
        .filter_map(|case| Some(format!("{} {}: {}", case.id, case.kind, case.difference?)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn a_wrong_answer_is_seen() {
    let text = fs::read_to_string("tests/data/vectors/membership.json").expect("the vectors are checked in");
    let wrong = text.replace("\"expect\":true", "\"expect\":false");
    let failed = run(&wrong).expect("readable").iter().filter(|case| case.difference.is_some()).count();
    assert!(failed > 0);
}

#[test]
fn the_vectors_are_all_there() {
    let count = |file: &str| {
        let mut tiers = BTreeMap::new();
        cases(file).into_iter().for_each(|case| *tiers.entry(case.tier).or_insert(0) += 1);
        tiers.into_values().sum::<usize>()
    };
    assert_eq!(FILES.map(count), [670, 437, 296, 117, 19]);
}
