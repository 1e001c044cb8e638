//! The program is killed while it erases somebody: told once, erased whole, and gone for good.

use rollcall::profile::{forget, lookup::Identifier, rules::Rules};
use serde_json::{Value, json};

use super::{BUYERS, Instance, buy, told, users};
use crate::{
    support::{
        faults::{Way, assert_all_named},
        kafka::eventually,
    },
    sync::{World, order},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_being_erased_as_the_program_dies_is_erased_when_it_is_back_and_told_false_once() {
    let world = World::new(BUYERS).await;
    buy(&world, 0..4);
    let deaths = ["before_erased:abort", "after_erased:abort"];
    assert_all_named(Way::Forget, &deaths);
    for (n, fault) in deaths.into_iter().enumerate() {
        let user = format!("u{n}");
        let mut one = Instance::start(&world, fault, fault);
        told(&world, &users(n..4));
        // As a request that nobody waits for: it is the program's to go on with.
        forget::request(&world.db.pool, &Identifier::of(&user, &Rules::default()), false).await.unwrap();
        eventually("it dies", || one.ended());
        let list = world.json(&["forget", "--list"]);
        let state = if n == 0 { "told" } else { "erased" };
        assert_eq!(list[0]["state"], state, "it was to die {fault}: {}", one.log());
        told(&world, &users(n + 1..4));

        world.leases_end().await;
        let mut other = Instance::start(&world, "other", "");
        let list: Value = eventually("she is erased", || {
            let list = world.json(&["forget", "--list"]);
            (list[0]["state"] == "erased").then_some(list)
        });
        for table in ["profiles", "identifiers", "events"] {
            assert_eq!(list[0]["report"]["tables"][table], json!({"before": 1, "after": 0}), "{table}");
        }
        // Nothing brings her back, and whoever adds up what was told hears nothing of her again.
        world.import(&[
            order(&user, &format!("again{n}"), "2024-05-02T00:00:00Z", 1.0),
            order(&format!("u{}", 10 + n), &format!("other{n}"), "2024-05-02T00:00:00Z", 1.0),
        ]);
        let there = users((n + 1..4).chain([10 + n]));
        told(&world, &there);
        other.ends_cleanly();
        world.json(&["forget", &format!("u{}", 10 + n)]);
        let left: i64 = sqlx::query_scalar("select count(*) from identifiers where value = $1")
            .bind(&user)
            .fetch_one(&world.db.pool)
            .await
            .unwrap();
        assert_eq!(left, 0);
        world.leases_end().await;
    }
}
