//! How do server binaries come onto a machine that has none? Zonky's builds of PostgreSQL, from a Maven repository.
//!
//! One version, known by its checksum: whatever else the repository hands out is never unpacked. A fetch that is killed
//! leaves nothing that looks like a server.

use std::{
    env, fs,
    io::{self, BufReader, Cursor, Read as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use liblzma::bufread::XzDecoder;
use nix::unistd::Uid;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use zip::ZipArchive;

use super::{interrupted, lock, user::hex};
use crate::{Error, Result, error::Cause};

/// What is fetched.
pub const VERSION: &str = "17.11.0";
pub(super) const MAJOR: u32 = 17;

/// Zonky's name for a machine and the SHA-256 of its archive, by operating system and processor as `std::env::consts` names them.
const ARCHIVES: [(&str, &str, &str, &str); 4] = [
    ("linux", "x86_64", "linux-amd64", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d"),
    ("linux", "aarch64", "linux-arm64v8", "8b042e0ea418b1927d95399207950da0734d27fe01e29503ade3bdc464ad4c2b"),
    ("macos", "x86_64", "darwin-amd64", "d464ff178e9860ba204662ac23fa547504b7fd392392ff2fb92e3fd73b5bdb64"),
    ("macos", "aarch64", "darwin-arm64v8", "a1c2786acb0c398f9b2d76806fc52f5dc8b222cbc8e9383a9b9702084daaf3a5"),
];
/// No archive is larger.
const ARCHIVE_BYTES: u64 = 256 * 1024 * 1024;

const MAVEN_CENTRAL: &str = "https://repo1.maven.org/maven2/io/zonky/test/postgres";

/// Root's cache: its home is closed to the user that the server runs as.
const SYSTEM_CACHE: &str = "/var/cache/rollcall";

/// A first small answer takes no longer, or there is no network; packets that vanish must not look like a slow download.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// 15 MB on Linux, 62 MB on macOS, at modem speed.
const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Where binaries are fetched from, and kept.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Holds one folder a version; the server's user must be able to enter it.
    pub cache: PathBuf,
    /// The folder of Zonky's archives in a Maven repository, by its URL.
    pub repository: String,
}

impl Origin {
    /// Zonky's builds, kept in the user's cache folder, or the system's for root. None where there is no build for this
    /// machine (those for Linux want glibc) or no home.
    pub(super) fn usual() -> Option<Origin> {
        if cfg!(target_env = "musl") || build().is_none() {
            return None;
        }
        let cache = if Uid::effective().is_root() {
            SYSTEM_CACHE.into()
        } else {
            // A relative path is invalid, and to be ignored: XDG Base Directory Specification.
            let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            named.or_else(|| Some(env::home_dir()?.join(".cache")))?.join("rollcall")
        };
        Some(Origin { cache, repository: MAVEN_CENTRAL.into() })
    }

    /// The `bin` folders of what was fetched, today's version first.
    pub(super) fn cached(&self) -> Vec<PathBuf> {
        let earlier = fs::read_dir(&self.cache).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(self.server()).chain(earlier).map(|server| server.join("bin")).collect()
    }

    /// Fetches and unpacks the server, unless another process just did; gives its `bin` folder.
    pub(super) async fn fetch(&self) -> Result<PathBuf> {
        make_open(&self.cache).map_err(|error| unwritable(&self.cache, error))?;
        let _fetching = lock(self.cache.join("lock")).await?;
        let server = self.server();
        if !server.exists() {
            // A warning, since a program that runs what it downloads says so, and without being asked for more.
            tracing::warn!(version = VERSION, folder = %server.display(), "no PostgreSQL server found, fetching one");
            let archive = self.download().await?;
            let unpacked = server.clone();
            spawn_blocking(move || unpack(&archive, &unpacked)).await.map_err(interrupted)??;
            tracing::info!(version = VERSION, folder = %server.display(), "fetched PostgreSQL");
        }
        Ok(server.join("bin"))
    }

    fn server(&self) -> PathBuf {
        self.cache.join(format!("postgresql-{VERSION}"))
    }

    /// The archive, which is the one we know.
    async fn download(&self) -> Result<Vec<u8>> {
        let (machine, checksum) = build().ok_or_else(|| Error::internal("there is no build for this machine"))?;
        let name = format!("embedded-postgres-binaries-{machine}");
        let url = format!("{}/{name}/{VERSION}/{name}-{VERSION}.jar", self.repository);
        let got = spawn_blocking(move || get(&url)).await.map_err(interrupted)?;
        let archive = got.map_err(|error| self.unreachable(error))?;
        if checksum != hex(&Sha256::digest(&archive)) {
            let from = self.name();
            return Err(Error::settings(format!(
                "the PostgreSQL {VERSION} that {from} hands out is not the one expected"
            )));
        }
        Ok(archive)
    }

    fn unreachable(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::wait(format!("PostgreSQL {VERSION} cannot be downloaded from {}", self.name()))
            .because(Cause::shown(error))
    }

    /// What a person's firewall has to let through.
    fn name(&self) -> &str {
        if self.repository == MAVEN_CENTRAL { "Maven Central (repo1.maven.org)" } else { &self.repository }
    }
}

/// Zonky's name for this machine, and the checksum of its archive.
fn build() -> Option<(&'static str, &'static str)> {
    let (os, processor) = (env::consts::OS, env::consts::ARCH);
    ARCHIVES.iter().find(|archive| (archive.0, archive.1) == (os, processor)).map(|archive| (archive.2, archive.3))
}

/// What is there, by HTTP, through the proxy that the usual variables name. Blocks. The certificate authorities are the system's,
/// among which a company's own may be; where none are found, those that come with the client.
fn get(url: &str) -> Result<Vec<u8>, ureq::Error> {
    let system = openssl_probe::probe().cert_file.and_then(|file| fs::read(file).ok()).unwrap_or_default();
    let authorities: Vec<_> = parse_pem(&system)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let roots = if authorities.is_empty() { RootCerts::WebPki } else { RootCerts::from(authorities) };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_connect(Some(ANSWER_DEADLINE))
        .timeout_recv_response(Some(ANSWER_DEADLINE))
        .timeout_global(Some(DOWNLOAD_DEADLINE))
        .build()
        .into();
    let mut archive = Vec::new();
    agent.get(url).call()?.into_body().into_reader().take(ARCHIVE_BYTES).read_to_end(&mut archive)?;
    Ok(archive)
}

/// Unpacks beside `server` and renames then, so that a folder of that name is a whole server.
fn unpack(archive: &[u8], server: &Path) -> Result<()> {
    let partial = server.with_added_extension("partial");
    fs::remove_dir_all(&partial).ok();
    let unpacked = partial.join("server");
    extract(archive, &unpacked)
        .map_err(|error| Error::settings(format!("{} cannot be unpacked to", partial.display())).because(error))?;
    open_all(&unpacked)
        .and_then(|()| fs::rename(&unpacked, server))
        .and_then(|()| fs::remove_dir_all(&partial))
        .map_err(|error| unwritable(server, error))
}

/// Zonky's archive is a jar, and in it a tar in an xz.
fn extract(archive: &[u8], folder: &Path) -> io::Result<()> {
    let mut jar = ZipArchive::new(Cursor::new(archive))?;
    for index in 0..jar.len() {
        let file = jar.by_index(index)?;
        if file.name()?.ends_with(".txz") {
            return tar::Archive::new(XzDecoder::new(BufReader::new(file))).unpack(folder);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Lets everybody enter the folders: whatever our umask is, the user that the server runs as must.
fn open_all(folder: &Path) -> std::io::Result<()> {
    make_open(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_all(&entry.path())?;
        }
    }
    Ok(())
}

fn make_open(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

fn unwritable(folder: &Path, error: std::io::Error) -> Error {
    Error::settings(format!("{} cannot be written", folder.display())).because(error)
}
