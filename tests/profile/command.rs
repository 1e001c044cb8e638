//! `rollcall import` as a command: with which code it ends, and what its switches make of a file.

use std::{fmt::Write as _, fs, process::Command};

use crate::support::postgres::Database;

/// Imports a file of that name; with which code that ended, and how many events are stored.
async fn import(name: &str, text: &str, switches: &[&str]) -> (i32, i64, String) {
    let (db, folder) = (Database::fresh().await, tempfile::tempdir().unwrap());
    fs::write(folder.path().join(name), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command
        .current_dir(folder.path())
        .env("DATABASE_URL", db.url())
        .env_remove("ROLLCALL_CONFIG")
        .env_remove("RUST_LOG");
    let output = command.args(["import", name]).args(switches).output().unwrap();
    let events: i64 = sqlx::query_scalar("select count(*) from events").fetch_one(&db.pool).await.unwrap_or(0);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), events, said)
}

/// Rows of a CSV file, the first `bad` of them without a user.
fn rows(bad: usize, of: usize, delimiter: char) -> String {
    let mut text = String::from("type,userId,event,timestamp\n");
    for n in 0..of {
        let user = if n < bad { String::new() } else { format!("u{n}") };
        writeln!(text, "track,{user},E,2024-05-01").unwrap();
    }
    text.replace(',', &delimiter.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_loses_more_than_its_share_ends_with_code_4_and_stores_the_rest() {
    for (bad, of, switches, code) in [
        (3, 3, &[][..], 4),
        (1, 3, &[], 4),
        (1, 3, &["--max-refused", "34%"], 0),
        (1, 3, &["--max-refused", "33"], 4),
        (1, 200, &[], 0),
        (3, 200, &[], 4),
        (1, 200, &["--max-refused", "0"], 4),
        (0, 3, &["--max-refused", "0"], 0),
        (3, 3, &["--max-refused", "100%"], 0),
        (0, 3, &["--max-refused", "101"], 2),
    ] {
        let (ended, events, said) = import("orders.csv", &rows(bad, of, ','), switches).await;
        let stored = if code == 2 { 0 } else { of - bad };
        assert_eq!((ended, usize::try_from(events).unwrap()), (code, stored), "{bad} of {of}, {switches:?}: {said}");
        assert!(code != 4 || said.contains(&format!("{bad} of orders.csv")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switches_say_what_a_name_and_a_header_do_not() {
    let json = "{\"type\":\"track\",\"userId\":\"a\",\"event\":\"E\"}\n";
    for (name, text, switches, code) in [
        ("orders", rows(0, 1, ','), &["--format", "csv"][..], 0),
        ("orders", rows(0, 1, ','), &[], 4),
        ("orders.jsonl", rows(0, 1, '\t'), &["--format", "tsv"], 0),
        ("orders.csv", json.to_owned(), &["--format", "json"], 0),
        ("orders.csv", json.to_owned(), &[], 4),
        ("orders.csv", rows(0, 1, '^'), &["--delimiter", "^"], 0),
        ("orders.csv", rows(0, 1, '^'), &[], 4),
        ("orders.csv", rows(0, 1, '\t'), &["--delimiter", "tab"], 0),
        ("orders.csv", rows(0, 1, ';'), &[], 0),
        ("orders.csv", rows(0, 1, ','), &["--delimiter", ";"], 4),
        ("orders.csv", rows(0, 1, ','), &["--delimiter", ",,"], 2),
        ("orders.csv", rows(0, 1, ','), &["--format", "xml"], 2),
    ] {
        let (ended, events, said) = import(name, &text, switches).await;
        assert_eq!((ended, events), (code, i64::from(code == 0)), "{name} {text:?} {switches:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_csv_is_measured_beside_a_copy_of_the_same_rows() {
    let db = Database::fresh().await;
    for form in [&["--csv"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        command.env("DATABASE_URL", db.url()).env_remove("ROLLCALL_CONFIG");
        command.args(["bench", "import", "--events", "300", "--profiles", "30", "--json"]).args(form);
        let output = command.output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name}: {report}"));
        assert_eq!(report["messages"], if form.is_empty() { 330 } else { 300 });
        let (imported, copied) = (number("import_per_second"), number("copy_per_second"));
        assert!(imported > 0.0 && (number("ratio") - copied / imported).abs() < 0.01, "{report}");
    }
}
