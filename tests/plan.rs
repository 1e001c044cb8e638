//! Definitions as code: `rollcall plan` shows what a configuration would do, `rollcall apply` does that and nothing else.

mod hidden;
mod traits;

use std::{fs, process::Output};

use rollcall::runs::held;
use serde_json::{Value, json};

use crate::{
    support::kafka,
    sync::{World, order},
};

const AT: &str = "2024-06-01";

const BEFORE: &str = "
  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 15m}
  - name: Big Spenders
    query: |
      event('Order Completed').sum(property('revenue')) >= 50
      AND event('Order Completed').count() >= 1
  - {name: Others, query: \"NOT trait('big_spenders') = 'true'\"}
  - {name: Old Ones, query: \"event('Order Completed').count() >= 2\"}
";

const AFTER: &str = "
  - {name: Shoppers, key: buyers, query: \"event('Order Completed').count() >= 1\", schedule: \"@hourly\"}
  - name: Big Spenders
    include_traits: [email]
    query: |
      event('Order Completed').sum(property('revenue')) >= 90
      AND event('Order Completed').count() >= 1
  - {name: Others, query: \"NOT trait('big_spenders') = 'true'\"}
  - {name: Newcomers, query: \"event('Order Completed').count() = 1\", enabled: false}
  - {name: Older Ones, query: \"event('Order Completed').count()   >= 2\"}
";

/// ann has spent 60, bob 100 in two orders, eve 10.
async fn world(audiences: &str) -> World {
    let world = World::new(audiences).await;
    world.import(&[
        order("ann", "1", "2024-05-01T00:00:00Z", 60.0),
        order("bob", "2", "2024-05-02T00:00:00Z", 50.0),
        order("bob", "3", "2024-05-03T00:00:00Z", 50.0),
        order("eve", "4", "2024-05-04T00:00:00Z", 10.0),
    ]);
    world
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What was printed, without what is another each time.
fn printed(world: &World, output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let said = text(&output.stdout).replace(&world.topic, "TOPIC").replace(kafka::broker(), "BROKER");
    let digest = regex::Regex::new(r#"(Digest |"digest": ")[0-9a-f]{16}"#).unwrap();
    let mapping = regex::Regex::new(r#"(mapping 'everything'",\s+"from": null,\s+"to": ")[0-9a-f]{8}"#).unwrap();
    let said = digest.replace_all(&said, "${1}DIGEST").into_owned();
    mapping.replace_all(&said, "${1}DIGEST").into_owned()
}

fn plan(world: &World, more: &[&str]) -> Output {
    world.run(&[&["plan", "--at", AT][..], more].concat())
}

fn apply(world: &World, more: &[&str]) -> Value {
    world.json(&[&["apply", "--yes"][..], more].concat())
}

async fn states(world: &World) -> Vec<(String, String)> {
    sqlx::query_as("select key, state from audiences order by key").fetch_all(&world.db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_everything_and_leaves_nothing_behind() {
    let world =
        world("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 15m}").await;
    let first = plan(&world, &["--samples", "2"]);
    insta::assert_snapshot!("first", printed(&world, &first));
    assert!(states(&world).await.is_empty());
    assert_eq!(world.json(&["runs"]), json!([]));
    assert_eq!(plan(&world, &["--detailed-exitcode"]).status.code(), Some(10));
    assert_eq!(plan(&world, &[]).status.code(), Some(0));

    let applied = apply(&world, &[]);
    assert_eq!((&applied["applied"]["added"], &applied["runs"][0]["members"]), (&json!(["buyers"]), &json!(3)));
    assert_eq!(world.fold()["buyers"].len(), 3, "and it is told");
    let nothing = plan(&world, &["--detailed-exitcode"]);
    assert_eq!(nothing.status.code(), Some(0));
    assert!(text(&nothing.stdout).starts_with("Nothing to do"), "{}", text(&nothing.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_is_shown_for_people_programs_and_pull_requests_and_applied_as_shown() {
    let world = world(BEFORE).await;
    world.json(&["sync", "--at", AT]);
    let told = world.told().len();
    world.configure(AFTER);
    insta::assert_snapshot!("text", printed(&world, &plan(&world, &["--samples", "3"])));
    insta::assert_snapshot!("markdown", printed(&world, &plan(&world, &["--samples", "3", "--markdown"])));
    insta::assert_snapshot!("json", printed(&world, &plan(&world, &["--json"])));
    let colored = text(&plan(&world, &["--color", "always"]).stdout);
    assert!(colored.contains("\u{1b}[31m      - event("), "{colored}");

    let shown: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
    let applied = apply(&world, &[]);
    assert_eq!(applied["plan"]["digest"], shown["digest"], "the numbers change by the minute, what is done does not");
    assert_eq!(applied["applied"]["removed"], json!(["old_ones"]));
    let runs: Vec<&str> = applied["runs"].as_array().unwrap().iter().map(|run| run["key"].as_str().unwrap()).collect();
    assert_eq!(runs, ["big_spenders", "older_ones", "others"], "a new name or schedule needs no run");
    // ann left the one and entered the other, bob is told of the new one; nobody is told of the removed one.
    assert_eq!(world.told().len() - told, 3);
    let states = states(&world).await;
    let state = |key: &str| states.iter().find(|(known, _)| known == key).unwrap().1.clone();
    assert_eq!([state("old_ones"), state("newcomers"), state("buyers")], ["deleted", "disabled", "enabled"]);
    assert_eq!(plan(&world, &["--detailed-exitcode"]).status.code(), Some(0), "all is as it says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_audience_that_says_goodbye_tells_every_member_false_once() {
    let leaving = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", on_delete: exit}\n";
    let world = world(leaving).await;
    world.json(&["sync", "--at", AT]);
    world.configure("  - {name: Others, query: \"event('Order Completed').count() >= 9\", enabled: false}");
    let shown = text(&plan(&world, &[]).stdout);
    assert!(shown.contains("3 Identify events (0 true, 3 false)"), "{shown}");
    let applied = apply(&world, &["--no-sync"]);
    assert_eq!(applied["applied"]["farewells"].as_array().unwrap().len(), 1);
    assert_eq!(world.told().len(), 3, "nothing is sent yet");
    world.json(&["sync"]);
    world.json(&["sync"]);
    assert_eq!((world.fold()["buyers"].len(), world.told().len()), (0, 6), "each is told once, and nothing after it");
    assert_eq!(states(&world).await[0], ("buyers".into(), "deleted".into()));
    // The old configuration somewhere else brings nothing back.
    world.configure(leaving);
    let output = world.run(&["sync"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("deleted 'Buyers'"), "{}", text(&output.stderr));
    assert_eq!(world.told().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_taken_again_only_on_demand_and_goes_on_from_what_was_told() {
    let buyers = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}\n";
    let world = world(buyers).await;
    world.json(&["sync", "--at", AT]);
    world.configure("");
    apply(&world, &[]);
    assert_eq!(world.told().len(), 3, "nobody is told that it is gone");
    let again = "  - {name: Buyers, query: \"event('Order Completed').count() >= 2\", MORE}\n";
    world.configure(&again.replace(", MORE", ""));
    let refused = plan(&world, &[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stdout).contains("the deleted 'Buyers'"), "{}", text(&refused.stdout));
    assert_eq!(world.run(&["apply", "--yes"]).status.code(), Some(3), "nothing is applied then");

    world.configure(&again.replace("MORE", "reuse_deleted_key: true"));
    let shown = text(&plan(&world, &[]).stdout);
    assert!(shown.contains("2 Identify events (0 true, 2 false)") && shown.contains("goes on from"), "{shown}");
    apply(&world, &[]);
    assert_eq!((world.fold()["buyers"].len(), world.told().len()), (1, 5), "nobody keeps a value that is not true");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_is_missing_in_the_file_is_left_alone_until_somebody_applies_it() {
    let both = "
  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}
  - {name: Idle, query: \"NOT trait('buyers') = 'true'\"}
";
    let world = world(both).await;
    world.json(&["sync", "--at", AT]);
    world.configure("  - {name: Idle, query: \"NOT trait('buyers') = 'true'\"}");
    let output = world.run(&["sync", "--at", AT, "-v"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("not computed any more"), "{}", text(&output.stderr));
    assert_eq!(states(&world).await, [("buyers".into(), "enabled".into()), ("idle".into(), "enabled".into())]);
    assert!(world.run(&["members", "idle"]).stdout.is_empty(), "whoever refers to it gets its last members");

    let shown = plan(&world, &[]);
    assert_eq!(shown.status.code(), Some(3), "deleted, it could not be referred to");
    assert!(text(&shown.stdout).contains("refers to 'buyers', which is deleted"), "{}", text(&shown.stdout));
    assert_eq!(world.run(&["apply", "--yes"]).status.code(), Some(3));
    assert_eq!(states(&world).await[0].1, "enabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn pausing_enabling_and_destinations_cost_no_more_than_they_must() {
    let world = world(BEFORE).await;
    world.json(&["sync", "--at", AT]);
    let with = |more: &str| {
        world.configure(&BEFORE.replace("schedule: every 15m}", &format!("schedule: every 15m, {more}}}")));
        let shown: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
        assert_eq!(shown["audiences"].as_array().unwrap().len(), 1, "{shown}");
        (shown["audiences"][0]["needs_sync"].clone(), shown["audiences"][0]["fields"][0]["field"].clone())
    };
    assert_eq!(with("enabled: false"), (json!(false), json!("enabled")));
    assert_eq!(with("guard: off"), (json!(false), json!("guard")));
    assert_eq!(with("destinations: []"), (json!(false), json!("destinations")));
    assert_eq!(with("include_traits: [email]"), (json!(false), json!("include_traits")));
    assert_eq!(with("on_delete: exit"), (json!(false), json!("on_delete")));
    assert_eq!(with("include_anonymous: true"), (json!(true), json!("include_anonymous")));
    with("enabled: false");
    let applied = apply(&world, &[]);
    assert_eq!((&applied["applied"]["changed"], &applied["runs"]), (&json!(["buyers"]), &json!([])));
    assert_eq!(world.told().len(), 3 + 2 + 1 + 1, "nothing was told of it");
    world.configure(BEFORE);
    let shown: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
    assert_eq!(shown["audiences"][0]["needs_sync"], true, "enabled, it has to catch up");

    // A second destination is told all of it.
    let second = kafka::topic(kafka::broker(), "second", 1);
    let more = format!(
        "  second:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false}}\n    cursor_topic: {second}.cursors\n    \
         mappings:\n      - {{name: all, mapping: {{topic: {second}, payload: {{\"@path\": $.}}}}}}\n",
        kafka::broker()
    );
    world.configure_with(BEFORE, kafka::broker(), &world.topic, &more);
    let shown: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
    assert_eq!(shown["destinations"][0]["action"], "add");
    let buyers = shown["audiences"].as_array().unwrap().iter().find(|change| change["key"] == "buyers").unwrap();
    assert_eq!(
        buyers["effect"]["identifies"],
        json!({"kafka": {"entered": 0, "exited": 0}, "second": {"entered": 3, "exited": 0}})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_no_longer_true_is_not_applied() {
    let world = world(BEFORE).await;
    world.json(&["sync", "--at", AT]);
    world.configure(AFTER);
    let file = world.folder.path().join("plan.json");
    let file = file.to_str().unwrap();
    assert!(plan(&world, &["--out", file]).status.success());
    assert!(fs::read_to_string(file).unwrap().contains("\"audiences\""));
    // The file is edited after the look at it.
    world.configure(&AFTER.replace(">= 90", ">= 95"));
    let stale = world.run(&["apply", "--plan", file]);
    assert_eq!(stale.status.code(), Some(4));
    assert!(text(&stale.stderr).contains("has changed since"), "{}", text(&stale.stderr));
    let digest = serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap();
    let digest = digest["digest"].as_str().unwrap();
    let stale = world.run(&["apply", "--plan-digest", digest]);
    assert_eq!(stale.status.code(), Some(4));
    assert!(text(&stale.stderr).contains("has changed since"), "{}", text(&stale.stderr));
    world.configure(AFTER);
    // Somebody else was faster, by the digest alone.
    world.json(&["apply", "--no-sync", "--plan-digest", digest]);
    assert_eq!(world.run(&["apply", "--plan", file]).status.code(), Some(4));
    let unasked = world.run(&["apply"]);
    assert_eq!(unasked.status.code(), Some(0), "there is nothing to do, so nobody is asked");
    world.configure(BEFORE);
    let unasked = world.run(&["apply"]);
    assert_eq!(unasked.status.code(), Some(3), "the old name is that of a deleted audience: {}", text(&unasked.stderr));
    world.configure(&AFTER.replace(">= 90", ">= 95"));
    let unasked = world.run(&["apply"]);
    assert_eq!(unasked.status.code(), Some(4));
    assert!(text(&unasked.stderr).contains("nobody is here to be asked"), "{}", text(&unasked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_beyond_the_guard_passes_if_somebody_has_looked_at_it_and_is_held_if_nobody_has() {
    let definition = |least: u32| {
        format!(
            "  - {{name: Big, query: \"event('Order Completed').sum(property('revenue')) >= {least}\", guard: {{over: 2}}}}"
        )
    };
    let world = world(&definition(1)).await;
    world.json(&["sync", "--at", AT]);
    world.configure(&definition(90));
    let file = world.folder.path().join("plan.json");
    let file = file.to_str().unwrap();
    let shown = text(&plan(&world, &["--out", file]).stdout);
    assert!(shown.contains("holds it unless this is confirmed"), "{shown}");
    let unseen = world.run(&["apply", "--yes"]);
    assert_eq!(unseen.status.code(), Some(6), "{}", text(&unseen.stderr));
    assert_eq!((world.told().len(), held::waiting(&world.db.pool).await.unwrap().len()), (3, 1));

    world.configure(&definition(1));
    apply(&world, &[]);
    assert_eq!(world.told().len(), 3);
    world.configure(&definition(90));
    plan(&world, &["--out", file]);
    world.json(&["apply", "--plan", file]);
    assert_eq!((world.fold()["big"].len(), world.told().len()), (1, 5));
}
