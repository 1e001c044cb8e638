//! A Postgres of one test's own, to be hurt: cut off, killed with its children, copied, put back, failed over.

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid},
};
use rollcall::embedded::{Embedded, EmbeddedOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use tempfile::TempDir;

use super::kafka::{PATIENCE, eventually};

/// A folder of the test's own which the server's user may enter.
pub fn folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("rollcall-server-").permissions(fs::Permissions::from_mode(0o755));
    builder.tempdir().expect("a temporary folder")
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As `pg_ctl stop -m fast` does it: sessions are ended, everything is written out.
    Fast,
    /// As `-m immediate`: the next start replays the log.
    Immediate,
    /// `kill -9` of the postmaster and all its children.
    Killed,
}

/// A server that must lose nothing, with its state in a folder that may be anywhere.
pub struct Server {
    folder: PathBuf,
    running: Option<Embedded>,
}

impl Server {
    pub async fn start(folder: &Path) -> Server {
        let mut server = Server { folder: folder.to_owned(), running: None };
        server.start_again().await;
        server
    }

    /// Starts it over the state that it left.
    pub async fn start_again(&mut self) {
        let options = EmbeddedOptions { folder: self.folder.clone(), durable: true };
        self.running = Some(Embedded::start(options).await.expect("Postgres starts"));
    }

    /// Ends it, and returns when every process of it is gone.
    pub async fn end(&mut self, how: End) {
        // None where it has ended already.
        let postmaster = self.postmaster();
        let children = postmaster.map(children).unwrap_or_default();
        let signal = match how {
            End::Fast => Signal::SIGINT,
            End::Immediate => Signal::SIGQUIT,
            End::Killed => Signal::SIGKILL,
        };
        // The postmaster first: it would start the others again.
        let killed = if how == End::Killed { &children[..] } else { &[] };
        for process in postmaster.iter().chain(killed) {
            kill(*process, signal).ok();
        }
        self.running.take().expect("it runs").stop().await.unwrap();
        eventually("its processes are gone", || children.iter().all(|child| kill(*child, None).is_err()).then_some(()));
    }

    pub fn options(&self) -> PgConnectOptions {
        self.running.as_ref().expect("it runs").options()
    }

    pub async fn connect(&self) -> PgConnection {
        self.options().connect().await.expect("it takes connections")
    }

    pub async fn execute(&self, sql: String) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connect().await).await.expect("the statement runs");
    }

    /// The same where it may be away.
    pub async fn try_execute(&self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.options().connect().await?).await.map(drop)
    }

    pub async fn ask<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.expect("an answer")
    }

    /// Waits until the answer is yes.
    pub async fn until(&self, sql: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut connection = self.connect().await;
        while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect("an answer") {
            assert!(Instant::now() < deadline, "not in time: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A base backup, taken by `pg_basebackup` while it runs.
    pub fn base_backup(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let owner = fs::metadata(self.data()).unwrap();
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        nix::unistd::chown(folder, Some(uid), Some(gid)).unwrap();
        let options = self.options();
        let server = fs::read_link(format!("/proc/{}/exe", self.postmaster().expect("it runs"))).expect("Linux tells");
        let mut backup = Command::new(server.with_file_name("pg_basebackup"));
        backup.arg("-D").arg(folder.join("data")).arg("-h").arg(options.get_socket().unwrap());
        backup.args(["-p", &options.get_port().to_string(), "-U", options.get_username()]);
        backup.args(["--checkpoint=fast", "--no-sync"]);
        let made = backup.uid(uid.as_raw()).gid(gid.as_raw()).current_dir("/").output().expect("pg_basebackup runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Puts a backup in the place of its state; it must have ended.
    pub fn put_back(&self, folder: &Path) {
        fs::remove_dir_all(self.data()).unwrap();
        let put = Command::new("cp").arg("-a").arg(folder.join("data")).arg(self.data()).status().expect("cp runs");
        assert!(put.success());
    }

    /// A standby that follows this one: nothing waits for it.
    pub async fn standby(&self, folder: &Path) -> Server {
        self.base_backup(folder);
        let (data, options) = (folder.join("data"), self.options());
        let socket = options.get_socket().unwrap().display();
        let (port, user) = (options.get_port(), options.get_username());
        let follow = format!("\nprimary_conninfo = 'host=''{socket}'' port={port} user={user}'\n");
        let file = fs::File::options().append(true).open(data.join("postgresql.auto.conf"));
        file.and_then(|mut file| file.write_all(follow.as_bytes())).expect("the folder is writable");
        fs::File::create(data.join("standby.signal")).expect("the folder is writable");
        Server::start(folder).await
    }

    fn data(&self) -> PathBuf {
        // Where the server's user may not enter a folder, another takes its place.
        self.running.as_ref().map_or(&*self.folder, Embedded::folder).join("data")
    }

    fn postmaster(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        file.lines().next()?.parse().ok().map(Pid::from_raw)
    }
}

/// The processes that this one has started.
fn children(process: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}
