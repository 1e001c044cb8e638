//! One server process: made, started, and never outliving us.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{unusable, user::Account};
use crate::{Error, Result};

/// A fast shutdown writes everything out first; past this we give up waiting, not the server its work.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Server {
    pid: Pid,
    /// Sends or closes when the process is gone; in a mutex only because a receiver is not `Sync`.
    exited: Mutex<mpsc::Receiver<()>>,
}

impl Server {
    /// Makes the data on first use and starts the server; it may not answer yet.
    pub fn start(bin: &Path, folder: &Path, sockets: &Path, account: &Account, durable: bool) -> Result<Server> {
        let data = folder.join("data");
        if !data.exists() {
            init(folder, &data, bin, account, durable)?;
        }
        let log = File::create(folder.join("log")).map_err(|error| unusable(folder, error))?;
        let mut command = account.command(&bin.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(sockets).args(["-h", "", "-p", &super::PORT.to_string()]);
        for setting in settings(durable) {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        spawn(command)
    }

    pub fn has_exited(&mut self) -> bool {
        !matches!(self.exited().try_recv(), Err(mpsc::TryRecvError::Empty))
    }

    fn exited(&mut self) -> &mut mpsc::Receiver<()> {
        self.exited.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.has_exited() {
            // SIGINT is Postgres' fast shutdown: sessions end, data are written, the next start has nothing to replay.
            kill(self.pid, Signal::SIGINT).ok();
            self.exited().recv_timeout(STOP_DEADLINE).ok();
        }
    }
}

/// Makes the data under another name first, so that a half-made folder is never taken for a whole one.
fn init(folder: &Path, data: &Path, bin: &Path, account: &Account, durable: bool) -> Result<()> {
    let fresh = folder.join("data.new");
    fs::remove_dir_all(&fresh).ok();
    let output = account
        .command(&bin.join("initdb"))
        .arg("-D")
        .arg(&fresh)
        // Trust is sound here: only the owner of the socket's folder, and root, can reach the socket.
        .args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"])
        // What is to last is written out before it counts as made.
        .args((!durable).then_some("--no-sync"))
        .output()
        .map_err(|error| unusable(folder, error))?;
    if !output.status.success() {
        return Err(Error::settings(format!("initdb could not make a database in {}", folder.display()))
            .help(format!("It said: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    fs::rename(fresh, data).map_err(|error| unusable(folder, error))
}

fn settings(durable: bool) -> impl Iterator<Item = &'static str> {
    let always = [
        "shared_buffers=512MB",
        "work_mem=64MB",
        "maintenance_work_mem=256MB",
        "max_wal_size=4GB",
        "checkpoint_timeout=15min",
        "random_page_cost=1.1",
        "jit=off",
        "max_connections=200",
        "log_timezone=UTC",
        "timezone=UTC",
        "unix_socket_permissions=0700",
    ];
    let fast =
        ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0"];
    always.into_iter().chain(fast.into_iter().filter(move |_| !durable))
}

/// Starts `command` on a thread that stays until it exits.
///
/// The kernel sends the parent-death signal when the *thread* that started the child ends, not the process: a runtime's
/// worker or blocking thread may end early and would take the server with it. This one ends after the server, or with us.
fn spawn(mut command: Command) -> Result<Server> {
    #[cfg(target_os = "linux")]
    {
        let parent = nix::unistd::getpid();
        // SAFETY: between fork and exec only prctl and getppid are called, both async-signal-safe; nothing allocates.
        // It runs after std changed the user, which would otherwise clear the signal.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGINT)?;
                // We may have died before the line above.
                if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
            });
        }
    }
    let (started, start) = mpsc::channel();
    let (exiting, exited) = mpsc::channel();
    thread::Builder::new()
        .name("postgres".into())
        .spawn(move || match command.spawn() {
            Ok(mut child) => {
                started.send(Ok(child.id())).ok();
                wait(&mut child);
                exiting.send(()).ok();
            }
            Err(error) => drop(started.send(Err(error))),
        })
        .map_err(|error| Error::wait("no thread can be started").because(error))?;
    match start.recv() {
        Ok(Ok(pid)) => Ok(Server { pid: Pid::from_raw(pid.cast_signed()), exited: Mutex::new(exited) }),
        Ok(Err(error)) => Err(Error::settings("the Postgres server cannot be run").because(error)),
        Err(error) => Err(Error::internal("the thread that starts Postgres ended").because(error)),
    }
}

fn wait(child: &mut Child) {
    child.wait().ok();
}

/// Whether this process is a Postgres server; its number may have passed to another since it was written down.
pub(super) fn is_postgres(pid: i32) -> bool {
    let alive = !matches!(kill(Pid::from_raw(pid), None), Err(nix::Error::ESRCH));
    let named = fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or(cfg!(not(target_os = "linux")), |name| name.trim() == "postgres");
    alive && named
}

/// The end of the server's log.
pub(super) fn last_words(folder: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut log) = File::open(folder.join("log")) {
        let length = log.metadata().map_or(0, |found| found.len());
        log.seek(SeekFrom::Start(length.saturating_sub(1_000))).ok();
        log.read_to_end(&mut text).ok();
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}
