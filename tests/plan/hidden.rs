//! Names that would hide something, names that nothing has, and definitions that cannot be computed: told before anything is done.

use serde_json::{Value, json};

use super::{AT, plan, text};
use crate::sync::World;

const PROS: &str = "  - {name: Pros, query: \"trait('plan') = 'pro'\"}\n";

/// Three people with a plan, one of them a professional.
async fn people() -> World {
    let world = World::new(PROS).await;
    let identify = |user: &str, plan: &str| json!({"type": "identify", "userId": user, "messageId": user, "timestamp": "2024-01-01", "traits": {"plan": plan, "vip": "true"}});
    world.import(&[identify("ann", "pro"), identify("bob", "free"), identify("eve", "free")]);
    world.json(&["sync", "--at", AT]);
    world
}

fn members(world: &World, key: &str) -> usize {
    text(&world.run(&["members", key]).stdout).lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_named_like_an_imported_trait_is_refused_with_how_many_carry_it_unless_it_is_meant() {
    let world = people().await;
    let before = members(&world, "pros");
    let named = |more: &str| format!("{PROS}  - {{name: Plan, query: \"event('Seen').count() >= 1\"{more}}}\n");
    world.configure(&named(""));
    for verb in [&["plan"][..], &["apply", "--yes"], &["check"], &["sync", "--at", AT]] {
        let output = world.run(verb);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{verb:?}: {said}");
        let said = said.replace(['│', '\n'], "").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("(profiles that have it: 3)"), "{verb:?}: {said}");
    }
    assert_eq!(members(&world, "pros"), before, "who reads the trait goes on reading it");
    world.configure(&named(", key: plan_seen"));
    assert!(world.run(&["apply", "--yes"]).status.success());
    // Meant, it hides the trait; deleted, the trait is read again.
    world.configure(&named(", hides_trait: true"));
    let applied = world.run(&["apply", "--yes"]);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    world.json(&["sync", "--at", AT]);
    world.configure(PROS);
    let applied = world.run(&["apply", "--yes"]);
    assert!(applied.status.success(), "{} {}", text(&applied.stdout), text(&applied.stderr));
    world.json(&["sync", "--at", AT]);
    assert_eq!(members(&world, "pros"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_identifiers_are_refused_and_a_trait_of_its_own_name_is_no_circle() {
    let world = people().await;
    world.configure(
        "  - {name: Email, query: \"event('Seen').count() >= 1\"}\n  - {name: VIP, query: \"trait('vip') = 'true'\"}\n  - {name: VIP, key: vips, query: \"trait('vip') = 'true'\"}\n",
    );
    let output = plan(&world, &[]);
    let said = text(&output.stdout);
    assert!(said.contains("an identifier's name") && said.contains("the name of an imported trait"), "{said}");
    assert!(!said.contains("cycle"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reads_definitions_as_plan_does_and_names_what_nothing_has() {
    let world = people().await;
    world.configure(
        "  - {name: A, query: \"trait('b') = 'true'\"}\n  - {name: B, query: \"trait('a') = 'true'\"}\n  - {name: C, query: \"trait('plann') = 'pro'\"}\n",
    );
    let output = world.run(&["check"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("cycle"), "{said}");
    assert!(said.contains("'plann' has been seen yet (did you mean 'plan'?)"), "{said}");
    let shown: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
    let c = shown["audiences"].as_array().unwrap().iter().find(|of| of["key"] == "c").unwrap();
    assert!(c["notes"].to_string().contains("did you mean 'plan'?"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_changed_audience_stands_in_the_plan_where_nobody_is_told() {
    let world = people().await;
    let audiences = |plan: &str| {
        let text = format!(
            "audiences:\n  - {{name: Pros, query: \"trait('plan') = '{plan}'\"}}\n  - {{name: Others, query: \"NOT trait('pros') = 'true'\"}}\n"
        );
        std::fs::write(world.folder.path().join("rollcall.yaml"), text).unwrap();
    };
    audiences("pro");
    assert!(world.run(&["apply", "--yes"]).status.success());
    world.json(&["sync", "--at", AT]);
    audiences("free");
    let shown: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
    let keys: Vec<&str> = shown["audiences"].as_array().unwrap().iter().map(|of| of["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["pros", "others"], "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_comparison_decides_about_since_they_lack_the_trait_is_counted() {
    let world = people().await;
    let anybody =
        |user: &str| json!({"type": "identify", "userId": user, "messageId": user, "timestamp": "2024-01-01"});
    world.import(&[anybody("dan"), anybody("zoe")]);
    for (query, left_out, counted_in, said) in [
        (
            "trait('plan') != 'pro'",
            2,
            0,
            "`trait('plan') != 'pro'` leaves out 2 people who have no 'plan': to count them in, write `NOT trait('plan') = 'pro'` instead",
        ),
        ("NOT trait('plan') = 'pro'", 0, 2, "counts in 2 people who have no 'plan'"),
        ("trait('plan').none_of('pro', 'team')", 0, 2, "trait('plan').exists()` instead"),
        ("trait('plan').omits('pro')", 0, 2, "counts in 2 people"),
        ("NOT trait('plan') != 'pro'", 0, 2, "write `NOT trait('plan') = 'pro'` instead"),
        // Of these somebody else decides, or nobody lacks it.
        ("trait('plan') != 'pro' AND trait('plan').exists()", 0, 0, ""),
        ("trait('plan') = 'pro'", 0, 0, ""),
        ("NOT trait('pros') = 'true'", 0, 0, ""),
        ("trait('plan') != 'pro' OR trait('plan').absent()", 0, 0, ""),
    ] {
        let preview = world.json(&["preview", query]);
        let missing = preview["missing"].as_array().unwrap();
        let sum = |what: &str| missing.iter().map(|of| of[what].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("left_out"), sum("counted_in")), (left_out, counted_in), "{query}: {preview}");
        let shown = text(&world.run(&["preview", query]).stdout);
        assert!(shown.contains(said) && (said.is_empty() != shown.contains("have no")), "{query}: {shown}");
        world.configure(&format!("{PROS}  - {{name: Others, query: \"{query}\"}}\n"));
        let planned: Value = serde_json::from_slice(&plan(&world, &["--json"]).stdout).unwrap();
        let others = planned["audiences"].as_array().unwrap().iter().find(|of| of["key"] == "others").unwrap();
        assert_eq!(others["notes"].to_string().contains("who have no 'plan'"), !said.is_empty(), "{query}: {planned}");
        assert!(text(&plan(&world, &[]).stdout).contains(said));
    }
    // What it says instead does what it says.
    let members = |query: &str| world.json(&["preview", query])["members"].clone();
    assert_eq!((members("trait('plan') != 'pro'"), members("NOT trait('plan') = 'pro'")), (json!(2), json!(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn preview_names_what_nothing_has() {
    let world = people().await;
    world.import(&[json!({"type": "track", "event": "Seen", "userId": "ann", "messageId": "seen"})]);
    for (query, hint) in [
        (&["trait('plann') = 'pro'"][..], "no trait 'plann' has been seen yet (did you mean 'plan'?)"),
        (&["event('Sen').count() > 1"], "no event 'Sen' has been seen yet (did you mean 'Seen'?)"),
        (&["--trait", "event('Sen').count()"], "no event 'Sen' has been seen yet (did you mean 'Seen'?)"),
    ] {
        let args: Vec<&str> = ["preview"].iter().chain(query).copied().collect();
        assert_eq!(world.json(&args)["warnings"], json!([hint]));
        assert!(text(&world.run(&args).stdout).contains(&format!("perhaps a mistake: {hint}")));
    }
    assert_eq!(world.json(&["preview", "trait('plan') = 'pro' AND trait('pros') = 'true'"])["warnings"], json!([]));
}
