//! What the forge runs and what is packed: pinned, and made of files that exist.

use regex::Regex;

use super::{files, none, read, root};

#[test]
fn one_rust_is_named_everywhere() {
    let named = |path: &str, pattern: &str| {
        let found = Regex::new(pattern).unwrap().captures(&read(path)).map(|found| found[1].to_owned());
        found.unwrap_or_else(|| panic!("{path} names no Rust"))
    };
    let channel = named("rust-toolchain.toml", r#"(?m)^channel = "(\d+\.\d+\.\d+)"$"#);
    let version = named("Cargo.toml", r#"(?m)^rust-version = "(\d+\.\d+)"$"#);
    assert_eq!(channel.rsplit_once('.').unwrap().0, version, "rust-toolchain.toml and rust-version");
    assert_eq!(channel, named("Dockerfile", r"FROM rust:(\d+\.\d+\.\d+)-"), "rust-toolchain.toml and the Dockerfile");
}

#[test]
fn what_others_publish_is_pinned() {
    let action = Regex::new(r"uses: (\S+)(.*)").unwrap();
    let pinned = Regex::new(r"^[\w./-]+@[0-9a-f]{40}$").unwrap();
    let mut offences = Vec::new();
    for (path, text) in files(".github/workflows", ".yml") {
        let loose =
            action.captures_iter(&text).filter(|found| !pinned.is_match(&found[1]) || !found[2].contains("# v"));
        offences.extend(loose.map(|found| format!("{path}: {}", &found[0])));
        let installed = text.lines().filter(|line| line.contains("cargo install"));
        let loose = installed.filter(|line| !(line.contains("--locked") && line.contains("--version ")));
        offences.extend(loose.map(|line| format!("{path}: {}", line.trim())));
    }
    none("actions by their commit, tools by their version", offences);
    let image = Regex::new(r"(?m)^(?:FROM|\s+image:) (\S+)").unwrap();
    let exact = Regex::new(r":\d+\.\d+").unwrap();
    for path in ["Dockerfile", "docker-compose.yml"] {
        let text = read(path);
        let loose = image.captures_iter(&text).filter(|found| !exact.is_match(&found[1]));
        none("images by their version", loose.map(|found| format!("{path}: {}", &found[1])).collect());
    }
}

#[test]
fn the_forge_runs_what_everybody_runs() {
    let ci = read(".github/workflows/ci.yml");
    assert!(ci.contains("- run: .ci/run\n"), "{ci}");
    for word in ["cargo test", "cargo clippy", "cargo fmt"] {
        assert!(!ci.contains(&format!("run: {word}")), "{word} is checked by .ci/run alone");
    }
}

#[test]
fn the_debian_package_is_made_of_files_that_exist() {
    let manifest = read("Cargo.toml");
    let asset = Regex::new(r#"(?m)^    \["([^"]+)", "([^"]+)", "\d{3}"\],$"#).unwrap();
    let mut there: Vec<String> = Vec::new();
    for found in asset.captures_iter(&manifest) {
        let source = &found[1];
        let exists = source == "target/release/rollcall" || root().join(source.replace("/*.md", "")).exists();
        assert!(exists, "{source} is packed, but is not there");
        there.push(found[2].to_owned());
    }
    assert!(
        there.contains(&"usr/bin/".to_owned()) && there.contains(&"usr/lib/systemd/system/".to_owned()),
        "{there:?}"
    );
    // In /usr/local/bin by hand, in /usr/bin by the package: systemd looks in both.
    assert!(read("contrib/rollcall.service").contains("\nExecStart=rollcall serve "));
}
