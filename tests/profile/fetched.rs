//! The Postgres of a machine that has none: from a repository on this machine that hands out the real archive.
//!
//! Maven fetches the archive, once, into `target/`; the repository hands out that one file.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
    thread,
};

use rollcall::embedded::{Binaries, Embedded, EmbeddedOptions, FETCHED_VERSION, Origin};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

#[tokio::test]
async fn a_machine_without_postgres_fetches_one_that_answers_and_keeps_it() {
    let place = Place::new();
    let repository = serve(fs::read(archive()).unwrap());
    let fetched = Embedded::start_with(place.binaries(&repository), place.options()).await.unwrap();
    let mut connection = fetched.options().connect().await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i32>("select 1").fetch_one(&mut connection).await.unwrap(), 1);
    let version: String = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await.unwrap();
    assert_eq!(format!("{version}.0"), FETCHED_VERSION);
    connection.close().await.unwrap();
    fetched.stop().await.unwrap();
    assert_eq!(place.cached(), ["lock", &format!("postgresql-{FETCHED_VERSION}")]);

    let again = Embedded::start_with(place.binaries(NOWHERE), place.options()).await.unwrap();
    again.stop().await.unwrap();
}

#[tokio::test]
async fn an_archive_that_is_not_the_expected_one_is_never_unpacked() {
    let place = Place::new();
    let mut archive = fs::read(archive()).unwrap();
    let middle = archive.len() / 2;
    archive[middle] ^= 1;
    let refused = Embedded::start_with(place.binaries(&serve(archive)), place.options()).await.unwrap_err();
    assert!(told(&refused).contains("is not the one expected"), "{}", told(&refused));
    assert_eq!(place.cached(), ["lock"]);
}

#[tokio::test]
async fn without_a_network_the_error_names_what_to_do() {
    let place = Place::new();
    let refused = Embedded::start_with(place.binaries(NOWHERE), place.options()).await.unwrap_err();
    let help = refused.help.as_deref().unwrap();
    assert!(refused.message.contains("no PostgreSQL server") && refused.message.contains("none could be fetched"));
    assert!(help.contains("apt-get install postgresql") && help.contains("PG_BIN"), "{help}");
    assert!(told(&refused).contains(NOWHERE), "{}", told(&refused));
}

#[tokio::test]
async fn data_of_another_major_version_are_not_given_a_fetched_server() {
    let place = Place::new();
    let data = place.options().folder.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let refused = Embedded::start_with(place.binaries(NOWHERE), place.options()).await.unwrap_err();
    assert!(refused.message.contains("made by PostgreSQL 9, whose server is not on this machine"), "{refused}");
    assert!(!place.folder.path().join("cache").exists());
}

/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

/// A state folder and an empty cache that the server's user may enter.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Place { folder }
    }

    fn binaries(&self, repository: &str) -> Binaries {
        let origin = Origin { cache: self.folder.path().join("cache"), repository: repository.into() };
        Binaries { installed: Vec::new(), origin: Some(origin) }
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions { folder: self.folder.path().join("postgres"), durable: false }
    }

    fn cached(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("cache")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// An error with all that caused it.
fn told(error: &rollcall::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A Maven repository with this one archive in it; gives the URL of Zonky's folder.
fn serve(archive: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let path = format!("/{0}/{FETCHED_VERSION}/{0}-{FETCHED_VERSION}.jar", artifact());
    // Ends with the test binary.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let (status, body) = match head.first().and_then(|line| line.split(' ').nth(1)) {
                Some(asked) if asked == path => ("200 OK", &*archive),
                _ => ("404 Not Found", &[][..]),
            };
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).ok();
            stream.write_all(body).ok();
        }
    });
    url
}

/// The real archive for this machine.
fn archive() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp").join("postgres");
    let file = folder.join(format!("{}-{FETCHED_VERSION}.jar", artifact()));
    static FETCH: Once = Once::new();
    FETCH.call_once(|| {
        if !file.exists() {
            // Beside its place and then renamed: a fetch that breaks off leaves nothing that looks complete.
            let partial = folder.join(format!("partial.{}", std::process::id()));
            let fetched = Command::new("mvn")
                .args(["--quiet", "--batch-mode", "dependency:copy"])
                .arg(format!("-Dartifact=io.zonky.test.postgres:{}:{FETCHED_VERSION}", artifact()))
                .arg(format!("-DoutputDirectory={}", partial.display()))
                .current_dir(env!("CARGO_TARGET_TMPDIR"))
                .output()
                .expect("this test needs Maven (Debian: `maven`), to fetch a PostgreSQL once");
            assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stdout));
            fs::rename(partial.join(file.file_name().unwrap()), &file).unwrap();
            fs::remove_dir_all(partial).ok();
        }
    });
    file
}

fn artifact() -> String {
    let system = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let processor = if cfg!(target_arch = "aarch64") { "arm64v8" } else { "amd64" };
    format!("embedded-postgres-binaries-{system}-{processor}")
}
