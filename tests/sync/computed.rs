//! Computed traits that an audience reads within `where(…)`, on the right of a comparison, or against another value.

use serde_json::{Value, json};

use super::{World, of, order, users};

/// Within `where(…)` one value, on the right one of several by its own key, and each entry of another by that of the whole.
const AUDIENCES: &str = "
  - {name: Above, query: \"event('Order Completed').where(property('revenue') > trait('average_order')).count() >= 1\"}
  - {name: Faithful, query: \"event('Order Completed').count() > trait('kinds')\"}
  - {name: Lucky, query: \"trait('lucky_revenue') = trait('totals.revenues.$')\"}
traits:
  - {name: Average Order, query: \"event('Order Completed').within(30 days).avg(property('revenue'))\"}
  - name: Totals
    queries:
      revenues: event('Order Completed').unique(property('revenue'))
      kinds: event('Order Completed').unique(property('revenue')).count()
";

/// The keys and messages of what could not be computed.
fn failures(world: &World, args: &[&str]) -> Vec<(String, String)> {
    let output = world.command(args).arg("--json").output().unwrap();
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    report["failed"].as_array().unwrap().iter().map(|run| (text(&run["name"]), text(&run["error"]))).collect()
}

/// Who is in by now.
fn members(world: &World, key: &str) -> Vec<String> {
    let output = world.run(&["members", key]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_follows_a_trait_of_the_same_run_and_else_its_last_values() {
    let world = World::new(AUDIENCES).await;
    let traits = json!({"average_order": 1, "lucky_revenue": 10, "revenues": [10], "kinds": 0});
    world.import(&[
        order("ann", "1", "2024-05-01T00:00:00Z", 10.0),
        order("ann", "2", "2024-05-02T00:00:00Z", 30.0),
        order("bob", "3", "2024-05-02T00:00:00Z", 10.0),
        // Eve's values are imported ones, of the same names: they are not read. She ordered too long ago for an average.
        order("eve", "4", "2024-01-01T00:00:00Z", 20.0),
        json!({"type": "identify", "userId": "eve", "messageId": "5", "timestamp": "2024-05-01T00:00:00Z", "traits": traits}),
        json!({"type": "identify", "userId": "bob", "messageId": "6", "timestamp": "2024-05-01T00:00:00Z", "traits": {"lucky_revenue": 10}}),
    ]);
    world.json(&["sync", "--at", "2024-05-03"]);
    assert_eq!(members(&world, "above"), ["ann"], "in the trait's first run");
    assert_eq!((members(&world, "faithful"), members(&world, "lucky")), (vec![], vec!["bob".to_owned()]));

    // Bob's average is 7.5 now, below one of his orders; but as long as it is not computed anew, it is 10.
    world.import(&[order("bob", "7", "2024-05-03T00:00:00Z", 5.0), order("eve", "8", "2024-05-01T00:00:00Z", 20.0)]);
    world.json(&["sync", "above", "faithful", "--at", "2024-05-04"]);
    assert_eq!(members(&world, "above"), ["ann"], "as the trait was last computed");
    assert_eq!(members(&world, "faithful"), ["bob", "eve"], "one kind when it was last counted, and two orders");
    world.json(&["sync", "--at", "2024-05-04"]);
    assert_eq!(members(&world, "above"), ["ann", "bob"], "as it was computed in this run");
    assert_eq!(members(&world, "faithful"), ["eve"], "two orders of one kind");
    let audiences = ["above", "faithful", "lucky"];
    let mut told: Vec<Value> = world.events().iter().map(of).collect();
    told.retain(|told| audiences.iter().any(|key| told[1][*key].is_boolean()));
    let mut folded = std::collections::BTreeSet::new();
    for change in &told {
        for (key, entered) in change[1].as_object().unwrap() {
            let member = format!("{} in {key}", change[0].as_str().unwrap());
            assert!(if entered == true { folded.insert(member) } else { folded.remove(&member) }, "{told:?}");
        }
    }
    assert_eq!(folded, users(["ann in above", "bob in above", "bob in lucky", "eve in faithful"]), "and so it is told");

    let why = world.json(&["explain", "above", "bob", "--at", "2024-05-04"]);
    assert_eq!(why["member"], true, "{why}");
    let why = world.json(&["explain", "lucky", "eve", "--at", "2024-05-04"]);
    assert_eq!((&why["member"], &why["reason"]["right"]), (&json!(false), &json!(["'20'"])), "{why}");
    world.configure(AUDIENCES.split("traits:").next().unwrap());
    let why = world.json(&["explain", "above", "bob", "--at", "2024-05-04"]);
    assert_eq!(why["member"], true, "a trait that is not configured any more keeps its last values: {why}");

    world.configure(AUDIENCES);
    world.json(&["sync", "--at", "2024-08-01"]);
    assert_eq!(members(&world, "above"), [] as [&str; 0], "nobody has an average any more");
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_a_trait_whose_run_is_held_gets_its_last_values() {
    let guarded =
        AUDIENCES.replace("avg(property('revenue'))\"}", "avg(property('revenue'))\", guard: {max_changes: 2}}");
    let world = World::new(&guarded).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0), order("bob", "2", "2024-05-02T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-05-03"]);
    assert_eq!(members(&world, "above"), [] as [&str; 0]);
    let low = |user: &str, id: &str| order(user, id, "2024-05-03T00:00:00Z", 5.0);
    world.import(&[low("ann", "3"), low("bob", "4"), low("eve", "5")]);
    let held = world.command(&["sync", "--at", "2024-05-04", "--json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&held.stdout).contains("held"), "{held:?}");
    assert_eq!(members(&world, "above"), [] as [&str; 0], "nobody has agreed to the new averages");
    assert!(world.run(&["release", "average_order"]).status.success());
    world.json(&["sync", "above", "--at", "2024-05-04"]);
    assert_eq!(members(&world, "above"), ["ann", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trait_that_fails_or_was_never_computed_stops_those_who_read_it_and_no_others() {
    let broken = "
  - {name: Sound, query: \"event('Order Completed').where(property('revenue') > trait('average_order')).count() >= 1\"}
  - {name: Lost, query: \"event('Order Completed').where(property('revenue') > trait('broken.x')).count() >= 1\"}
traits:
  - {name: Average Order, query: \"event('Order Completed').avg(property('revenue'))\"}
  - {name: Broken, sql: \"select user_id, 1 / (length(user_id) - 3) as x from users\"}
";
    let world = World::new(broken).await;
    sqlx::raw_sql("create table users (user_id text)").execute(&world.db.pool).await.unwrap();
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0), order("ann", "2", "2024-05-02T00:00:00Z", 30.0)]);
    let failed = failures(&world, &["sync", "lost", "--at", "2024-05-03"]);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].1.contains("`broken`, which has no values yet"), "{failed:?}");
    sqlx::raw_sql("insert into users values ('ann')").execute(&world.db.pool).await.unwrap();
    let mut failed = failures(&world, &["sync", "--at", "2024-05-03"]);
    failed.sort();
    assert_eq!(failed.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["broken", "lost"]);
    assert!(failed[1].1.contains("`broken`, which failed"), "{failed:?}");
    assert_eq!(members(&world, "sound"), ["ann"]);
    sqlx::raw_sql("truncate users; insert into users values ('ann2')").execute(&world.db.pool).await.unwrap();
    world.json(&["sync", "--at", "2024-05-03"]);
    assert_eq!(members(&world, "lost"), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_and_plans_read_computed_traits_and_store_nothing() {
    let (audiences, traits) = AUDIENCES.split_at(AUDIENCES.find("traits:").unwrap());
    let world = World::new(&format!("\n{traits}")).await;
    world.import(&[
        order("ann", "1", "2024-05-01T00:00:00Z", 10.0),
        order("ann", "2", "2024-05-02T00:00:00Z", 30.0),
        order("bob", "3", "2024-05-02T00:00:00Z", 10.0),
    ]);
    world.json(&["sync", "--at", "2024-05-03"]);
    let above = "event('Order Completed').where(property('revenue') > trait('average_order')).count() >= 1";
    let preview = world.json(&["preview", above, "--at", "2024-05-03"]);
    assert_eq!(preview["members"], 1, "{preview}");
    let preview = world.json(&["preview", "event('Order Completed').count() >= trait('kinds')", "--at", "2024-05-03"]);
    assert_eq!(preview["members"], 2, "{preview}");

    // By the last values nobody else is in; by those that another definition of the trait will have, bob is.
    world.import(&[order("bob", "4", "2024-05-03T00:00:00Z", 5.0)]);
    let planned = |traits: &str| {
        world.configure(&format!("{audiences}{traits}"));
        let plan = world.command(&["plan", "--json", "--at", "2024-05-04"]).output().unwrap();
        let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
        plan["audiences"].as_array().unwrap().iter().find(|of| of["key"] == "above").unwrap()["effect"]["members"]
            .clone()
    };
    assert_eq!(planned(traits), 1);
    assert_eq!(planned(&traits.replace(".avg(", ".min(")), 2);
    let runs: i64 = sqlx::query_scalar("select count(*) from runs").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(runs, 2, "those of the traits");

    let refused = world.run(&["preview", "--trait", "event('Order Completed').where(trait('kinds') = 1).count()"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("the query:1:32") && said.contains("cannot refer to 'kinds'"), "{said}");
}
