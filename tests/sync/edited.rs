//! A trait's value that was edited after it was sealed: nobody is told it, and `verify` finds it.

use roaring::RoaringBitmap;
use rollcall::{fault::Safeguard, membership::diff, values::Column};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{World, order};
use crate::support::dice::Dice;

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

/// What `verify --digest` says; its exit code.
fn verify(world: &World) -> (Option<i32>, Value) {
    let output = world.run(&["verify", "--digest", "--json"]);
    (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].take())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_is_the_databases_so_a_flipped_member_or_value_makes_it_another_than_the_topics() {
    let world =
        World::new(&ORDERS.replace("[]", "- {name: Twice, query: \"event('Order Completed').count() >= 2\"}")).await;
    let at = "2024-05-01T00:00:00Z";
    world.import(&[order("ann", "1", at, 1.0), order("ann", "2", at, 1.0), order("bob", "3", at, 1.0)]);
    world.json(&["sync"]);
    let report = world.verified();
    let digest = |report: &Value| report["topics"][0]["digest"].as_str().unwrap().to_owned();
    let (topics, pool) = (digest(&report), &world.db.pool);

    // The value of Ann that is kept is 3; 2 was told.
    let kept: Vec<u8> = sqlx::query_scalar("select values from trait_values").fetch_one(pool).await.unwrap();
    let (_, edited) = values(&world).await;
    write(&world, "update trait_values set values = $1", &edited).await;
    let (code, report) = verify(&world);
    assert_eq!((code, &report["counts"]), (Some(6), &json!({"told": 1})), "{report}");
    assert_eq!(
        (&report["differences"][0]["person"], &report["differences"][0]["audience"]),
        (&json!("ann"), &json!("orders"))
    );
    assert_ne!(digest(&report), topics);
    write(&world, "update trait_values set values = $1", &kept).await;

    // Bob counts as told that he is in, and Ann does not.
    let members = "select members from told t join audiences a on a.id = t.audience_id where a.key = 'twice'";
    let told: Vec<u8> = sqlx::query_scalar(members).fetch_one(pool).await.unwrap();
    let ids = diff::decode(&told).unwrap();
    let other: RoaringBitmap = (1..3).filter(|id| !ids.contains(*id)).collect();
    let flip = "update told set members = $1 where audience_id = (select id from audiences where key = 'twice')";
    write(&world, flip, &diff::encode(&other)).await;
    let (code, report) = verify(&world);
    assert_eq!((code, &report["counts"]["told"]), (Some(6), &json!(2)), "{report}");
    assert_ne!(digest(&report), topics);
    write(&world, flip, &told).await;
    assert_eq!(digest(&world.verified()), topics);
}

/// Whether a bit says nothing: those of a bitmap's table of offsets, and one of a compressed frame's head, are read by nobody. Where a
/// digest is kept of the bytes themselves, each bit counts.
fn means_the_same(table: &str, one: &[u8], other: &[u8]) -> bool {
    match table {
        "told" | "memberships" => diff::decode(other).is_ok_and(|other| other == diff::decode(one).unwrap()),
        "trait_values" => Column::decode(other).is_ok_and(|other| other == Column::decode(one).unwrap()),
        _ => false,
    }
}

/// Of what is stored, one random bit at a time.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_bit_is_flipped_of_what_is_stored_verify_finds_it_unless_it_says_nothing() {
    let world =
        World::new(&ORDERS.replace("[]", "- {name: Twice, query: \"event('Order Completed').count() >= 2\"}")).await;
    let at = "2024-05-01T00:00:00Z";
    let orders: Vec<Value> = (0..60)
        .flat_map(|n| (0..=n % 3).map(move |m| order(&format!("u{n}"), &format!("m{n}.{m}"), at, 1.0)))
        .collect();
    world.import(&orders);
    world.json(&["sync"]);
    world.verified();
    let seed = std::env::var("ROLLCALL_BITS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("ROLLCALL_BITS_SEED={seed}");
    let mut dice = Dice::of(seed);
    for (table, column) in [
        ("runs", "entered"),
        ("runs", "exited"),
        ("deltas", "chain"),
        ("destinations", "chain"),
        ("told", "members"),
        ("memberships", "members"),
        ("run_values", "values"),
        ("run_values", "digest"),
        ("trait_values", "values"),
    ] {
        for _ in 0..2 {
            let rows = format!("select ctid::text, {column} from {table} where length({column}) > 0 order by 1");
            let rows: Vec<(String, Vec<u8>)> =
                sqlx::query_as(AssertSqlSafe(rows)).fetch_all(&world.db.pool).await.unwrap();
            let (row, sealed) = &rows[dice.below(rows.len())];
            let bit = dice.below(sealed.len() * 8);
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let update = format!("update {table} set {column} = $1 where ctid = '{row}'::tid returning ctid::text");
            let row: String =
                sqlx::query_scalar(AssertSqlSafe(update)).bind(&flipped).fetch_one(&world.db.pool).await.unwrap();
            let (code, report) = verify(&world);
            let expected = if means_the_same(table, sealed, &flipped) { 0 } else { 6 };
            assert_eq!(code, Some(expected), "seed {seed}: bit {bit} of {table}.{column}: {report}");
            let mend = format!("update {table} set {column} = $1 where ctid = '{row}'::tid");
            sqlx::query(AssertSqlSafe(mend)).bind(sealed).execute(&world.db.pool).await.unwrap();
        }
    }
    world.verified();
}
