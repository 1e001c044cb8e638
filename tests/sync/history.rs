//! What was true after earlier runs, and what changed between any two of them.

use serde_json::{Value, json};

use super::{RECENT, World, order};

const KEY: &str = "order_completed_last_30days";

/// Three runs: ann and bob; then eve instead of ann; then eve alone.
async fn three_runs() -> (World, Vec<i64>) {
    let world = World::new(RECENT).await;
    world.import(&[order("ann", "1", "2024-05-01T00:00:00Z", 10.0), order("bob", "2", "2024-05-20T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-05-21"]);
    world.import(&[order("eve", "3", "2024-06-01T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-06-02"]);
    world.json(&["sync", "--at", "2024-06-25"]);
    let runs = world.json(&["runs", KEY]);
    let mut runs: Vec<i64> = runs.as_array().unwrap().iter().map(|run| run["run"].as_i64().unwrap()).collect();
    runs.reverse();
    (world, runs)
}

fn diff(world: &World, args: &[&str]) -> (Value, Value, Vec<String>) {
    let report = world.json(&[&["diff", KEY], args].concat());
    let people = report["people"].as_array().unwrap().iter();
    let people = people
        .map(|person| format!("{} {}", person["change"].as_str().unwrap(), person["user_id"].as_str().unwrap()))
        .collect();
    (report["from"]["run"].clone(), report["to"]["run"].clone(), people)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_says_who_entered_and_who_left_between_any_two_runs() {
    let (world, runs) = three_runs().await;
    let [first, second, third] = runs[..] else { panic!("{runs:?}") };
    let span = |from: i64, to: i64| format!("{from}..{to}");
    let people = |people: &[&str]| people.iter().map(|person| (*person).to_owned()).collect::<Vec<_>>();

    assert_eq!(diff(&world, &[]), (json!(second), json!(third), people(&["exited bob"])), "what the last run changed");
    let began = diff(&world, &[&first.to_string()]);
    assert_eq!(began, (Value::Null, json!(first), people(&["entered ann", "entered bob"])), "before it was nothing");
    let all = people(&["entered eve", "exited ann", "exited bob"]);
    assert_eq!(diff(&world, &[&span(first, third)]), (json!(first), json!(third), all.clone()));
    assert_eq!(diff(&world, &[&format!("{first}..")]), (json!(first), json!(third), all.clone()));
    assert_eq!(diff(&world, &["..", "--only", "entered"]), (json!(first), json!(third), people(&["entered eve"])));
    let back = people(&["entered ann", "entered bob", "exited eve"]);
    assert_eq!(diff(&world, &[&span(third, first)]), (json!(third), json!(first), back), "backwards as well");

    let text = world.run(&["diff", KEY, &span(first, third), "--limit", "1"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("1 entered, 2 exited") && text.contains("+ eve") && text.contains("- ann"), "{text}");
    assert!(!text.contains("bob"), "one of each side: {text}");

    let unknown = world.run(&["diff", KEY, "900..901"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("no accepted run 901"));
    let listed = world.json(&["runs", KEY]);
    assert_eq!((&listed[0]["scheduled_for"], &listed[0]["attempt"]), (&Value::Null, &Value::Null), "by hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_past_retention_is_said_to_be_and_the_rest_of_the_history_stays_whole() {
    let (world, runs) = three_runs().await;
    let days = |run: i64, days: i32| {
        let pool = world.db.pool.clone();
        async move {
            let older = "update runs set sealed_at = sealed_at - make_interval(days => $2) where id = $1";
            sqlx::query(older).bind(run).bind(days).execute(&pool).await.unwrap();
        }
    };
    days(runs[0], 100).await;
    days(runs[1], 80).await;
    world.configure(&format!("{RECENT}\nretention: {{runs: 90d}}\n"));
    let dry = world.json(&["prune", "--dry-run"]);
    assert_eq!((&dry["dropped"][0]["of"], &dry["dropped"][0]["rows"]), (&json!(KEY), &json!(1)), "{dry}");
    assert_eq!(world.json(&["runs", KEY]).as_array().unwrap().len(), 3, "a dry run drops nothing");

    let pruned = world.json(&["prune"]);
    assert_eq!(pruned["dropped"][0]["rows"], 1, "{pruned}");
    let gone = world.run(&["members", KEY, "--run", &runs[0].to_string()]);
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(said.contains("not kept any more") && said.contains(&runs[1].to_string()), "{said}");
    let before = world.run(&["diff", KEY, &runs[1].to_string()]);
    assert!(String::from_utf8(before.stderr).unwrap().contains("not kept any more"));
    assert_eq!(diff(&world, &[]).2, ["exited bob"], "what is kept is still whole");

    // However old: an audience's last run stays, and with it the log at the cursor.
    days(runs[1], 100).await;
    days(runs[2], 200).await;
    assert_eq!(world.json(&["prune"])["dropped"][0]["rows"], 1);
    assert_eq!(world.json(&["runs", KEY]).as_array().unwrap().len(), 1);
    // Delivery goes on from its cursor, over the part of the log that is left.
    world.import(&[order("joe", "4", "2024-06-24T00:00:00Z", 10.0)]);
    world.json(&["sync", "--at", "2024-06-26"]);
    assert_eq!(world.fold()[KEY], super::users(["eve", "joe"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_starts_over_without_its_whole_log_is_told_every_membership() {
    let (world, runs) = three_runs().await;
    let older = "update runs set sealed_at = sealed_at - interval '100 days' where id < $1";
    sqlx::query(older).bind(runs[2]).execute(&world.db.pool).await.unwrap();
    let topic = crate::support::kafka::topic(crate::support::kafka::broker(), "again", 1);
    let configured = format!("{RECENT}\nretention: {{runs: 90d}}\n");
    world.configure(&configured);
    assert_eq!(world.json(&["prune"])["dropped"][0]["rows"], 2);
    let said = world.json(&["unhalt", "kafka", "--start-over"]);
    assert!(said["decided"].as_str().unwrap().contains("past retention"), "{said}");

    world.configure_with(&configured, crate::support::kafka::broker(), &topic, "");
    world.json(&["sync", "--at", "2024-06-25"]);
    let told = crate::support::kafka::read_committed(crate::support::kafka::broker(), &topic);
    assert_eq!(super::fold(&told)[KEY], super::users(["eve"]), "all members, and nobody else");
    assert_eq!(world.json(&["status"])["destinations"][0]["state"], "live");
}
