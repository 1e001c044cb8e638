//! Where are the server binaries?

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result};

/// The oldest version that the schema works on.
const MIN_MAJOR: u32 = 14;

/// The folder with `postgres` and `initdb` to run `data` with: from PG_BIN, PATH, or where packages install them,
/// the newest first. Data of one major version need binaries of the same.
pub(super) fn find(data: &Path) -> Result<PathBuf> {
    let needed: Option<u32> =
        fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|text| text.trim().parse().ok());
    let mut found: Vec<(u32, PathBuf)> = candidates().into_iter().filter_map(|bin| Some((major(&bin)?, bin))).collect();
    found.retain(|(major, _)| needed.map_or(*major >= MIN_MAJOR, |needed| needed == *major));
    // Stable: of the same version the one named first wins.
    if env::var_os("PG_BIN").is_none() {
        found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    }
    found.into_iter().next().map(|(_, bin)| bin).ok_or_else(|| {
        Error::settings(match needed {
            Some(needed) => format!("{} was made by PostgreSQL {needed}, whose server is not on this machine", data.display()),
            None => format!("no PostgreSQL server ({MIN_MAJOR} or newer) is on this machine"),
        })
        .help(
            "Install one (`apt-get install postgresql`, `dnf install postgresql-server`, `brew install postgresql@17`), \
             name its folder by PG_BIN, or name a running database by `database` or DATABASE_URL.",
        )
    })
}

fn candidates() -> Vec<PathBuf> {
    if let Some(bin) = env::var_os("PG_BIN") {
        return vec![bin.into()];
    }
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
