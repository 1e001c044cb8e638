//! Rows 24 and 26: a standby takes the place of the primary; with all that was sealed, or without the last of it.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use clap::CommandFactory as _;
use rollcall::cli::Cli;
use tempfile::TempDir;

use super::world_at;
use crate::{
    serve::{BUYERS, Instance, buy, told, users},
    support::{
        kafka::{self, eventually},
        server::{self, End, Server},
    },
    sync::World,
};

/// A primary and its standby, behind an address that moves from one to the other.
struct Pair {
    world: World,
    primary: Server,
    standby: Server,
    address: PathBuf,
    _folder: TempDir,
}

impl Pair {
    async fn start(audiences: &str) -> Pair {
        let folder = server::folder();
        let primary = Server::start(&folder.path().join("one")).await;
        let address = folder.path().join("address");
        symlink(primary.options().get_socket().unwrap(), &address).unwrap();
        let world = world_at(primary.options().socket(&address), audiences).await;
        let standby = primary.standby(&folder.path().join("two")).await;
        Pair { world, primary, standby, address, _folder: folder }
    }

    /// Waits until the standby has all that the primary has.
    async fn catch_up(&self) {
        let end: String = self.primary.ask("select pg_current_wal_flush_lsn()::text").await;
        self.standby.until(&format!("select pg_last_wal_replay_lsn() >= '{end}'")).await;
    }

    /// From now on nothing reaches the standby.
    async fn cut(&self) {
        self.standby.execute("alter system set primary_conninfo = ''".into()).await;
        self.standby.execute("select pg_reload_conf()".into()).await;
        self.standby.until("select not exists (select from pg_stat_wal_receiver)").await;
    }

    fn move_address(&self) {
        fs::remove_file(&self.address).unwrap();
        symlink(self.standby.options().get_socket().unwrap(), &self.address).unwrap();
    }

    fn halt_reason(&self) -> Option<String> {
        let status = self.world.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        status["destinations"][0]["halt_reason"].as_str().map(str::to_owned)
    }

    fn sent(&self) -> usize {
        kafka::read_uncommitted(kafka::broker(), &self.world.topic).len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_a_run_that_was_told_halts_as_cursor_ahead_and_nothing_is_told_on_a_guess() {
    let mut pair = Pair::start("  - {name: Buyers, query: \"event('Order Completed').count() >= 1\"}").await;
    buy(&pair.world, 0..3);
    // A session that lives on tells what `sync` seals.
    let mut instance = Instance::start(&pair.world, "one", "");
    pair.world.json(&["sync"]);
    told(&pair.world, &users(0..3));
    buy(&pair.world, 3..6);
    pair.catch_up().await;
    pair.cut().await;
    pair.world.json(&["sync"]);
    told(&pair.world, &users(0..6));
    let sent = pair.sent();

    pair.primary.end(End::Killed).await;
    pair.standby.execute("select pg_promote()".into()).await;
    pair.move_address();
    eventually("it halts", || (pair.halt_reason()? == "cursor_ahead").then_some(()));
    let stored = pair.world.run(&["members", "buyers"]);
    assert_eq!(String::from_utf8(stored.stdout).unwrap().lines().count(), 3, "membership and log went back together");
    // The next run finds the three anew. Its place in the log is that of the one that was lost, but it is another one.
    let next = pair.world.run(&["sync"]);
    let said = String::from_utf8_lossy(&next.stderr).into_owned();
    assert_eq!(next.status.code(), Some(6), "{said}");
    eventually("the log is another one", || {
        pair.world.run(&["sync"]);
        (pair.halt_reason()? == "chain_differs").then_some(())
    });
    assert_eq!(pair.sent(), sent, "nothing is told on a guess");
    instance.ends_cleanly();

    assert!(pair.world.run(&["unhalt", "kafka", "--start-over"]).status.success());
    pair.world.json(&["sync"]);
    let fold = crate::sync::fold(&super::of_this_stream(&pair.world).await);
    assert_eq!(fold["buyers"], users(0..6));
    assert_eq!(pair.halt_reason(), None);
    pair.world.verified();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_that_loses_nothing_needs_no_person_and_what_is_not_yet_promoted_is_only_waited_for() {
    let mut pair = Pair::start(BUYERS).await;
    let mut instance = Instance::start(&pair.world, "one", "");
    buy(&pair.world, 0..3);
    told(&pair.world, &users(0..3));
    pair.catch_up().await;
    // Ending in order, it sends all that it has.
    pair.primary.end(End::Fast).await;
    pair.move_address();
    instance.logs("standby");
    pair.standby.execute("select pg_promote()".into()).await;
    buy(&pair.world, 3..6);
    told(&pair.world, &users(0..6));
    assert!(!instance.log().contains("halted"), "{}", instance.log());
    instance.ends_cleanly();
    pair.world.verified();
}

/// Those that ask no database.
const WITHOUT: [&str; 8] = ["demo", "schedule", "health", "topics", "schema", "map", "completions", "bench"];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_needs_the_database_refuses_a_standby_and_says_so() {
    let pair = Pair::start(BUYERS).await;
    buy(&pair.world, 0..1);
    pair.catch_up().await;
    pair.move_address();
    let file = pair.world.folder.path().join("more.jsonl");
    fs::write(&file, "").unwrap();
    let command = Cli::command();
    for verb in command.get_subcommands().map(|verb| verb.get_name()).filter(|verb| !WITHOUT.contains(verb)) {
        let arguments: &[&str] = match verb {
            "import" => &[file.to_str().unwrap()],
            "preview" => &["trait('n').exists()"],
            "explain" => &["buyers", "u0"],
            "members" | "diff" | "resync" | "release" | "discard" => &["buyers"],
            "profile" | "forget" | "suppress" | "unsuppress" => &["u0"],
            "unhalt" => &["kafka", "--start-over"],
            _ => &[],
        };
        let output = pair.world.run(&[&[verb], arguments].concat());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        // What is configured is listed all the same.
        let code = if verb == "audiences" { 0 } else { 4 };
        assert_eq!(output.status.code(), Some(code), "{verb}: {said}");
        assert!(said.contains("is a standby"), "{verb}: {said}");
    }
}
