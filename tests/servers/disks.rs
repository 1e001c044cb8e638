//! Rows 27 and 44: the disk of Postgres is full, and that of Kafka. When there is room again, all goes on.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::world;
use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::{
        kafka::{self, Broker, eventually},
        server::{self, End, Server},
    },
    sync::{World, fold},
};

/// A small disk (a file system in memory), unmounted when dropped.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn mount(mebibytes: u32) -> Disk {
        let folder = server::folder();
        let size = format!("size={mebibytes}m,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "rollcall-test"]).arg(folder.path()).output();
        let mounted = mounted.expect("mount runs");
        assert!(
            mounted.status.success(),
            "this test fills a disk of its own: it mounts a tmpfs, which only root may do (in a container, with CAP_SYS_ADMIN). {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Disk { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open does not keep it.
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_postgres_loses_nothing_and_all_goes_on_when_there_is_room() {
    let disk = Disk::mount(256);
    let mut server = Server::start(&disk.path().join("pg")).await;
    let world = world(&server, "small", BUYERS).await;
    buy(&world, 0..5);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..5));

    // Data: tables cannot grow. Whoever brings more is told so, and what he brought is not half there.
    disk.fill();
    let file = world.folder.path().join("many.jsonl");
    let pad = "x".repeat(8_000);
    let lines = (5..505).map(|n| {
        serde_json::json!({"type": "track", "event": "Order Completed", "userId": format!("u{n}"), "messageId": format!("m{n}"),
               "timestamp": "2024-05-01T00:00:00Z", "properties": {"revenue": 1, "pad": format!("{n}{pad}")}})
        .to_string()
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let refused = world.run(&["import", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    // Log: not even what is known already can be changed. The server gives up, as it must.
    let log = disk.path().join("pg/log");
    eventually("the server has no room for its log", || {
        let next_segment = "select pg_switch_wal(); create temp table t (); select pg_switch_wal()";
        kafka::block_on(server.try_execute(next_segment)).ok();
        fs::read_to_string(&log).ok()?.contains("PANIC").then_some(())
    });
    assert!(fold(&world.told())["buyers"] == users(0..5), "nobody else is told");

    disk.free();
    server.end(End::Killed).await;
    server.start_again().await;
    let again = world.run(&["import", file.to_str().unwrap()]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    told(&world, &users(0..505));
    assert!(!instance.log().contains("halted"), "{}", instance.log());
    instance.ends_cleanly();
    world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_kafka_loses_and_repeats_nothing_and_all_goes_on_when_there_is_room() {
    kafka::count_this_test();
    let disk = Disk::mount(64);
    let broker = Broker::start(&[("log.dirs", disk.path().join("kafka").to_str().unwrap())]);
    let mut world = World::new(BUYERS).await;
    world.topic = kafka::topic(&broker.address, "audiences", 1);
    world.configure_with(BUYERS, &broker.address, &world.topic, "");
    let told = || fold(&kafka::read_committed(&broker.address, &world.topic)).remove("buyers");
    buy(&world, 0..5);
    let mut instance = Instance::start(&world, "one", "");
    eventually("some are told", || (told()? == users(0..5)).then_some(()));

    disk.fill();
    buy(&world, 5..1_000);
    eventually("the broker finds no room", || broker.log().contains("No space left on device").then_some(()));
    // Kafka gives a full disk up: once there is room, somebody starts it again.
    broker.kill();
    disk.free();
    broker.resurrect();
    eventually("all are told", || (told()? == users(0..1_000)).then_some(()));
    assert!(!instance.log().contains("halted"), "{}", instance.log());
    instance.ends_cleanly();
    world.verified();
}
