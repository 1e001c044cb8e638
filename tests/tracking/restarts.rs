//! A hundred thousand messages by Segment's own libraries, while the server is killed and Postgres restarted: each once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::embedded::{Embedded, EmbeddedOptions};
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _};

use super::{
    KEY,
    libraries::{COUNTS, Library, expected},
};
use crate::support::kafka::{PATIENCE, free_port};

const NODE: usize = 60_000;
const PYTHON: usize = 40_000;

/// `rollcall serve --only tracking`, killed when dropped.
struct Server(Child);

impl Server {
    fn start(folder: &Path, database: &str) -> Server {
        let log = File::options().create(true).append(true).open(folder.join("serve.log")).unwrap();
        let mut command = rollcall(folder, database, &["serve", "--only", "tracking"]);
        Server(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Whoever sends; killed when dropped.
struct Sender(Child);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn rollcall(folder: &Path, database: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder).args(args).env("DATABASE_URL", database).stdin(Stdio::null());
    command.env_remove("ROLLCALL_CONFIG").env_remove("RUST_LOG");
    command
}

async fn start_postgres(folder: &Path) -> Embedded {
    // Durable: what is answered as stored must be so after a crash.
    Embedded::start(EmbeddedOptions { folder: folder.join("postgres"), durable: true }).await.expect("Postgres starts")
}

/// Stops it as a crash would: nothing is finished, nothing written out.
async fn crash(postgres: Embedded) {
    let pid_file = postgres.folder().join("data/postmaster.pid");
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGQUIT).unwrap();
    // Waits for its end.
    postgres.stop().await.unwrap();
}

async fn messages(postgres: &Embedded) -> i64 {
    let Ok(mut connection) = postgres.options().connect().await else { return 0 };
    let count = sqlx::query_scalar("select count(*) from messages").fetch_one(&mut connection).await.unwrap_or(0);
    connection.close().await.ok();
    count
}

async fn until_stored(postgres: &Embedded, at_least: i64, senders: &mut [Sender]) {
    let deadline = Instant::now() + PATIENCE;
    while messages(postgres).await < at_least {
        assert!(Instant::now() < deadline, "{} of {at_least} stored", messages(postgres).await);
        let running = senders.iter_mut().any(|sender| sender.0.try_wait().unwrap().is_none());
        assert!(running, "they sent all before anything was restarted");
        sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_messages_are_stored_once_each_through_kills_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut postgres = start_postgres(folder.path()).await;
    let database = postgres.url();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "tracking: {{listen: \"{address}\", write_keys: [{{name: tests, key: {KEY}}}]}}\nhttp: {{enabled: false}}\n"
    );
    fs::write(folder.path().join("rollcall.yaml"), config).unwrap();
    let mut server = Server::start(folder.path(), &database);

    let commands = [Library::Node.command(address, "node", NODE), Library::Python.command(address, "python", PYTHON)];
    let mut senders = commands.map(|mut command| {
        let log =
            File::create(folder.path().join(format!("{:?}.log", command.get_program()).replace('"', ""))).unwrap();
        Sender(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    });
    for (at, what) in [(15_000, "server"), (35_000, "postgres"), (55_000, "server"), (75_000, "both")] {
        until_stored(&postgres, at, &mut senders).await;
        if what != "server" {
            crash(postgres).await;
            postgres = start_postgres(folder.path()).await;
        }
        if what != "postgres" {
            drop(server);
            server = Server::start(folder.path(), &database);
        }
    }
    let logs = || {
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        ["node.log", "python3.log", "serve.log"].map(read).join("\n----\n")
    };
    let deadline = Instant::now() + PATIENCE;
    for sender in &mut senders {
        let status = loop {
            if let Some(status) = sender.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "they come to an end:\n{}", logs());
            sleep(Duration::from_millis(50));
        };
        assert!(status.success(), "each call is delivered, as its library says:\n{}", logs());
    }

    let mut connection = postgres.options().connect().await.unwrap();
    let total = (NODE + PYTHON) as i64;
    let mut orders: BTreeMap<usize, usize> = BTreeMap::new();
    for (name, count) in [("node", NODE), ("python", PYTHON)] {
        let counts: Vec<(String, i64)> =
            sqlx::query_as(COUNTS).bind(format!("{name}-%")).fetch_all(&mut connection).await.unwrap();
        for (what, count) in expected(count) {
            let count = if what == "all" { total } else { count };
            assert!(counts.contains(&(what.to_owned(), count)), "{name}: {what}: {count} of {counts:?}");
        }
        (0..count).filter(|n| n % 10 >= 5).for_each(|n| *orders.entry(n % 1_000).or_default() += 1);
    }
    connection.close().await.unwrap();
    // Half of the users order, some more than others: an audience of those who ordered at least so often.
    let often = *orders.values().max().unwrap();
    for (least, members) in [(1, orders.len()), (often, orders.values().filter(|count| **count >= often).count())] {
        let query = format!("event('Order Completed').count() >= {least}");
        let output = rollcall(folder.path(), &database, &["preview", &query, "--json"]).output().unwrap();
        let preview: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(preview["members"], members, "{query}");
    }
    drop(server);
    postgres.stop().await.unwrap();
}
