//! `rollcall serve`, the built program, on real Postgres and Apache Kafka: schedules, several instances, deaths, reloads.

mod bombs;
mod canaries;
mod deaths;
mod failed;
mod fleet;
mod forgetting;
mod idle;
mod lines;
mod mistakes;
mod reloads;
mod restarts;
mod slow;
mod taken_over;
mod together;
mod observed;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rollcall::limits;

use crate::{
    http::operations::get,
    support::kafka::{self, eventually},
    sync::{World, order},
};

pub const BUYERS: &str = "  - {name: Buyers, query: \"event('Order Completed').count() >= 1\", schedule: every 1s}";

/// A running instance; killed when dropped.
pub struct Instance {
    child: Child,
    log: std::path::PathBuf,
}

impl Instance {
    pub fn start(world: &World, name: &str, fault: &str) -> Instance {
        let mut command = world.command(&["serve", "-v", "--color", "never"]);
        command.env("ROLLCALL_FAULT", fault);
        Instance::run(world, name, command)
    }

    /// Any `serve` whose log is kept.
    pub fn run(world: &World, name: &str, mut command: Command) -> Instance {
        let log = world.folder.path().join(format!("{name}.log"));
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Instance { child: command.spawn().unwrap(), log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn logs(&self, text: &str) {
        let deadline = Instant::now() + kafka::PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "'{text}' is not logged:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Where one of its listeners answers, since it began.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let name = format!("listener=\"{listener}\"");
        self.logs(&name);
        let log = self.log();
        let line = log.lines().find(|line| line.contains(&name)).expect("logged");
        line.rsplit_once("address=").expect("its address").1.trim().parse().expect("an address")
    }

    /// Where its listener `http` answers.
    pub fn http(&self) -> String {
        format!("http://{}", self.address("http"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits until it has stopped itself, as its fault says.
    pub fn wait_until_stopped(&self) {
        let status = waitpid(Pid::from_raw(self.child.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{status:?}:\n{}", self.log());
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The most memory that it held so far.
    pub fn peak_kibibytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak");
        line.split_whitespace().nth(1).expect("a number").parse().unwrap()
    }

    /// Asks it to end; how it did, and after how long.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = eventually("it ends", || self.child.try_wait().unwrap());
        (status, asked.elapsed())
    }

    pub fn ends_cleanly(&mut self) {
        let (status, took) = self.terminate();
        assert!(status.success(), "{status}:\n{}", self.log());
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn buy(world: &World, users: impl IntoIterator<Item = usize>) {
    let orders: Vec<_> =
        users.into_iter().map(|n| order(&format!("u{n}"), &format!("m{n}"), "2024-05-01T00:00:00Z", 1.0)).collect();
    world.import(&orders);
}

pub fn users(range: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    range.into_iter().map(|n| format!("u{n}")).collect()
}

/// Waits until exactly these are told to be in; `fold` fails on a change that is told twice.
pub fn told(world: &World, expected: &BTreeSet<String>) {
    eventually("all are told", || (world.fold().get("buyers")? == expected).then_some(()));
}

async fn count(world: &World, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&world.db.pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_are_computed_and_told_by_their_schedule_until_the_program_is_told_to_stop() {
    let world = World::new(BUYERS).await;
    buy(&world, 0..2);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..2));
    buy(&world, 2..3);
    told(&world, &users(0..3));
    assert!(count(&world, "select count(*) from leases").await >= 2);
    instance.ends_cleanly();
    assert_eq!(count(&world, "select count(*) from leases").await, 0, "others need not wait");
    assert_eq!(count(&world, "select count(*) from schedules where state <> 'done'").await, 0);
    let log = instance.log();
    let sealed = |line: &str| ["sealed", "run=", "audience=\"buyers\""].iter().all(|part| line.contains(part));
    assert!(log.lines().any(sealed), "{log}");
    assert!(log.lines().any(|line| line.contains("told") && line.contains("destination=\"kafka\"")), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_seal_each_tick_once_and_tell_each_change_once() {
    let world = World::new(BUYERS).await;
    let (mut one, mut other) = (Instance::start(&world, "one", ""), Instance::start(&world, "other", ""));
    one.logs("scheduled");
    other.logs("scheduled");
    for n in 0..8 {
        buy(&world, n..n + 1);
        told(&world, &users(0..n + 1));
    }
    one.ends_cleanly();
    other.ends_cleanly();
    let runs = count(&world, "select count(*) from runs").await;
    // A tick is a second here, and a run is as of the instant at which its tick was found to be the latest.
    let ticks = count(&world, "select count(distinct date_trunc('second', evaluated_at)) from runs").await;
    assert_eq!(runs, ticks);
    assert!(runs >= 4, "{runs}");
    let sealed = |instance: &Instance| instance.log().matches("sealed").count() as i64;
    assert_eq!(sealed(&one) + sealed(&other), runs);
    let fenced = "another instance has taken over";
    assert!(!one.log().contains(fenced) && !other.log().contains(fenced), "they take turns:\n{}", one.log());
}

/// An instance stops at `point`, and is killed there or wakes up when another has taken over.
fn taken_over(world: &World, point: &str, wakes: bool) {
    buy(world, 0..20);
    let one = Instance::start(world, "one", &format!("{point}:stop"));
    one.wait_until_stopped();
    let mut other = Instance::start(world, "other", "");
    if !wakes {
        one.signal(Signal::SIGKILL);
    }
    let since = Instant::now();
    told(world, &users(0..20));
    let limit = Duration::from_secs(2 * limits::LEASE_SECONDS);
    assert!(since.elapsed() < limit, "{point}: {:?}\n{}", since.elapsed(), other.log());
    if wakes {
        one.signal(Signal::SIGCONT);
    }
    buy(world, 20..25);
    told(world, &users(0..25));
    drop(one);
    buy(world, 25..26);
    told(world, &users(0..26));
    other.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_was_telling_is_taken_over() {
    taken_over(&World::new(BUYERS).await, "amid_records", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_had_fired_is_taken_over() {
    taken_over(&World::new(BUYERS).await, "after_fire", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_was_sealing_is_taken_over() {
    taken_over(&World::new(BUYERS).await, "before_seal", false);
}

/// Its session is not idle: Postgres waits for it to take the rows, and would for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_instance_was_evaluating_is_taken_over_while_its_answer_is_on_the_way() {
    let world = World::new("  - {name: Buyers, query: \"NOT trait('n').exists()\", schedule: every 1s}").await;
    // Far more than a socket's buffers hold.
    let strangers =
        "insert into profiles (id, traits) select nextval('profile_ids'), '{\"n\": 1}' from generate_series(1, 100000)";
    sqlx::query(strangers).execute(&world.db.pool).await.unwrap();
    taken_over(&world, "amid_answer", true);
}

/// Row 15: the pause is longer than the lease and than the transaction may take.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_instance_was_telling_is_taken_over_and_not_told_again_when_it_wakes() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let short = text.replace("ssl_enabled: false", "ssl_enabled: false, properties: {transaction.timeout.ms: 5000}");
    assert!(text != short && limits::LEASE_SECONDS > 5);
    fs::write(path, short).unwrap();
    taken_over(&world, "after_drain", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_paused_instance_was_sealing_is_taken_over_and_not_sealed_again_when_it_wakes() {
    taken_over(&World::new(BUYERS).await, "before_seal", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_due_together_share_a_snapshot_and_one_that_fails_fails_alone_and_backs_off() {
    let audiences = format!(
        "  - {{name: All But Buyers, query: \"NOT trait('buyers') = 'true'\", schedule: every 1s}}
  - {{name: Guess, query: \"trait('by_hand') = 'true'\", schedule: every 1s}}
  - {{name: By Hand, query: \"trait('n').exists()\"}}
{BUYERS}"
    );
    let world = World::new(&audiences).await;
    buy(&world, 0..3);
    let mut instance = Instance::start(&world, "one", "");
    told(&world, &users(0..3));
    let runs = "select count(*) from runs";
    let deadline = Instant::now() + kafka::PATIENCE;
    while count(&world, runs).await < 8 {
        assert!(Instant::now() < deadline, "no more ticks:\n{}", instance.log());
    }
    let apart = "select count(*) from (select snapshot from runs group by snapshot having count(*) <> 2) apart";
    assert_eq!(count(&world, apart).await, 0, "the two that can be computed are sealed together, each time");
    assert_eq!(world.fold().get("all_but_buyers"), None, "it was computed after what it refers to");
    instance.ends_cleanly();
    let failed: (String, i32, bool) = sqlx::query_as(
        "select reason, attempt, retry_at > finished_at + interval '5 s' from schedules
         join audiences on id = audience_id where key = 'guess' and schedules.state = 'failed'",
    )
    .fetch_one(&world.db.pool)
    .await
    .unwrap();
    assert!(failed.0.contains("by_hand") && failed.1 <= 3 && failed.2, "{failed:?}");
    assert!(instance.log().contains("audience 'guess'"), "{}", instance.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_whose_listener_cannot_be_had_is_refused_as_a_whole_and_the_old_one_stays_in_force() {
    let world = World::new(BUYERS).await;
    let path = world.folder.path().join("rollcall.yaml");
    let before = fs::read_to_string(&path).unwrap();
    let listens = "http: {listen: \"127.0.0.1:0\"}";
    assert!(before.contains(listens), "{before}");
    let port = || TcpListener::bind("127.0.0.1:0").unwrap();
    let own = port().local_addr().unwrap();
    let with = |text: &str| before.replace(listens, text);
    fs::write(&path, with(&format!("{listens}\ntracking: {{listen: \"{own}\"}}"))).unwrap();
    let mut instance = Instance::start(&world, "one", "");
    let url = instance.http();
    let answers = async || (get(&format!("{url}/healthz")).await.0, TcpStream::connect(own).is_ok());
    eventually("it takes messages in", || TcpStream::connect(own).ok());

    let taken = port();
    let address = taken.local_addr().unwrap();
    let more = format!("{BUYERS}\n{}", BUYERS.replace("Buyers", "More"));
    for (nth, (listener, text)) in [
        ("tracking", format!("{listens}\ntracking: {{listen: \"{address}\"}}")),
        ("http", format!("http: {{listen: \"{address}\"}}\ntracking: {{listen: \"127.0.0.1:0\"}}")),
    ]
    .iter()
    .enumerate()
    {
        fs::write(&path, with(text).replace(BUYERS, &more)).unwrap();
        instance.signal(Signal::SIGHUP);
        eventually("it is refused", || {
            (instance.log().matches("the new configuration is refused").count() == nth + 1).then_some(())
        });
        assert!(instance.log().contains(&format!("{listener} cannot listen on {address}")), "{}", instance.log());
        assert_eq!(answers().await, (200, true), "both listeners are as they were");
    }
    buy(&world, 0..2);
    told(&world, &users(0..2));
    let known = "select count(*) from audiences where key = 'more'";
    assert_eq!(count(&world, known).await, 0, "nothing of the new configuration is in force");

    // What keeps its address is never without it; and what can be had is taken.
    let token = "http: {listen: \"127.0.0.1:0\", token: \"a token of this test\"}";
    drop(taken);
    let text = with(&format!("{token}\ntracking: {{listen: \"{address}\"}}")).replace(BUYERS, &more);
    fs::write(&path, text).unwrap();
    instance.signal(Signal::SIGHUP);
    eventually("it takes messages in at the other address", || TcpStream::connect(address).ok());
    eventually("the new audience is told", || (world.fold().get("more")? == &users(0..2)).then_some(()));
    assert!(TcpStream::connect(own).is_err(), "the old address is given up");
    assert_eq!(get(&format!("{url}/metrics")).await.0, 401, "the same address asks for the new token");
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_delays_neither_the_other_nor_the_ticker() {
    let world = World::new(BUYERS).await;
    let away = "  away:\n    settings: {brokers: \"127.0.0.1:1\", mechanism: none, ssl_enabled: false}\n    mappings:\n      \
                - {name: all, mapping: {topic: lost, payload: {\"@path\": $.}}}\n";
    world.configure_with(BUYERS, kafka::broker(), &world.topic, away);
    let mut instance = Instance::start(&world, "one", "");
    instance.logs("destination 'away'");
    for n in 0..3 {
        buy(&world, n..n + 1);
        told(&world, &users(0..n + 1));
    }
    assert!(count(&world, "select count(*) from runs").await >= 3);
    instance.ends_cleanly();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_away_is_found_again_without_a_person() {
    let world = World::new(BUYERS).await;
    let mut instance = Instance::start(&world, "one", "");
    instance.logs("sealed");
    for n in 0..4 {
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
        assert!(count(&world, cut).await > 0);
        buy(&world, n..n + 1);
        told(&world, &users(0..n + 1));
    }
    instance.ends_cleanly();
}
