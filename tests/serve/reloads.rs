//! A changed configuration, taken in while `serve` works.

use std::{collections::BTreeMap, fs};

use nix::sys::signal::Signal;

use super::{BUYERS, Instance, buy, told, users};
use crate::{
    support::kafka::{self, eventually},
    sync::{World, fold},
};

/// One destination of this topic; what is told as the space's id stands in a file, as a secret does.
pub fn configure(world: &World, topic: &str, audiences: &str) {
    let cursors = &world.topic;
    let text = format!(
        "space_id: \"${{file:space}}\"\nhttp: {{listen: \"127.0.0.1:0\"}}\ndestinations:\n  kafka:\n    settings: {{brokers: \"{}\", mechanism: none, ssl_enabled: false, \
         clientId: \"${{file:client}}\"}}\n    cursor_topic: {cursors}.cursors\n    mappings:\n      - {{name: all, mapping: \
         {{topic: \"{topic}\", payload: {{\"@path\": $.}}}}}}\naudiences:\n{audiences}\n",
        kafka::broker()
    );
    fs::write(world.folder.path().join("rollcall.yaml"), text).unwrap();
}

/// How many records name which space.
pub fn spaces(world: &World) -> BTreeMap<String, usize> {
    let mut spaces = BTreeMap::new();
    for record in kafka::read_committed(kafka::broker(), &world.topic) {
        let event: serde_json::Value = serde_json::from_slice(&record.value.expect("a value")).expect("JSON");
        *spaces.entry(event["context"]["personas"]["space_id"].as_str().expect("a space").to_owned()).or_default() += 1;
    }
    spaces
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_or_setting_or_audience_takes_effect_on_sighup_and_a_wrong_one_is_refused() {
    let world = World::new(BUYERS).await;
    let file = |name: &str, text: &str| fs::write(world.folder.path().join(name), text).unwrap();
    file("client", "first");
    file("space", "spa_first");
    configure(&world, &world.topic, BUYERS);
    buy(&world, 0..2);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..2));

    // Only the file is another; the configuration is the same text.
    file("space", "spa_second");
    instance.signal(Signal::SIGHUP);
    instance.logs("works by the new configuration");
    buy(&world, 2..4);
    told(&world, &users(0..4));
    assert_eq!(spaces(&world), [("spa_first".to_owned(), 2), ("spa_second".to_owned(), 2)].into());

    configure(&world, &world.topic, "  - {name: Buyers, querry: x}");
    instance.signal(Signal::SIGHUP);
    instance.logs("the new configuration is refused");
    assert!(instance.log().contains("querry"), "its problems are logged:\n{}", instance.log());
    let broken =
        format!("{BUYERS}\n  - {{name: Big, query: \"event('Order Completed').cuont() >= 1\", schedule: every 1s}}");
    configure(&world, "no topic of Kafka's: !", &broken);
    instance.signal(Signal::SIGHUP);
    instance.logs("wrong in the new configuration");
    assert!(instance.log().contains("count"), "the nearest name is proposed:\n{}", instance.log());

    let second = kafka::topic(kafka::broker(), "second", 1);
    configure(&world, &second, &broken.replace("cuont", "count"));
    instance.signal(Signal::SIGHUP);
    eventually("the new audience is told", || {
        let fold = fold(&kafka::read_committed(kafka::broker(), &second));
        (fold.get("big")? == &users(0..4) && !fold.contains_key("buyers")).then_some(())
    });
    instance.ends_cleanly();
}
