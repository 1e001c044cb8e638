//! A pooler that lends sessions by the transaction is refused before anything is written; one that lends them whole is not.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use rollcall::database;
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::support::{kafka::eventually, postgres::Database};

/// PgBouncer itself, before a test's database.
struct Pooler {
    child: Child,
    options: PgConnectOptions,
    _folder: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn pooler(db: &Database, mode: &str) -> Pooler {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let own = db.options();
    let (socket, name, user) = (own.get_socket().unwrap(), own.get_database().unwrap(), own.get_username());
    let path = folder.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\n{name} = host={} port={} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n",
        socket.display(),
        own.get_port()
    );
    fs::write(&path, text).unwrap();
    // Debian installs it where not everybody's PATH leads; it refuses root, as Postgres does.
    let program = ["/usr/sbin/pgbouncer", "pgbouncer"].into_iter().find(|path| fs::metadata(path).is_ok());
    let mut command = Command::new(program.unwrap_or("pgbouncer"));
    if nix::unistd::Uid::effective().is_root() {
        command.args(["-u", "postgres"]);
    }
    let child = command.arg("-q").arg(&path).stdout(Stdio::null()).spawn();
    let child = child.expect("PgBouncer runs (Debian: apt-get install pgbouncer)");
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username(user).database(name);
    let pooler = Pooler { child, options, _folder: folder };
    eventually("PgBouncer answers", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    pooler
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_lends_sessions_by_the_transaction_is_refused_by_name() {
    let db = Database::fresh().await;
    let lends = pooler(&db, "transaction").await;
    let refused = database::refuse_shared_sessions(&lends.options).await.unwrap_err();
    assert!(
        refused.message.contains("pooler") && refused.help.unwrap().contains("pool_mode = session"),
        "{}",
        refused.message
    );
    for verb in ["check", "runs"] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rollcall.yaml"), "space_id: spa_test\n").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
        let url = lends.options.to_url_lossy().to_string();
        let output = command.current_dir(folder.path()).arg(verb).env("DATABASE_URL", url).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && said.contains("pooler"), "{verb}: {said}");
    }
    let whole = pooler(&db, "session").await;
    database::refuse_shared_sessions(&whole.options).await.unwrap();
    database::refuse_shared_sessions(&db.options()).await.unwrap();
}
