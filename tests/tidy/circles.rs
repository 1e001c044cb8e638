//! Do two files need each other? The imports of each file, and the circles in them.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::{code, none};

/// Circles that are left, each with the reason why it is better than what would open it.
const LISTED: [&[&str]; 4] = [
    // What recovery decides about is what the cursor's reader found.
    &["deliver::cursor", "deliver::recover"],
    // The topics' ids are asked of the world outside, which the model of it asks in turn.
    &["deliver::outside", "deliver::topic_ids"],
    // Each check of the log takes what it holds of it, and is one of those that the log is put through.
    &["deliver::verify::check", "deliver::verify::log", "deliver::verify::should", "deliver::verify::told"],
    // A row has one form, whether its statement ran here or elsewhere.
    &["evaluate::statements::elsewhere", "evaluate::statements::traits"],
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn name(path: &str) -> String {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").replace('/', "::");
    path.strip_suffix("::mod").unwrap_or(&path).to_owned()
}

/// The paths that a `use` names: `a::{b, c::{d}}` are `a::b` and `a::c::d`.
fn leaves(tree: &str, before: &str, paths: &mut Vec<String>) {
    let (mut depth, mut start) = (0, 0);
    let ends = tree.char_indices().filter(|(_, c)| "{},".contains(*c)).chain([(tree.len(), ',')]);
    for (at, c) in ends {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth > 0 => {}
            _ => {
                let one = tree[start..at].trim();
                match one.split_once('{') {
                    Some((head, rest)) => {
                        leaves(rest.trim_end().trim_end_matches('}'), &format!("{before}{}", head.trim()), paths);
                    }
                    None if one.is_empty() => {}
                    None => paths.push(format!("{before}{}", one.split(" as ").next().unwrap_or(one))),
                }
                start = at + 1;
            }
        }
    }
}

/// The module that a path leads into, seen from `own`.
fn target(own: &str, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut base: Vec<&str> = own.split("::").collect();
    let mut steps = path.split("::").peekable();
    match *steps.peek()? {
        "crate" => {
            base.clear();
            steps.next();
        }
        "self" => drop(steps.next()),
        _ => {
            while steps.next_if(|step| *step == "super").is_some() {
                base.pop();
            }
        }
    }
    base.extend(steps);
    while !base.is_empty() && !modules.contains(&base.join("::")) {
        base.pop();
    }
    Some(base.join("::")).filter(|found| !found.is_empty() && found != own)
}

/// Who uses whom. That a folder names its own files is no use of them.
fn graph() -> Graph {
    let code = code();
    let modules: BTreeSet<String> = code.iter().map(|(path, _)| name(path)).collect();
    let imports = Regex::new(r"(?s)\buse\s+((?:crate|super|self)\b[^;]*);").unwrap();
    let inline = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    let mut graph = Graph::new();
    for (path, text) in &code {
        let own = name(path);
        let mut paths = Vec::new();
        imports.captures_iter(text).for_each(|found| leaves(&found[1], "", &mut paths));
        paths.extend(inline.find_iter(&imports.replace_all(text, "")).map(|found| found.as_str().to_owned()));
        let used = paths.iter().filter_map(|path| target(&own, path, &modules));
        let used = used.filter(|used| !used.starts_with(&format!("{own}::"))).collect();
        graph.insert(own, used);
    }
    graph
}

/// All that can be reached.
fn reached<'g>(graph: &'g Graph, from: &'g str) -> BTreeSet<&'g str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        for used in graph.get(module).into_iter().flatten() {
            if found.insert(used.as_str()) {
                open.push(used);
            }
        }
    }
    found
}

#[test]
fn no_files_use_each_other_in_a_circle_but_the_few_listed() {
    let graph = graph();
    assert!(graph.len() > 300 && graph.values().filter(|used| !used.is_empty()).count() > 250, "imports are read");
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|module| (module.as_str(), self::reached(&graph, module))).collect();
    let circles: BTreeSet<Vec<&str>> = reached
        .iter()
        .filter(|(module, all)| all.contains(*module))
        .map(|(module, all)| all.iter().copied().filter(|other| reached[other].contains(module)).collect())
        .collect();
    let listed: BTreeSet<Vec<&str>> = LISTED.iter().map(|circle| circle.to_vec()).collect();
    none("files in a circle", circles.difference(&listed).map(|circle| circle.join(", ")).collect());
    none("a listed circle is open now: take it off", listed.difference(&circles).map(|c| c.join(", ")).collect());
}
