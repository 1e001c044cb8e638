//! Postgres and Kafka are restarted under load: everything comes right without a person, and each change is told once.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::embedded::{Embedded, EmbeddedOptions};

use super::{BUYERS, Instance, users};
use crate::{
    support::{
        kafka::{self, Broker, eventually},
        postgres::Database,
    },
    sync::{World, fold, order},
};

/// A Postgres of the test's own, that must lose nothing.
async fn start(folder: &Path) -> Embedded {
    Embedded::start(EmbeddedOptions { folder: folder.to_owned(), durable: true }).await.expect("Postgres starts")
}

/// Stops the server as a power cut would (its immediate mode).
async fn cut_off(postgres: Embedded) {
    let pid = fs::read_to_string(postgres.folder().join("data/postmaster.pid")).unwrap();
    kill(Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()), Signal::SIGQUIT).unwrap();
    postgres.stop().await.unwrap();
}

/// Ends the buying also where the test fails: else it would never end.
struct End<'a>(&'a AtomicUsize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

/// Imports one buyer after the other until told to end; an import that fails is begun again, as a person's script would.
fn buy_on(world: &World, next: &AtomicUsize, ended: &AtomicUsize) {
    while ended.load(Ordering::Relaxed) == 0 {
        let n = next.load(Ordering::Relaxed);
        let lines =
            (n..n + 5).map(|n| order(&format!("u{n}"), &format!("m{n}"), "2024-05-01T00:00:00Z", 1.0).to_string());
        let file = world.folder.path().join(format!("{n}.jsonl"));
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
        eventually("the import succeeds", || {
            let import = world.command(&["import", file.to_str().unwrap()]).output().unwrap();
            import.status.success().then_some(())
        });
        next.store(n + 5, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_kafka_are_restarted_under_load_and_all_comes_right_without_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("pg");
    let mut postgres = Some(start(&data).await);
    kafka::count_this_test();
    let broker = Broker::start(&[]);
    let topic = kafka::topic(&broker.address, "audiences", 3);
    let world = World {
        db: Database::at(postgres.as_ref().unwrap().options()).await,
        topic,
        folder: tempfile::tempdir().unwrap(),
    };
    world.configure_with(BUYERS, &broker.address, &world.topic, "");
    let (mut one, mut other) = (Instance::start(&world, "one", ""), Instance::start(&world, "other", ""));
    let told = || fold(&kafka::read_committed(&broker.address, &world.topic)).remove("buyers").unwrap_or_default();

    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| buy_on(&world, &next, &ended));
        let end = End(&ended);
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            // Between any two restarts something that is new is told.
            let progress = || {
                let before = next.load(Ordering::Relaxed);
                eventually("what came since is told", || (told().len() > before).then_some(()));
            };
            for round in 0..2 {
                progress();
                postgres = runtime.block_on(async {
                    cut_off(postgres.take().unwrap()).await;
                    Some(start(&data).await)
                });
                progress();
                match round {
                    0 => broker.stop(),
                    _ => broker.kill(),
                }
                broker.resurrect();
            }
            progress();
        });
        drop(end);
    });
    let bought = users(0..next.load(Ordering::Relaxed));
    eventually("all are told", || (told() == bought).then_some(()));
    let members = world.run(&["members", "buyers", "--limit", "100000"]);
    assert_eq!(String::from_utf8(members.stdout).unwrap().lines().count(), bought.len(), "the fold is the store's");
    world.verified();
    for instance in [&one, &other] {
        assert!(!instance.log().contains("halted"), "{}", instance.log());
    }
    one.ends_cleanly();
    other.ends_cleanly();
}
