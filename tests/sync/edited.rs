//! A trait's value that was edited after it was sealed: nobody is told it, and `verify` finds it.

use rollcall::{fault::Safeguard, values::Column};
use serde_json::{Value, json};

use super::{World, order};

const ORDERS: &str = "  []
traits:
  - {name: Orders, query: \"event('Order Completed').count()\"}
";

/// Ann ordered twice and Bob once: sealed, and told to nobody.
async fn sealed() -> World {
    let world = World::new(ORDERS).await;
    let at = "2024-05-01T00:00:00Z";
    world.import(&[order("ann", "1", at, 1.0), order("ann", "2", at, 1.0), order("bob", "3", at, 1.0)]);
    let died = world.command(&["sync"]).env("ROLLCALL_FAULT", "after_seal:abort").output().unwrap();
    assert!(!died.status.success());
    world.leases_end().await;
    assert_eq!(world.told(), []);
    world
}

/// What is sealed, and the same with one order more of Ann.
async fn values(world: &World) -> (Vec<u8>, Vec<u8>) {
    let sealed: Vec<u8> = sqlx::query_scalar("select values from run_values").fetch_one(&world.db.pool).await.unwrap();
    let mut edited = Column::default();
    for (at, value) in Column::decode(&sealed).unwrap().iter() {
        edited.push(at, if value == "2" { "3" } else { value });
    }
    (sealed, edited.encode())
}

async fn write(world: &World, sql: &'static str, values: &[u8]) {
    sqlx::query(sql).bind(values).execute(&world.db.pool).await.unwrap();
}

/// Who was told how many orders.
fn orders(world: &World) -> Vec<(String, Value)> {
    let mut told: Vec<_> = world
        .events()
        .iter()
        .map(|event| (event["userId"].as_str().unwrap().to_owned(), event["traits"]["orders"].clone()))
        .collect();
    told.sort_by(|one, other| one.0.cmp(&other.0));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_edited_after_its_run_was_sealed_halts_and_is_told_to_nobody() {
    let world = sealed().await;
    let (sealed, edited) = values(&world).await;
    for edit in ["update run_values set values = $1", "update run_values set values = $1, digest = sha256($1)"] {
        write(&world, edit, &edited).await;
        let failures = world.failures();
        assert!(failures.len() == 1 && failures[0].1.contains("damaged"), "{edit}: {failures:?}");
        let reason: Option<String> =
            sqlx::query_scalar("select halt_reason from deliveries").fetch_one(&world.db.pool).await.unwrap();
        assert_eq!(reason.as_deref(), Some("log_damaged"), "{edit}");
        assert_eq!(world.told(), [], "{edit}");
        write(&world, edit, &sealed).await;
    }
    world.json(&["sync"]);
    assert_eq!(orders(&world), [("ann".into(), json!(2)), ("bob".into(), json!(1))], "mended, it goes on by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_holding_values_against_the_chain_the_edited_one_is_told() {
    let world = sealed().await;
    let (_, edited) = values(&world).await;
    write(&world, "update run_values set values = $1", &edited).await;
    let mut sync = world.command(&["sync"]);
    let output = sync.env("ROLLCALL_SWITCH_OFF", Safeguard::ChainComputedAnew.name()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(orders(&world), [("ann".into(), json!(3)), ("bob".into(), json!(1))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_edited_after_it_was_told_is_found_by_verify_with_exit_code_6() {
    let world = sealed().await;
    world.json(&["sync"]);
    world.verified();
    let (sealed, edited) = values(&world).await;
    for edit in ["update run_values set values = $1", "update run_values set values = $1, digest = sha256($1)"] {
        write(&world, edit, &edited).await;
        let output = world.run(&["verify", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &report[0]["counts"]["chain"]), (Some(6), &json!(1)), "{edit}: {report}");
        write(&world, edit, &sealed).await;
    }
    // Who is forgotten takes values along, and nothing is damaged by it.
    world.json(&["forget", "ann"]);
    world.json(&["sync"]);
    world.verified();
}
