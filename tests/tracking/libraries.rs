//! Segment's own libraries, fetched once from their registries: what they send is stored, and they are content with the answers.
//!
//! Node with npm, Python 3.10 with pip and a headless Chromium must be on the machine. Without one a test fails and says what is
//! missing: it never passes by being skipped.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rollcall::clock::Clock;

use super::{Api, KEY};
use crate::support::{kafka::PATIENCE, packages};

/// A library that sends the mixed calls of `tests/tracking/libraries`.
#[derive(Debug, Clone, Copy)]
pub enum Library {
    Node,
    Python,
}

impl Library {
    /// The command that sends `count` calls as `name`.
    pub fn command(self, address: SocketAddr, name: &str, count: usize) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tracking/libraries");
        let mut command = match self {
            Library::Node => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", node_modules()).arg(scripts.join("send.cjs"));
                node
            }
            Library::Python => {
                let mut python = Command::new("python3");
                python
                    .env("PYTHONPATH", python_packages())
                    .env("PYTHONDONTWRITEBYTECODE", "1")
                    .arg(scripts.join("send.py"));
                python
            }
        };
        command.arg(format!("http://{address}")).args([KEY, name, &count.to_string()]).stdin(Stdio::null());
        command
    }
}

fn node_modules() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| packages::npm("segment", include_str!("libraries/package.json")))
}

fn python_packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| packages::pip("segment", include_str!("libraries/requirements.txt")))
}

const HOW_TO_GET_THEM: &str = "the tests send with Segment's own libraries, for which they want Node 20 with npm, Python 3.10 with pip \
                               and a headless Chromium (Debian: nodejs npm python3-pip chromium-headless-shell)";

fn succeeds(mut command: Command) {
    let Output { status, stderr, .. } =
        command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run ({error}): {HOW_TO_GET_THEM}"));
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
}

/// What `count` calls of the scripts come to, as (what, how many).
pub fn expected(count: usize) -> [(&'static str, i64); 5] {
    let of = |kinds: &[usize]| (0..count).filter(|n| kinds.contains(&(n % 10))).count() as i64;
    [
        ("Page Viewed", of(&[1])),
        ("Screen Viewed", of(&[2])),
        ("Order Completed", of(&[5, 6, 7, 8, 9])),
        ("alias", of(&[4])),
        ("all", count as i64),
    ]
}

pub const COUNTS: &str = "
    select name, count(*) from events join event_names on id = name_id where message_id like $1 group by 1
    union all select 'alias', count(*) from aliases where message_id like $1
    union all select 'all', count(*) from messages";

async fn stores_all_of(library: Library, name: &str) {
    let api = Api::start().await;
    let command = library.command(api.tracking.address(), name, 200);
    tokio::task::spawn_blocking(move || succeeds(command)).await.unwrap();
    let counts: Vec<(String, i64)> =
        sqlx::query_as(COUNTS).bind(format!("{name}-%")).fetch_all(&api.db.pool).await.unwrap();
    for (what, count) in expected(200) {
        assert!(counts.contains(&(what.to_owned(), count)), "{what}: {count} of {counts:?}");
    }
    let identified: i64 = sqlx::query_scalar("select count(*) from profiles where traits ? $1")
        .bind(name)
        .fetch_one(&api.db.pool)
        .await
        .unwrap();
    assert_eq!(identified, 20);
    // Dated by the caller, an instant before it was sent: right within the time that sending took.
    let dates =
        "select count(*) from events where occurred_at not between '2024-04-30 23:59:00Z' and '2024-05-01 00:10:00Z'";
    assert_eq!(api.count(dates).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_for_node_is_understood() {
    stores_all_of(Library::Node, "node").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_for_python_is_understood() {
    stores_all_of(Library::Python, "python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_libraries_hear_that_their_write_key_is_wrong() {
    let api = Api::with("write_keys: [{name: other, key: another-key}]", Clock::system()).await;
    for library in [Library::Node, Library::Python] {
        let mut command = library.command(api.tracking.address(), "wrong", 10);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("401"), "{library:?}: {told}");
    }
    assert_eq!(api.count("select count(*) from messages").await, 0);
}

/// Kills the browser when dropped, and the processes that it started: a group of their own.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL).ok();
        self.0.wait().ok();
    }
}

fn chromium() -> PathBuf {
    let named = std::env::var_os("ROLLCALL_TEST_CHROMIUM").map(PathBuf::from);
    let known = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || {
        std::env::split_paths(&path).flat_map(|folder| known.map(|name| folder.join(name))).find(|file| file.exists())
    };
    named.or_else(found).unwrap_or_else(|| panic!("no Chromium: {HOW_TO_GET_THEM}"))
}

/// A web site with the page and Segment's bundle, until the test ends.
fn site() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bundle = node_modules().join("@segment/analytics-next/dist/umd");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = line.split(' ').nth(1).unwrap_or("/").split(['?', '#']).next().unwrap_or("/").to_owned();
            let content = match &*path {
                "/" => Some(include_bytes!("libraries/page.html").to_vec()),
                _ => fs::read(bundle.join(path.trim_start_matches('/').replace("..", ""))).ok(),
            };
            let (status, content) = content.map_or(("404 Not Found", Vec::new()), |content| ("200 OK", content));
            let kind = if path == "/" { "text/html" } else { "text/javascript" };
            let length = content.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(&[head.as_bytes(), &content].concat()).ok();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_for_browsers_is_understood_call_by_call_and_in_batches() {
    let api = Api::start().await;
    let site = tokio::task::spawn_blocking(site).await.unwrap();
    for (name, more) in [("single", ""), ("batched", "&batching=1")] {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(chromium());
        // It refuses to lock itself in as root, or where the kernel gives no namespaces; it only meets our own page.
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let tracking = format!("http://{}", api.tracking.address());
        command.arg(format!("http://{site}/#key={KEY}&tracking={tracking}&name={name}{more}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let browser = Browser(command.spawn().expect(HOW_TO_GET_THEM));
        let all = if name == "single" { 6 } else { 12 };
        let pool = api.db.pool.clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stored: i64 = sqlx::query_scalar("select count(*) from messages").fetch_one(&pool).await.unwrap();
            if stored >= all {
                break;
            }
            assert!(Instant::now() < deadline, "{stored} of {all} messages of the {name} page came");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(browser);
    }
    let names: Vec<String> = api.events().await.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(
        names,
        ["Page Viewed", "Page Viewed", "batched after", "batched before", "single after", "single before"]
    );
    let users: Vec<String> =
        sqlx::query_scalar("select value from identifiers where type = 'user_id' and value like '%-user' order by 1")
            .fetch_all(&api.db.pool)
            .await
            .unwrap();
    assert_eq!(users, ["batched-user", "single-user"]);
    // What the visitor did before they said who they are is the user's.
    let before =
        "select count(*) from events join event_names n on n.id = name_id join identifiers i using (profile_id)
                  where n.name like '% before' and i.type = 'user_id'";
    assert_eq!(api.count(before).await, 2);
    assert_eq!(api.count("select count(*) from events where properties ->> 'text' = 'Grüße 🎉'").await, 2);
    assert_eq!(api.count("select count(*) from groups").await, 2);
}
