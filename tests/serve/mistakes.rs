//! What looks like a mistake and need not be one: said once.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use super::Instance;
use crate::sync::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_mistake_is_logged_once_and_again_only_when_a_reload_changes_it() {
    let audiences = |query: &str| format!("  - {{name: Pros, query: \"{query}\", schedule: every 1s}}\n");
    let world = World::new(&audiences("trait('plann') = 'pro'")).await;
    world.import(&[json!({"type": "identify", "userId": "ann", "messageId": "1", "traits": {"plan": "pro"}})]);
    let mut instance = Instance::start(&world, "one", "");
    let said = "no trait 'plann' has been seen yet (did you mean 'plan'?)";
    instance.logs(said);
    // Another schedule is another configuration with the same mistake.
    let path = world.folder.path().join("rollcall.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("every 1s", "every 2s")).unwrap();
    instance.signal(Signal::SIGHUP);
    instance.logs("works by the new configuration");
    world.configure(&audiences("trait('plam') = 'pro'"));
    instance.signal(Signal::SIGHUP);
    instance.logs("no trait 'plam' has been seen yet");
    assert_eq!(instance.log().matches(said).count(), 1, "{}", instance.log());
    instance.ends_cleanly();
}
