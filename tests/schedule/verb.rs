//! `rollcall schedule`, the built program.

use std::{fs, process::Command};

use insta::assert_snapshot;

const CONFIGURATION: &str = "
audiences:
- { name: Lapsed, query: event('A').count() >= 1, schedule: { cron: 30 2 * * *, timezone: Europe/Berlin, jitter: 1h } }
- { name: Fresh, query: event('A').count() >= 1, schedule: every 12h }
- { name: By hand, query: event('A').count() >= 1 }
- { name: Off, query: event('A').count() >= 1, schedule: '@hourly', enabled: false }
";

/// What `rollcall schedule` prints with these arguments, on either output.
fn schedule(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rollcall.yaml"), CONFIGURATION).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder.path()).env_remove("ROLLCALL_CONFIG").env_remove("RUST_LOG");
    let output = command.arg("schedule").args(args).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn coming_ticks_of_all_enabled_audiences_are_printed_in_order_with_their_offsets() {
    assert_snapshot!(schedule(&["--from", "2026-03-28", "--next", "6"]), @"
    AT                          AUDIENCE  ZONE           NOTE
    2026-03-28 02:30:00 +01:00  lapsed    Europe/Berlin  starts at 02:55:42
    2026-03-28 12:00:00 +00:00  fresh     UTC
    2026-03-29 00:00:00 +00:00  fresh     UTC
    2026-03-29 03:00:00 +02:00  lapsed    Europe/Berlin  moved by a clock change, starts at 03:25:42
    2026-03-29 12:00:00 +00:00  fresh     UTC
    2026-03-30 00:00:00 +00:00  fresh     UTC
    ");
}

#[test]
fn ticks_that_a_clock_change_moves_are_marked_for_programs_too() {
    let ticks: serde_json::Value =
        serde_json::from_str(&schedule(&["lapsed", "--from", "2026-03-29", "--next", "1", "--json"])).unwrap();
    assert_snapshot!(ticks, @r#"[{"at":"2026-03-29T03:00:00+02:00","audience":"lapsed","zone":"Europe/Berlin","moved":true,"starts_at":"2026-03-29T01:25:42.519Z"}]"#);
}

#[test]
fn one_audience_is_shown_on_demand_even_if_it_is_disabled() {
    assert_snapshot!(schedule(&["off", "--from", "2026-03-28T12:34:56Z", "--next", "2"]), @"
    AT                          AUDIENCE  ZONE  NOTE
    2026-03-28 13:00:00 +00:00  off       UTC
    2026-03-28 14:00:00 +00:00  off       UTC
    ");
    assert_snapshot!(schedule(&["by_hand"]), @"`by_hand` has no schedule.");
    assert_snapshot!(schedule(&["nobody"]), @"
    × no audience or trait has the key `nobody`
    help: `rollcall audiences` lists them.
    ");
}
