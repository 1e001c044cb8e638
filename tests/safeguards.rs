//! Safeguards can be switched off, and the program made to die: by tests alone, and each is shown to be needed.

use std::fs;

use rollcall::fault::Safeguard;

/// The text of every Rust file below a folder.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let path = entry.to_str().unwrap().to_owned();
        if entry.is_dir() {
            found.extend(sources(&path));
        } else if path.ends_with(".rs") {
            found.push((path, fs::read_to_string(&entry).unwrap()));
        }
    }
    found
}

#[test]
fn for_each_safeguard_a_test_shows_what_breaks_without_it() {
    let tests = sources("tests");
    for safeguard in Safeguard::ALL {
        let named = format!("Safeguard::{safeguard:?}");
        assert!(tests.iter().any(|(_, text)| text.contains(&named)), "no test switches off {named}");
    }
}

#[test]
fn only_builds_for_tests_read_the_variables_that_break_them() {
    let reading = |text: &str| text.contains("\"ROLLCALL_FAULT\"") || text.contains("\"ROLLCALL_SWITCH_OFF\"");
    let readers: Vec<String> =
        sources("src").into_iter().filter(|(_, text)| reading(text)).map(|found| found.0).collect();
    assert_eq!(readers, ["src/fault/armed.rs"]);
    let fault = fs::read_to_string("src/fault.rs").unwrap();
    assert!(fault.contains("#[cfg(feature = \"faults\")]\nmod armed;"), "it is compiled only with the feature");
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let asking: Vec<&str> = manifest.lines().filter(|line| line.contains("faults") && !line.starts_with('#')).collect();
    assert_eq!(asking, ["faults = []", "rollcall = { path = \".\", features = [\"faults\"] }"]);
    let tests = manifest.find("[dev-dependencies]").expect("tests have dependencies");
    assert!(manifest.find(asking[1]) > Some(tests), "only tests ask for the feature");
    let image = fs::read_to_string("Dockerfile").unwrap();
    assert!(image.contains("! grep -q ROLLCALL_FAULT target/release/rollcall"), "the image is looked at, too");
}
