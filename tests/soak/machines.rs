//! What can die: instances of `serve`, their Postgres, and the brokers; each comes back by itself after a while.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::embedded::{Embedded, EmbeddedOptions};
use tokio::runtime::Handle;

use super::{
    Done, Size, count,
    reader::{Reader, Seen},
};
use crate::{
    serve::Instance,
    support::{
        cluster::Cluster,
        dice::Dice,
        kafka::{self, Broker, eventually},
        postgres::Database,
    },
    sync::World,
};

/// Who is in how far by numbers that change all the time; one of them is held now and then, for the operator to release.
fn audiences(size: &Size) -> String {
    let audience = |name: &str, query: &str, guard: &str| {
        format!("  - {{name: {name}, query: \"{query}\", schedule: every 1s, guard: {guard}}}\n")
    };
    let guard = format!("{{max_changes: {}}}", size.people / 5);
    let mut audiences = [
        audience("Buyers", "event('Order Completed').count() >= 1", "off"),
        audience("Guarded", "trait('n0') = 3", &guard),
    ]
    .concat();
    for n in 0..size.traits {
        audiences += &audience(&format!("High{n}"), &format!("trait('n{n}') >= 2"), "off");
        audiences += &audience(&format!("Low{n}"), &format!("trait('n{n}') = 1"), "off");
    }
    audiences
}

pub struct Machines {
    pub world: World,
    pub brokers: Vec<Broker>,
    pub addresses: String,
    postgres: Option<Embedded>,
    folder: tempfile::TempDir,
    instances: Vec<Slot>,
    started: u64,
    /// The longest pause.
    pause_ms: usize,
}

/// A place for an instance, and until when it is stopped.
struct Slot {
    instance: Instance,
    stopped: Option<Instant>,
}

async fn postgres(folder: &Path) -> Embedded {
    let deadline = Instant::now() + kafka::PATIENCE;
    loop {
        match Embedded::start(EmbeddedOptions { folder: folder.join("pg"), durable: true }).await {
            Ok(postgres) => return postgres,
            // What a killed server has left behind may take a moment to go.
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

impl Machines {
    pub async fn start(size: Size) -> Machines {
        let folder = tempfile::tempdir().unwrap();
        let postgres = postgres(folder.path()).await;
        let (brokers, addresses, topic) = match size.brokers {
            1 => {
                let broker = Broker::start(&[]);
                let (address, topic) = (broker.address.clone(), kafka::topic(&broker.address, "audiences", 3));
                (vec![broker], address, topic)
            }
            _ => {
                let cluster = Cluster::start();
                let (addresses, topic) = (cluster.address(), cluster.topic("audiences", 3, "2"));
                (cluster.brokers, addresses, topic)
            }
        };
        let db = Database::at(postgres.options()).await;
        let world = World { db, topic, folder: tempfile::tempdir().unwrap() };
        let tracking = "\ntracking: {listen: \"127.0.0.1:0\"}";
        world.configure_with(&audiences(&size), &addresses, &world.topic, tracking);
        let mut machines = Machines {
            world,
            brokers,
            addresses,
            postgres: Some(postgres),
            folder,
            instances: Vec::new(),
            started: 0,
            pause_ms: size.pause_seconds as usize * 1_000,
        };
        for _ in 0..size.instances {
            let instance = machines.instance();
            machines.instances.push(Slot { instance, stopped: None });
        }
        machines
    }

    /// The logs of all instances are named after the order in which they were started.
    fn instance(&mut self) -> Instance {
        self.started += 1;
        let command = self.world.command(&["serve", "--color", "never"]);
        Instance::run(&self.world, &format!("instance-{}", self.started), command)
    }

    /// The folder in which instances write their logs.
    pub fn logs(&self) -> PathBuf {
        self.world.folder.path().to_owned()
    }

    /// Lets time pass: whoever has slept enough wakes up, whoever has ended begins anew.
    pub fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for slot in 0..self.instances.len() {
                let of = &mut self.instances[slot];
                if of.stopped.is_some_and(|until| Instant::now() >= until) {
                    of.instance.signal(Signal::SIGCONT);
                    of.stopped = None;
                }
                if of.instance.ended().is_some() {
                    self.replace(slot);
                }
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn replace(&mut self, slot: usize) {
        let instance = self.instance();
        let before = std::mem::replace(&mut self.instances[slot], Slot { instance, stopped: None });
        let log = before.instance.log();
        assert!(!log.contains("panicked at"), "{log}");
        drop(before);
    }

    pub fn kill(&mut self, dice: &mut Dice, done: &Done) {
        let slot = dice.below(self.instances.len());
        self.instances[slot].instance.signal(Signal::SIGKILL);
        count(&done.kills);
        eventually("it is dead", || self.instances[slot].instance.ended());
        // Half of the time nobody waits for its leases to end: safety does not rest on them.
        if dice.one_in(2) {
            let end = sqlx::query("update leases set expires_at = clock_timestamp()").execute(&self.world.db.pool);
            drop(tokio::task::block_in_place(|| Handle::current().block_on(end)));
        }
        self.replace(slot);
    }

    pub fn pause(&mut self, dice: &mut Dice, done: &Done) {
        let slot = dice.below(self.instances.len());
        let longest = self.pause_ms;
        let of = &mut self.instances[slot];
        if of.stopped.is_none() {
            of.instance.signal(Signal::SIGSTOP);
            of.stopped = Some(Instant::now() + Duration::from_millis(1_000 + dice.below(longest) as u64));
            count(&done.pauses);
        }
    }

    /// Stops Postgres as a power cut would: by its immediate mode, or with SIGKILL for it and all its children.
    pub fn restart_postgres(&mut self, immediate: bool, done: &Done) {
        let postgres_before = self.postgres.take().expect("it runs");
        let pid = fs::read_to_string(postgres_before.folder().join("data/postmaster.pid")).unwrap();
        let pid: i32 = pid.lines().next().unwrap().trim().parse().unwrap();
        match immediate {
            true => kill(Pid::from_raw(pid), Signal::SIGQUIT).unwrap(),
            false => std::iter::once(pid).chain(children(pid)).for_each(|pid| {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }),
        }
        let folder = self.folder.path().to_owned();
        self.postgres = Some(Handle::current().block_on(async {
            postgres_before.stop().await.unwrap();
            postgres(&folder).await
        }));
        count(&done.postgres);
    }

    pub fn bounce_a_broker(&mut self, dice: &mut Dice, done: &Done) {
        let broker = &self.brokers[dice.below(self.brokers.len())];
        match dice.one_in(3) {
            true => broker.stop(),
            false => broker.kill(),
        }
        broker.resurrect();
        count(&done.brokers);
    }

    /// Asks all instances to read their configuration anew.
    pub fn reload(&self) {
        let awake = self.instances.iter().filter(|slot| slot.stopped.is_none());
        awake.for_each(|slot| slot.instance.signal(Signal::SIGHUP));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.world.command(args)
    }

    /// Whoever is stopped goes on, and nothing goes wrong any more.
    pub fn heal(&mut self) {
        for slot in &mut self.instances {
            if slot.stopped.take().is_some() {
                slot.instance.signal(Signal::SIGCONT);
            }
        }
        self.wait(Duration::from_millis(100));
    }

    /// Waits until everything is told, held runs are released, and the reader has seen it all.
    pub fn come_to_rest(&mut self, reader: &Reader, patience: Duration) {
        let until = Instant::now() + patience;
        let mut quiet = 0;
        while quiet < 5 {
            self.wait(Duration::from_secs(1));
            reader.is_fine();
            drop(self.command(&["release", "guarded"]).output());
            let is_told = self.is_told();
            quiet = if is_told && reader.is_at_end() { quiet + 1 } else { 0 };
            assert!(Instant::now() < until, "I9: it does not come to rest: {}", self.status());
        }
    }

    fn is_told(&self) -> bool {
        let untold = sqlx::query_scalar(
            "select count(*) from destinations d left join deliveries v on v.destination_id = d.id
             where coalesce(v.cursor_position, 0) < d.next_position or v.state = 'halted'
                or exists (select from backfills where state = 'running')",
        );
        let untold: Result<i64, _> = Handle::current().block_on(untold.fetch_one(&self.world.db.pool));
        untold.is_ok_and(|untold| untold == 0)
    }

    fn status(&self) -> String {
        String::from_utf8_lossy(&self.command(&["status"]).output().unwrap().stdout).into_owned()
    }

    /// Who adds up what was told has what the store says; and the topics say what the log says.
    pub fn add_up(&self, seen: &Seen) {
        let verified = self.command(&["verify"]).output().unwrap();
        let said = [verified.stdout, verified.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        println!("{said}");
        assert!(verified.status.success(), "{said}");
        for key in ["high0", "low0", "buyers"] {
            let members = self.command(&["members", key, "--limit", "10000000"]).output().unwrap();
            assert!(members.status.success(), "{}", String::from_utf8_lossy(&members.stderr));
            let store: BTreeSet<String> =
                String::from_utf8(members.stdout).unwrap().lines().map(str::to_owned).collect();
            let told = seen.members.get(key).cloned().unwrap_or_default();
            let differ: Vec<_> = store.symmetric_difference(&told).take(10).collect();
            assert!(differ.is_empty(), "{key}: {} in the store, {} told, as {differ:?}", store.len(), told.len());
        }
    }

    pub fn end(mut self) {
        for slot in &mut self.instances {
            slot.instance.ends_cleanly();
            assert!(!slot.instance.log().contains("panicked at"), "{}", slot.instance.log());
        }
        self.instances.clear();
    }
}

/// The processes whose parent is `parent`.
fn children(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `4711 (postgres) S 4700 …`
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&parent.to_string())
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
