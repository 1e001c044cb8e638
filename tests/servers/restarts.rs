//! Rows 18 and 19: Postgres ends amid a seal, a page or a mirror; in order, at once, or by `kill -9` with all its children.

use nix::sys::signal::Signal;

use super::world;
use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::server::{self, End, Server},
};

/// Where an instance stands as its database ends.
const AIMS: [(&str, &str); 5] = [
    ("evaluating", "amid_answer"),
    ("sealing", "before_seal"),
    ("sealed", "after_seal"),
    ("reading_a_page", "after_begin"),
    ("mirroring", "after_commit"),
];

#[tokio::test(flavor = "multi_thread")]
async fn postgres_ends_amid_a_seal_a_page_or_a_mirror_and_each_change_is_told_once() {
    let folder = server::folder();
    let mut server = Server::start(&folder.path().join("pg")).await;
    let mut worlds = Vec::new();
    for (name, point) in AIMS {
        worlds.push((world(&server, name, BUYERS).await, point));
    }
    for (round, how) in [End::Fast, End::Immediate, End::Killed].into_iter().enumerate() {
        let bought = users(0..(round + 1) * 5);
        let mut instances = Vec::new();
        for (world, point) in &worlds {
            buy(world, round * 5..(round + 1) * 5);
            let name = format!("{point}-{round}");
            instances.push(Instance::start(world, &name, &format!("{point}:stop")));
        }
        instances.iter().for_each(Instance::wait_until_stopped);
        server.end(how).await;
        server.start_again().await;
        instances.iter().for_each(|instance| instance.signal(Signal::SIGCONT));
        for ((world, point), instance) in worlds.iter().zip(&mut instances) {
            told(world, &bought);
            assert!(!instance.log().contains("halted"), "{how:?} at {point}: {}", instance.log());
            instance.ends_cleanly();
            world.verified();
            let members = world.run(&["members", "buyers"]);
            let members = String::from_utf8(members.stdout).unwrap();
            assert_eq!(members.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>(), bought);
        }
    }
}
