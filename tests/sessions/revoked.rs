//! A right that is taken from a living instance stops what needs it, by name, and nothing once it is given back.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::kafka::eventually,
    sync::World,
};

const PROS: &str = "  - {name: Pros, query: \"trait('plan') = 'pro'\", schedule: every 1s}";

async fn execute(world: &World, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&world.db.pool).await.unwrap();
}

fn become_pro(world: &World, n: usize) {
    world.import(&[
        json!({"type": "identify", "userId": format!("p{n}"), "messageId": format!("p{n}"), "traits": {"plan": "pro"}}),
    ]);
}

fn pros_told(world: &World, count: usize) {
    eventually("pros are told", || (world.fold().get("pros")?.len() == count).then_some(()));
}

/// Fault row 28: permission revoked on one table under a live `serve`, later granted.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_revoked_on_one_table_stops_whoever_needs_it_by_name_until_it_is_granted_again() {
    let world = World::new(&format!("{BUYERS}\n{PROS}")).await;
    let role = format!("rollcall_serving_{}", std::process::id());
    execute(
        &world,
        format!(
            "create role {role} login; grant all on schema public to {role}; grant all on all tables in schema public to {role};
             grant all on all sequences in schema public to {role}"
        ),
    )
    .await;
    buy(&world, 0..2);
    become_pro(&world, 0);
    let mut command = world.command(&["serve", "-v", "--color", "never"]);
    command.env("DATABASE_URL", world.db.url_as(&role));
    let mut instance = Instance::run(&world, "one", command);
    told(&world, &users(0..2));
    pros_told(&world, 1);

    // What one audience reads.
    execute(&world, format!("revoke select on events from {role}")).await;
    instance.logs("permission denied for table events");
    buy(&world, 2..3);
    become_pro(&world, 1);
    pros_told(&world, 2);
    assert_eq!(world.fold()["buyers"], users(0..2), "who bought is not known");
    let reason: Option<String> = sqlx::query_scalar(
        "select reason from schedules join audiences on id = audience_id where key = 'buyers' and schedules.state = 'failed'",
    )
    .fetch_optional(&world.db.pool)
    .await
    .unwrap();
    assert!(reason.is_none_or(|reason| reason.contains("permission denied for table events")));
    execute(&world, format!("grant select on events to {role}")).await;
    told(&world, &users(0..3));

    // What all of them write.
    execute(&world, format!("revoke insert on runs from {role}")).await;
    instance.logs("permission denied for table runs");
    buy(&world, 3..4);
    execute(&world, format!("grant insert on runs to {role}")).await;
    told(&world, &users(0..4));
    assert!(instance.ended().is_none(), "it lives through all of it");
    instance.ends_cleanly();
}
