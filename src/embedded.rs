//! Where does Postgres come from when none is named? We start one from the server binaries on the machine,
//! and fetch them where there are none.
//!
//! It listens on a Unix socket only, in a folder that only its own user can enter, keeps its data in that folder and
//! stops with this process, however that ends. A second start on the same folder joins the server that runs there.
//! Never for data that matter to a business: those belong in a Postgres that somebody backs up.

mod binaries;
mod fetch;
mod server;
mod user;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::task::spawn_blocking;

use crate::{Error, Result};
pub use binaries::Binaries;
pub use fetch::{Origin, VERSION as FETCHED_VERSION};
use server::Server;
use user::Account;

/// The port is part of the socket's name only; nothing listens on TCP.
const PORT: u16 = 5432;
/// A server that died may first have to replay its log.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// `sun_path` holds 107 bytes on Linux and 103 on macOS, of which the socket's own name takes 14.
const SOCKET_FOLDER_MAX_BYTES: usize = 88;

/// How to start a Postgres of our own.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Holds data, socket and log; made when missing, its parents too.
    pub folder: PathBuf,
    /// Whether a power cut must lose nothing. Tests and demos do without, and run several times faster.
    pub durable: bool,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        EmbeddedOptions { folder: ".rollcall/postgres".into(), durable: true }
    }
}

/// A running Postgres. Dropping it stops the server, unless another process started it.
#[derive(Debug)]
pub struct Embedded {
    folder: PathBuf,
    sockets: PathBuf,
    /// None when the server belongs to another process.
    server: Option<Server>,
    /// A socket folder outside `folder` goes with the server. (Fields are dropped in this order.)
    _short: Option<tempfile::TempDir>,
}

impl Embedded {
    /// Starts the server of `options.folder`, or joins it where it runs. It answers when this returns.
    pub async fn start(options: EmbeddedOptions) -> Result<Embedded> {
        Embedded::start_with(Binaries::default(), options).await
    }

    /// The same with server binaries from elsewhere than usual.
    pub async fn start_with(binaries: Binaries, options: EmbeddedOptions) -> Result<Embedded> {
        let account = Account::unprivileged()?;
        let folder = account.reachable(&options.folder)?;
        // Held while starting only: of two that start at once, the later one joins.
        let _starting = lock(folder.join("lock")).await?;
        if let Some(joined) = join(&folder).await? {
            return Ok(joined);
        }
        let bin = binaries.find(&folder.join("data")).await?;
        let short = short_folder(&folder, &account)?;
        let sockets = short.as_ref().map_or(&*folder, |short| short.path()).to_owned();
        let start = {
            let (folder, sockets) = (folder.clone(), sockets.clone());
            move || Server::start(&bin, &folder, &sockets, &account, options.durable)
        };
        let mut server = spawn_blocking(start).await.map_err(interrupted)??;
        let deadline = Instant::now() + START_DEADLINE;
        while connect_options(&sockets).connect().await.is_err() {
            if server.has_exited() || Instant::now() > deadline {
                return Err(Error::settings(format!("Postgres did not start in {}", folder.display()))
                    .help(format!("It said: {}", server::last_words(&folder))));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Embedded { folder, sockets, server: Some(server), _short: short })
    }

    /// Where everything is kept; differs from what was asked only where the server's user may not go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether another process started the server; it then stops with that one.
    pub fn is_joined(&self) -> bool {
        self.server.is_none()
    }

    /// How to connect, to the database `postgres`.
    pub fn options(&self) -> PgConnectOptions {
        connect_options(&self.sockets)
    }

    /// The same as a URL, for `psql` and for `DATABASE_URL`.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@localhost/postgres?host={}",
            self.sockets.display().to_string().replace(' ', "%20")
        )
    }

    /// Stops the server and waits until it is gone.
    pub async fn stop(mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => spawn_blocking(|| drop(server)).await.map_err(interrupted),
            None => Ok(()),
        }
    }
}

/// Joins the server that runs on `folder`; its `postmaster.pid` says where its socket is.
async fn join(folder: &Path) -> Result<Option<Embedded>> {
    let pid_file = folder.join("data/postmaster.pid");
    let Ok(text) = fs::read_to_string(&pid_file) else { return Ok(None) };
    let lines: Vec<_> = text.lines().collect();
    if let Some(sockets) = lines.get(4).map(PathBuf::from)
        && let Ok(connection) = connect_options(&sockets).connect().await
    {
        connection.close().await.ok();
        return Ok(Some(Embedded { folder: folder.to_owned(), sockets, server: None, _short: None }));
    }
    match lines.first().and_then(|pid| pid.trim().parse().ok()).filter(|&pid| server::is_postgres(pid)) {
        Some(pid) => {
            Err(Error::wait(format!("a Postgres (process {pid}) holds {} and does not answer", folder.display()))
                .help("It may be starting or stopping: try again, or stop it by `kill -INT` with that process id."))
        }
        // Left by a kill. Postgres would trust it when the number now belongs to another process.
        None => fs::remove_file(&pid_file).map(|()| None).map_err(|error| unusable(folder, error)),
    }
}

fn connect_options(sockets: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().socket(sockets).port(PORT).username("postgres").database("postgres")
}

/// A folder of its own for the socket, when the path of `folder` is too long for one.
fn short_folder(folder: &Path, account: &Account) -> Result<Option<tempfile::TempDir>> {
    if folder.as_os_str().len() <= SOCKET_FOLDER_MAX_BYTES {
        return Ok(None);
    }
    let short = tempfile::Builder::new().prefix("rollcall-").tempdir().map_err(|error| unusable(folder, error))?;
    account.own(short.path())?;
    Ok(Some(short))
}

async fn lock(path: PathBuf) -> Result<File> {
    let locking = path.clone();
    let locked = spawn_blocking(move || {
        let file = File::create(&locking)?;
        file.lock()?;
        Ok(file)
    });
    locked
        .await
        .map_err(interrupted)?
        .map_err(|error: std::io::Error| Error::settings(format!("{} cannot be locked", path.display())).because(error))
}

/// Makes `folder`, which only its owner may enter.
fn make_private(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
        .map_err(|error| unusable(folder, error))
}

fn unusable(folder: &Path, error: std::io::Error) -> Error {
    Error::settings(format!("{} cannot be used for Postgres", folder.display()))
        .help("Choose another folder, or name a database of your own by `database` or DATABASE_URL.")
        .because(error)
}

fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::internal("starting or stopping Postgres was interrupted").because(error)
}
