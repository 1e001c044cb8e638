//! A real Apache Kafka for tests: fencing, transactions and compaction as they are, not as a mock has them.
//!
//! Where it comes from, in this order: `ROLLCALL_TEST_KAFKA=host:port`; else Apache Kafka's own Java packages, fetched
//! once by Maven into `target/kafka/<version>` and started here in KRaft mode. With neither, a test fails and says how
//! to get one: it never passes by being skipped.

mod read;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, Once, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

pub use read::{Received, read_committed, read_uncommitted};

/// How long a test waits for what Kafka does; on a loaded machine a broker takes its time.
pub const PATIENCE: Duration = Duration::from_secs(60);

const HOW_TO_GET_ONE: &str = "this test needs a real Apache Kafka: set ROLLCALL_TEST_KAFKA=host:port to use a running one, \
     or install Java 17 and Maven, and it is fetched and started by itself";

/// Runs a broker until its standard input says `keep` or ends; at the end of the test binary its folder goes too.
const KEEPER: &str = r#"folder=$1; shift; trap '' INT; "$@" </dev/null >&2 & echo $!
read -r word; kill -9 $!; wait; [ "$word" = keep ] || rm -rf "$folder""#;

/// The broker that all tests share, started on first use. Counts the calling test among those on a real broker.
pub fn broker() -> &'static str {
    static SHARED: OnceLock<(String, Option<Broker>)> = OnceLock::new();
    let (address, _) = SHARED.get_or_init(|| match std::env::var("ROLLCALL_TEST_KAFKA") {
        Ok(address) => (address, None),
        Err(_) => {
            let broker = Broker::start(&[]);
            (broker.address.clone(), Some(broker))
        }
    });
    count_this_test();
    address
}

/// Notes the running test (libtest names its thread after it) in `target/real-broker-tests.log`, one line each.
pub fn count_this_test() {
    static FRESH: Once = Once::new();
    let log = target().join("real-broker-tests.log");
    FRESH.call_once(|| drop(fs::remove_file(&log)));
    let mut file = fs::File::options().create(true).append(true).open(&log).expect("target is writable");
    writeln!(file, "{}", std::thread::current().name().unwrap_or("?")).expect("target is writable");
}

/// One broker process (broker and controller in one), with its state in a folder of its own.
/// It dies with the test binary, even when that is killed: its keeper, a shell, reads a pipe that only we hold.
pub struct Broker {
    pub address: String,
    folder: tempfile::TempDir,
    class_paths: Vec<PathBuf>,
    keeper: Mutex<Option<Keeper>>,
}

struct Keeper {
    shell: Child,
    java: i32,
}

impl Broker {
    /// Starts a broker with its defaults overridden by `properties` (of `server.properties`), and waits until it answers.
    pub fn start(properties: &[(&str, &str)]) -> Broker {
        Broker::start_as(&format!("127.0.0.1:{}", free_port()), properties, &[], &[])
    }

    /// As [`Broker::start`], at an address without TLS or SASL, with arguments for the formatting of its storage and
    /// class paths beside Kafka's own.
    pub fn start_as(address: &str, properties: &[(&str, &str)], format: &[&str], class_paths: &[&Path]) -> Broker {
        let folder = tempfile::Builder::new().prefix("rollcall-kafka-").tempdir().expect("a temporary folder");
        let controller = free_port();
        let class_paths = class_paths.iter().map(|path| path.to_path_buf()).collect();
        let broker = Broker { address: address.to_owned(), folder, class_paths, keeper: Mutex::new(None) };
        let mut lines = vec![
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", "1".to_owned()),
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
            ("listeners", format!("PLAINTEXT://{address},CONTROLLER://127.0.0.1:{controller}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("log.dirs", broker.folder.path().join("data").display().to_string()),
            ("auto.create.topics.enable", "false".to_owned()),
            ("offsets.topic.replication.factor", "1".to_owned()),
            ("offsets.topic.num.partitions", "1".to_owned()),
            ("transaction.state.log.replication.factor", "1".to_owned()),
            ("transaction.state.log.min.isr", "1".to_owned()),
            ("transaction.state.log.num.partitions", "4".to_owned()),
            ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
            ("share.coordinator.state.topic.min.isr", "1".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            // Aborting what a killed instance left open, as soon as its transaction times out.
            ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500".to_owned()),
            ("log.segment.bytes", "67108864".to_owned()),
        ];
        for (name, value) in properties {
            lines.retain(|(known, _)| known != name);
            lines.push((name, (*value).to_owned()));
        }
        let text: String = lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let file = broker.folder.path().join("server.properties");
        fs::write(&file, text).expect("the folder is writable");
        let format = java(&[])
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", "cm9sbGNhbGwtdGVzdHMtMQ", "--config"])
            .arg(&file)
            .args(format)
            .output()
            .expect(HOW_TO_GET_ONE);
        assert!(format.status.success(), "storage not formatted: {}", String::from_utf8_lossy(&format.stderr));
        broker.resurrect();
        broker
    }

    /// Starts the process again over the same state, on the same port, and waits until it answers.
    pub fn resurrect(&self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("writable");
        let java = java(&self.class_paths);
        let mut shell = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(self.folder.path())
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("sh starts");
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut pid).expect("the keeper tells the pid");
        let java = pid.trim().parse().expect("a pid");
        *self.keeper.lock().unwrap() = Some(Keeper { shell, java });
        let client: BaseConsumer = config(&self.address).create().expect("a client");
        let deadline = Instant::now() + PATIENCE;
        while client.fetch_metadata(None, Duration::from_secs(1)).is_err() {
            assert!(!has_ended(java), "the broker does not start; its log:\n{}", self.log_tail());
            assert!(Instant::now() < deadline, "the broker does not answer; its log:\n{}", self.log_tail());
        }
    }

    /// Kills the process with SIGKILL; its state stays.
    pub fn kill(&self) {
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            let mut pipe = keeper.shell.stdin.take().expect("piped");
            drop(pipe.write_all(b"keep\n"));
            drop(keeper.shell.wait());
        }
    }

    /// Lets the process end in order, as for an upgrade; its state stays.
    pub fn stop(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let java = self.keeper.lock().unwrap().as_ref().expect("the broker runs").java;
        eventually("the broker ends", || has_ended(java).then_some(()));
        self.kill();
    }

    /// Stops the process in its tracks (SIGSTOP): connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let java = self.keeper.lock().unwrap().as_ref().expect("the broker runs").java;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(java), signal).expect("the broker runs");
    }

    /// What it has said since it was made.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process is gone, or a zombie: its keeper waits for a word of ours, not for its child. Only Linux tells.
fn has_ended(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    // The state follows the name, which stands in brackets: `4711 (java) S …`.
    stat.map_or(cfg!(target_os = "linux"), |stat| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('Z')))
}

/// `java` with Kafka's packages on its class path, and these.
pub fn java(class_paths: &[PathBuf]) -> Command {
    let mut class_path = packages().join("*").into_os_string();
    for path in class_paths {
        class_path.push(":");
        class_path.push(path);
    }
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]).arg(class_path);
    java
}

/// The folder of Kafka's packages, fetched when this version is not there yet.
pub fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kafka/pom.xml");
        let text = fs::read_to_string(&pom).expect("tests/support/kafka/pom.xml");
        let version = text.split("<kafka.version>").nth(1).and_then(|rest| rest.split('<').next()).expect("a version");
        let folder = target().join("kafka").join(version);
        if !folder.exists() {
            // Beside its place and then renamed: a fetch that breaks off leaves nothing that looks complete.
            let partial = target().join("kafka").join(format!("{version}.{}", std::process::id()));
            let fetched = Command::new("mvn")
                .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg(format!("-DoutputDirectory={}", partial.display()))
                .arg("--file")
                .arg(&pom)
                .output()
                .expect(HOW_TO_GET_ONE);
            assert!(fetched.status.success(), "{HOW_TO_GET_ONE}\n{}", String::from_utf8_lossy(&fetched.stdout));
            if fs::rename(&partial, &folder).is_err() {
                assert!(folder.exists(), "target is writable");
                drop(fs::remove_dir_all(&partial));
            }
        }
        folder
    })
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp").to_owned()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A client configuration for a broker of tests.
pub fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("reconnect.backoff.max.ms", "500").set("group.id", "rollcall-tests");
    config.set("enable.auto.commit", "false").set("log_level", "0");
    config
}

/// A topic name that no other test has.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    format!("{name}-{run}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Creates a topic, and waits until it is there.
pub fn create_topic(address: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let results = block_on(admin(address).create_topics([&topic], &AdminOptions::new())).expect("the broker answers");
    results.into_iter().next().expect("one result").expect("the topic is created");
    let client: BaseConsumer = config(address).create().expect("a client");
    eventually("the topic is known", || {
        let metadata = client.fetch_metadata(Some(name), Duration::from_secs(5)).ok()?;
        let topic = metadata.topics().first()?;
        (topic.partitions().len() == partitions as usize && topic.partitions().iter().all(|p| p.leader() >= 0))
            .then_some(())
    });
}

/// Deletes a topic, and waits until its name is free again.
pub fn delete_topic(address: &str, name: &str) {
    let admin = admin(address);
    block_on(admin.delete_topics(&[name], &AdminOptions::new())).unwrap().remove(0).unwrap();
    eventually("the topic is gone", || {
        let new = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        block_on(admin.create_topics([&new], &AdminOptions::new().validate_only(true))).ok()?.remove(0).ok()
    });
}

/// Deletes a partition's records before an offset, as retention does.
pub fn delete_records(address: &str, topic: &str, partition: i32, before: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(before)).expect("a valid offset");
    block_on(admin(address).delete_records(&offsets, &AdminOptions::new())).expect("the records are deleted");
}

/// A topic of its own for one test.
pub fn topic(address: &str, name: &str, partitions: i32) -> String {
    let name = unique(name);
    create_topic(address, &name, partitions, &[]);
    name
}

/// An admin client.
pub fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    config(address).create().expect("an admin client")
}

/// Runs a future of the admin client to its end, also where a runtime is already running.
pub fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(future)).join().expect("no panic"))
}

/// Asks until there is an answer; fails after [`PATIENCE`].
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
