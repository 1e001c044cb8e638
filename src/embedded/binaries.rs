//! Where are the server binaries? On the machine, else in the cache of those that were fetched, else in a repository.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::task::spawn_blocking;

use super::{
    fetch::{self, Origin},
    interrupted,
};
use crate::{Error, Result};

/// The oldest version that the schema works on.
const MIN_MAJOR: u32 = 14;

const REMEDIES: &str = "Install one (`apt-get install postgresql`, `dnf install postgresql-server`, \
     `brew install postgresql@17`), name its folder by PG_BIN, or name a running database by `database` or DATABASE_URL.";

/// Where to look for server binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Folders that may hold `postgres` and `initdb`; of the same version the one named first wins.
    pub installed: Vec<PathBuf>,
    /// Where they come from when none of those will do. None: nowhere.
    pub origin: Option<Origin>,
}

impl Default for Binaries {
    /// PG_BIN alone if it is set; else PATH, where packages install them, and the usual origin.
    fn default() -> Self {
        match env::var_os("PG_BIN") {
            Some(bin) => Binaries { installed: vec![bin.into()], origin: None },
            None => Binaries { installed: usual_folders(), origin: Origin::usual() },
        }
    }
}

impl Binaries {
    /// The folder with `postgres` and `initdb` to run `data` with, the newest version first. Data of one major version
    /// need binaries of the same.
    pub(super) async fn find(self, data: &Path) -> Result<PathBuf> {
        let needed: Option<u32> =
            fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
        let Binaries { installed, origin } = self;
        let cached = origin.as_ref().map(Origin::cached).unwrap_or_default();
        let look = move || newest(installed, needed).or_else(|| newest(cached, needed));
        if let Some(bin) = spawn_blocking(look).await.map_err(interrupted)? {
            return Ok(bin);
        }
        let missing = match needed {
            Some(needed) => {
                format!("{} was made by PostgreSQL {needed}, whose server is not on this machine", data.display())
            }
            None => format!("no PostgreSQL server ({MIN_MAJOR} or newer) is on this machine"),
        };
        match origin {
            Some(origin) if needed.is_none_or(|needed| needed == fetch::MAJOR) => {
                origin.fetch().await.map_err(|error| {
                    Error::new(error.kind, format!("{missing}, and none could be fetched"))
                        .help(REMEDIES)
                        .because(error)
                })
            }
            _ => Err(Error::settings(missing).help(REMEDIES)),
        }
    }
}

/// The newest of the servers in `folders` that will do.
fn newest(folders: Vec<PathBuf>, needed: Option<u32>) -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = folders.into_iter().filter_map(|bin| Some((major(&bin)?, bin))).collect();
    found.retain(|(major, _)| needed.map_or(*major >= MIN_MAJOR, |needed| needed == *major));
    // Stable: the order of `folders` decides among equals.
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().next().map(|(_, bin)| bin)
}

fn usual_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = env::split_paths(&path).collect();
    for (above, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ] {
        let folders = fs::read_dir(above).into_iter().flatten().flatten();
        let named = folders.filter(|folder| {
            let name = folder.file_name().to_string_lossy().into_owned();
            above != "/usr" && !above.ends_with("/opt") || name.starts_with("pgsql-") || name.starts_with("postgresql")
        });
        found.extend(named.map(|folder| folder.path().join(below)));
    }
    found
}

/// The major version of the server in `bin`, if a whole one is there. (`pg_config` and `psql` alone are clients.)
fn major(bin: &Path) -> Option<u32> {
    let server = bin.join("postgres");
    if !server.is_file() || !bin.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(server).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().find_map(|word| word.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
}
