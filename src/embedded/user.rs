//! As whom may the server run? As ourselves, or, since Postgres refuses root, as another user of the machine.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{Gid, Uid, User, chown};
use sha2::{Digest, Sha256};

use super::{make_private, unusable};
use crate::{Error, Result};

/// Where data go when the server's user may not enter the folder asked for.
const SYSTEM_STATE: &str = "/var/lib/rollcall";

/// The user that the server runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
    /// Whether we are root and become this user for the server alone.
    switches: bool,
}

impl Account {
    /// Ourselves; if we are root, `postgres`, else `nobody`.
    pub fn unprivileged() -> Result<Account> {
        if !Uid::effective().is_root() {
            return Ok(Account { uid: Uid::effective(), gid: Gid::effective(), switches: false });
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Account { uid: user.uid, gid: user.gid, switches: true })
            .ok_or_else(|| {
                Error::settings(
                    "Postgres does not run as root, and there is no user `postgres` or `nobody` to run it as",
                )
                .help("Start as an ordinary user, or name a database of your own by `database` or DATABASE_URL.")
            })
    }

    /// Makes `folder` and gives it to this user; where one of its parents is closed to the user (as /root is), a folder
    /// of the system takes its place and `folder` becomes a link to it.
    pub fn reachable(&self, folder: &Path) -> Result<PathBuf> {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| unusable(folder, error))?;
        let parent = parent.canonicalize().map_err(|error| unusable(folder, error))?;
        let mut chosen = parent.join(folder.file_name().unwrap_or("postgres".as_ref()));
        if chosen.exists() {
            chosen = chosen.canonicalize().map_err(|error| unusable(folder, error))?;
        } else if !self.may_pass(&parent) {
            let digest = Sha256::digest(chosen.as_os_str().as_encoded_bytes());
            let actual = Path::new(SYSTEM_STATE).join(format!("postgres-{:.16}", hex(&digest)));
            fs::create_dir_all(SYSTEM_STATE).map_err(|error| unusable(&actual, error))?;
            // A link that leads nowhere is one whose data were deleted.
            fs::remove_file(&chosen).ok();
            std::os::unix::fs::symlink(&actual, &chosen).map_err(|error| unusable(folder, error))?;
            chosen = actual;
        }
        make_private(&chosen)?;
        self.own(&chosen)?;
        Ok(chosen)
    }

    /// Whether this user may pass through `folder` and all above it.
    fn may_pass(&self, folder: &Path) -> bool {
        folder.ancestors().all(|above| {
            fs::metadata(above).is_ok_and(|found| {
                let shift = if found.uid() == self.uid.as_raw() {
                    6
                } else if found.gid() == self.gid.as_raw() {
                    3
                } else {
                    0
                };
                found.mode() >> shift & 1 == 1
            })
        })
    }

    /// Gives one folder to this user.
    pub fn own(&self, folder: &Path) -> Result<()> {
        if self.switches {
            chown(folder, Some(self.uid), Some(self.gid)).map_err(|error| unusable(folder, error.into()))?;
        }
        Ok(())
    }

    /// A command that runs as this user, in a process group of its own so that the terminal's Ctrl-C reaches us alone.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env("LC_ALL", "C").process_group(0);
        if self.switches {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
