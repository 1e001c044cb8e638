//! docs/ is a book: its table of contents is complete, and a link that names a heading finds it.
//!
//! This is checked here, so that it needs no other program; the forge builds the site itself, which takes mdBook's own minutes.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

use regex::Regex;

use super::{documents, files, none, read};

#[test]
fn the_summary_names_every_page_once() {
    let link = Regex::new(r"(?m)^- \[[^\]]+\]\(([^)]+)\)$").unwrap();
    let summary = read("docs/SUMMARY.md");
    let mut named: Vec<String> = link.captures_iter(&summary).map(|found| format!("docs/{}", &found[1])).collect();
    named.sort();
    let there: Vec<String> =
        files("docs", ".md").into_iter().map(|(path, _)| path).filter(|path| path != "docs/SUMMARY.md").collect();
    assert_eq!(named, there, "docs/SUMMARY.md and the files of docs/");
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let fence = Regex::new(r"(?ms)^```.*?^```").unwrap();
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let text = fence.replace_all(text, "");
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let shown = link.replace_all(heading, "$1").to_lowercase();
        let kept = shown.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// `docs/../README.md` is `README.md`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
        plain
    })
}

#[test]
fn a_link_that_names_a_heading_finds_it() {
    let link = Regex::new(r"\]\(([^)#:]*)#([^)]+)\)").unwrap();
    let pages = documents();
    let known: HashMap<PathBuf, BTreeSet<String>> =
        pages.iter().map(|(path, text)| (PathBuf::from(path), anchors(text))).collect();
    let mut offences = Vec::new();
    let mut count = 0;
    for (path, text) in &pages {
        let own = Path::new(path);
        for found in link.captures_iter(text) {
            count += 1;
            let page = if found[1].is_empty() { own.to_owned() } else { plain(&own.with_file_name(&found[1])) };
            if !known.get(&page).is_some_and(|anchors| anchors.contains(&found[2])) {
                offences.push(format!("{path}: {}#{}", page.display(), &found[2]));
            }
        }
    }
    none("no link to a heading that is not there", offences);
    assert!(count > 20, "{count}");
}
