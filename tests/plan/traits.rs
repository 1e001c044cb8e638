//! Plans of computed traits: what is added, changed, paused and removed, and what is told of it.

use serde_json::{Value, json};

use super::{AT, apply, plan, states, text, world};
use crate::sync::{self, World};

const TRAITS: &str = "
traits:
  - {name: Orders, query: \"event('Order Completed').count()\", schedule: every 15m, ON_DELETE}
  - name: Totals
    on_delete: exit
    queries:
      revenue: event('Order Completed').sum(property('revenue'))
      last: event('Order Completed').last(property('revenue'))
";

fn traits(on_delete: &str) -> String {
    TRAITS.replace("ON_DELETE", &format!("on_delete: {on_delete}"))
}

/// What was told after the first so many: of whom, and which traits.
fn told(world: &World, from: usize) -> Vec<Value> {
    let mut told: Vec<Value> = world.events().iter().skip(from).map(sync::of).collect();
    told.sort_by_key(Value::to_string);
    told
}

fn shown(world: &World) -> Value {
    serde_json::from_slice(&plan(world, &["--json", "--samples", "5"]).stdout).unwrap()
}

fn of<'p>(plan: &'p Value, key: &str) -> &'p Value {
    plan["audiences"].as_array().unwrap().iter().find(|change| change["key"] == key).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_traits_counts_the_people_whose_value_changes_and_the_identifies_told_of_it() {
    let world = world(&traits("keep")).await;
    let first = shown(&world);
    let orders = of(&first, "orders");
    assert_eq!((&orders["action"], &orders["needs_sync"]), (&json!("add"), &json!(true)));
    let effect = &orders["effect"];
    assert_eq!(
        (&effect["members_before"], &effect["members"], &effect["entered"], &effect["exited"]),
        (&Value::Null, &json!(3), &json!(3), &json!(0))
    );
    assert_eq!(effect["identifies"], json!({"kafka": {"entered": 3, "exited": 0}}));
    assert_eq!(effect["samples"]["entered"].as_array().unwrap().len(), 3);
    assert!(states(&world).await.is_empty(), "a plan stores nothing");
    apply(&world, &[]);
    assert_eq!(told(&world, 0).len(), 6, "three people, two traits");
    assert_eq!(shown(&world)["audiences"], json!([]), "nothing is left to do");

    // Bob's number becomes another one, eve's ceases; ann's stays.
    world.configure(&traits("keep").replace(
        "\"event('Order Completed').count()",
        "\"event('Order Completed').where(property('revenue') > 10 AND property('revenue') != 50).count()",
    ));
    let changed = shown(&world);
    let orders = of(&changed, "orders");
    assert_eq!((&orders["action"], &orders["fields"][0]["field"]), (&json!("change"), &json!("query")));
    assert_eq!(orders["effect"]["identifies"], json!({"kafka": {"entered": 2, "exited": 0}}), "{orders}");
    let people = text(&plan(&world, &[]).stdout);
    assert!(people.contains("2 Identify events (2 with a value, 0 null)"), "{people}");
    let reviewed = text(&plan(&world, &["--markdown"]).stdout);
    let table = "| | trait | with a value | other value | no value | Identify events |\n|---|---|--:|--:|--:|---|\n| ✏️ | `orders` | 3 → 3 | 2 | 0 |";
    assert!(reviewed.contains(table) && !reviewed.contains("audience"), "{reviewed}");
    apply(&world, &[]);
    assert_eq!(told(&world, 6), [json!(["bob", {"orders": 0}]), json!(["eve", {"orders": 0}])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_reads_a_trait_that_changes_is_in_the_plan_and_computed_with_it() {
    let config = |query: &str| {
        format!(
            "
  - {{name: Buyers, query: \"trait('orders') >= 1\"}}
  - {{name: Others, query: \"trait('plan').exists()\"}}
traits:
  - {{name: Orders, query: \"{query}\"}}
"
        )
    };
    let world = world(&config("event('Order Completed').count()")).await;
    world.json(&["sync", "--at", AT]);
    world.configure(&config("event('Order Completed').where(property('revenue') > 1000).count()"));
    let changed = shown(&world);
    let buyers = of(&changed, "buyers");
    assert_eq!((&buyers["action"], &buyers["effect"]["exited"]), (&json!("follow"), &json!(3)), "{changed}");
    assert!(buyers["notes"].to_string().contains("refers to 'orders'"), "{buyers}");
    assert_eq!(of(&changed, "others"), &Value::Null);
    apply(&world, &[]);
    assert!(world.run(&["members", "buyers"]).stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn renaming_and_pausing_a_trait_tell_nobody_and_a_new_key_is_hinted_at() {
    let world = world(&traits("keep")).await;
    world.json(&["sync", "--at", AT]);
    let before = told(&world, 0).len();
    world.configure(&traits("keep").replace("name: Orders,", "name: Purchases, key: orders, enabled: false,"));
    let paused = shown(&world);
    let orders = of(&paused, "orders");
    assert_eq!((&orders["needs_sync"], &orders["effect"]), (&json!(false), &Value::Null), "{orders}");
    let fields: Vec<&str> =
        orders["fields"].as_array().unwrap().iter().map(|of| of["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["name", "enabled"]);
    apply(&world, &[]);
    let state = states(&world).await;
    assert_eq!(state, [("orders".into(), "disabled".into()), ("totals".into(), "enabled".into())]);
    assert_eq!(told(&world, before), Vec::<Value>::new());

    world.configure(&traits("keep").replace("name: Orders,", "name: Purchases,"));
    let renamed = shown(&world);
    assert_eq!(
        (&of(&renamed, "purchases")["action"], &of(&renamed, "orders")["action"]),
        (&json!("add"), &json!("remove"))
    );
    assert!(of(&renamed, "purchases")["notes"].to_string().contains("set `key: orders`"), "{renamed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_trait_tells_null_if_it_says_so_and_for_each_of_several_values() {
    let world = world(&traits("exit")).await;
    world.json(&["sync", "--at", AT]);
    let before = told(&world, 0).len();
    world.configure("");
    let people = text(&plan(&world, &[]).stdout);
    assert!(people.contains("3 Identify events (0 with a value, 3 null)"), "{people}");
    let applied = apply(&world, &["--no-sync"]);
    assert_eq!(applied["applied"]["farewells"].as_array().unwrap().len(), 2, "{applied}");
    assert_eq!(told(&world, before).len(), 0, "nothing is sent yet");
    world.json(&["sync"]);
    world.json(&["sync"]);
    let people = ["ann", "bob", "eve"];
    let mut expected: Vec<Value> = people.iter().map(|user| json!([user, {"orders": null}])).collect();
    expected.extend(people.iter().map(|user| json!([user, {"last": null, "revenue": null}])));
    expected.sort_by_key(Value::to_string);
    assert_eq!(told(&world, before), expected);
    let values: i64 = sqlx::query_scalar("select count(*) from trait_values").fetch_one(&world.db.pool).await.unwrap();
    assert_eq!(values, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_trait_that_keeps_is_told_to_nobody() {
    let world = world(&traits("keep").replace("    on_delete: exit\n", "")).await;
    world.json(&["sync", "--at", AT]);
    let before = told(&world, 0).len();
    world.configure("");
    let applied = apply(&world, &[]);
    assert_eq!(applied["applied"]["removed"], json!(["orders", "totals"]));
    assert_eq!(applied["applied"]["farewells"], json!([]));
    assert_eq!(told(&world, before), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computed_trait_that_refers_to_what_is_computed_is_refused_with_each_place() {
    let world = world(
        "
  - {name: Sound, query: \"trait('orders') >= 1\"}
  - {name: Follows, query: \"event('Order Completed').where(trait('deep.x') = 1).count() >= 1\"}
traits:
  - {name: Orders, query: \"event('Order Completed').count()\"}
  - {name: Bad, query: \"event('Order Completed').where(trait('sound') = 'true').count()\"}
  - {name: Deep, query: \"event('Order Completed').where(property('x') = 1 OR property('y') > trait('orders.$')).count()\"}
",
    )
    .await;
    let output = world.run(&["sync", "--at", AT]);
    let said = text(&output.stderr);
    for part in [
        "trait 'bad':1:32",
        "a computed trait cannot refer to 'sound'",
        "trait 'deep':1:69",
        "a computed trait cannot refer to 'orders'",
        "refers to the computed trait 'deep', which cannot be computed",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(told(&world, 0).len(), 6, "the sound ones are told: three people, in one audience with one trait");
}
