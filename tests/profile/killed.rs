//! The program is killed while it imports.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{count, track};
use crate::support::postgres::Database;

fn rollcall(folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder).env_remove("DATABASE_URL").stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_import_killed_half_way_loses_and_repeats_nothing() {
    let database = Database::fresh().await;
    let folder = tempfile::tempdir().unwrap();
    // A little more than one batch.
    let mut lines: String = (0..60_000)
        .map(|n| track(&format!("m{n}"), &format!("u{}", n % 500), "E", "2024-01-01", json!({})).to_string() + "\n")
        .collect();
    lines += "not a message\n";
    fs::write(folder.path().join("messages.jsonl"), lines).unwrap();
    let import =
        || rollcall(folder.path()).args(["--database", &database.url(), "import", "messages.jsonl"]).spawn().unwrap();
    let killed = import();
    until("the first batch is stored", async || {
        count(&database.pool, "select count(*) from imports where line > 0").await > 0
    })
    .await;
    kill(killed);
    assert!(import().wait().unwrap().success());
    assert_eq!(count(&database.pool, "select count(*) from events").await, 60_000);
    assert_eq!(count(&database.pool, "select accepted from imports where finished and refused = 1").await, 60_000);
    assert_eq!(count(&database.pool, "select max(id) from profiles").await, 500);
    let report = fs::read_to_string(folder.path().join("import-errors-messages.jsonl")).unwrap();
    assert!(report.lines().all(|line| line.contains("\"line\":60001")), "{report}");
}

#[tokio::test]
async fn an_embedded_postgres_does_not_outlive_a_kill_of_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let killed = rollcall(folder.path()).args(["import", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let pid_file = folder.path().join(".rollcall/postgres/data/postmaster.pid");
    // Its last line is written when connections are taken.
    until("Postgres starts", async || fs::read_to_string(&pid_file).is_ok_and(|text| text.contains("ready"))).await;
    kill(killed);
    until("Postgres stops", async || !pid_file.exists()).await;
}
