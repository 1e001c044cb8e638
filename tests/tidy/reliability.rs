//! docs/reliability.md speaks of every fault once, and names tests that are there.

use std::collections::BTreeMap;

use regex::Regex;

use super::{files, none, read};

/// The rows of faults by their numbers: each as its cells.
fn rows(page: &str) -> Vec<(u32, Vec<String>)> {
    let row = Regex::new(r"(?m)^\| (\d+) \|(.*)\|$").unwrap();
    let cells = |text: &str| text.split('|').map(|cell| cell.trim().to_owned()).collect();
    row.captures_iter(page).map(|row| (row[1].parse().unwrap(), cells(&row[2]))).collect()
}

#[test]
fn every_fault_has_one_row_whose_tests_exist() {
    let page = read("docs/reliability.md");
    let rows = rows(&page);
    assert!(rows.iter().map(|(number, _)| *number).eq(1..=72), "72 rows, in order");
    let sources: BTreeMap<String, String> = files("tests", ".rs").into_iter().chain(files("src", ".rs")).collect();
    let name = Regex::new("`([a-z0-9_]+(?:::[a-z0-9_]+)+)`").unwrap();
    let mut offences = Vec::new();
    for (number, cells) in &rows {
        let [_, _, shown, tests] = &cells[..] else { panic!("row {number} has other cells: {cells:?}") };
        let named: Vec<String> = name.captures_iter(tests).map(|name| name[1].to_owned()).collect();
        match shown.as_str() {
            "full" if named.is_empty() => offences.push(format!("row {number} is shown by no test")),
            "n/a" if tests.is_empty() => offences.push(format!("row {number} does not say why")),
            "full" | "partial" | "none" | "n/a" => {}
            other => offences.push(format!("row {number}: '{other}' is no verdict")),
        }
        let is_there = |test: &String| {
            let (module, function) = test.rsplit_once("::").unwrap_or(("", test));
            let path = module.trim_end_matches("::tests").replace("::", "/");
            let head =
                Regex::new(&format!(r"#\[(tokio::)?test[^\]]*\]\n(?:\s*#\[[^\]]*\]\n)*\s*(async )?fn {function}\("))
                    .unwrap();
            let places = [format!("tests/{path}.rs"), format!("src/{path}.rs"), format!("src/{path}/mod.rs")];
            let property = Regex::new(&format!(r"(?s)proptest! \{{.*fn {function}\(")).unwrap();
            places
                .iter()
                .filter_map(|place| sources.get(place))
                .any(|text| head.is_match(text) || property.is_match(text))
        };
        offences
            .extend(named.iter().filter(|test| !is_there(test)).map(|test| format!("row {number}: {test} is no test")));
    }
    none("docs/reliability.md is true", offences);
}
