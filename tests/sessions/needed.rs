//! Each safeguard of sessions is needed: without it the test that holds it fails.

use std::process::{Command, Stdio};

use rollcall::fault::Safeguard;

use crate::support::kafka;

/// Runs one test of this binary in a process of its own, with a safeguard off.
fn holds_without(safeguard: Safeguard, test: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env("ROLLCALL_SWITCH_OFF", safeguard.name());
    // Starting another Kafka would take longer than all the rest.
    command.env("ROLLCALL_TEST_KAFKA", kafka::broker());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("running 1 test"), "{test} is no test:\n{said}");
    output.status.success()
}

#[test]
fn without_its_safeguard_each_test_of_sessions_fails() {
    for (safeguard, test) in [
        (Safeguard::SendsAtOnce, "sessions::every_session_by_tcp_sends_what_is_written_at_once"),
        (
            Safeguard::ReturnsOutside,
            "sessions::returned::a_thousand_transactions_that_are_cancelled_as_they_begin_leave_no_session_inside_of_one",
        ),
        (Safeguard::ReadsApart, "sessions::crowd::requests_that_wait_for_a_lock_hold_up_no_sealing_and_no_telling"),
        (
            Safeguard::EndOfTheDead,
            "sessions::paused::a_session_that_is_stopped_amid_rows_on_their_way_loses_its_locks_with_its_lease",
        ),
        (Safeguard::SealMayIdle, "sessions::idle::a_statement_elsewhere_that_takes_longer_than_a_lease_fails_nobody"),
    ] {
        assert!(!holds_without(safeguard, test), "{test} holds without {safeguard:?}");
    }
}
