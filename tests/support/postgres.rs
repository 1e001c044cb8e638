//! A Postgres for all tests of the run, and a migrated database for each.
//!
//! `ROLLCALL_TEST_DATABASE_URL` names a server to use (its role must be allowed to create databases); else one is
//! started, in a folder that the next run deletes if this one is killed. It dies with the test binary.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use rollcall::{
    database::{self, Sessions},
    embedded::{Embedded, EmbeddedOptions},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;

static SERVER: OnceCell<Server> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

struct Server {
    options: PgConnectOptions,
    /// Held for the run; the server stops with the process.
    _embedded: Option<Embedded>,
}

/// One test's own database, migrated and empty.
pub struct Database {
    pub pool: PgPool,
    options: PgConnectOptions,
}

impl Database {
    /// A copy of a template that was migrated once.
    pub async fn fresh() -> Database {
        let server = SERVER.get_or_init(Server::start).await;
        let name = database_name(&COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        server.execute(format!("create database {name} template {}", database_name("template"))).await;
        Database::of(server.options.clone().database(&name)).await
    }

    /// An empty database without any table.
    pub async fn bare() -> Database {
        let server = SERVER.get_or_init(Server::start).await;
        let name = database_name(&COUNT.fetch_add(1, Ordering::Relaxed).to_string());
        server.execute(format!("create database {name}")).await;
        Database::of(server.options.clone().database(&name)).await
    }

    /// One that stands elsewhere, migrated here.
    pub async fn at(options: PgConnectOptions) -> Database {
        let database = Database::of(options).await;
        rollcall::database::migrate(&database.pool).await.expect("it is migrated");
        database
    }

    async fn of(options: PgConnectOptions) -> Database {
        let pool = database::pool(options.clone(), Sessions::Work, 8);
        Database { pool, options }
    }

    /// How to connect to it anew.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Lets everybody in, or nobody: whoever is connected is cut off.
    pub async fn let_in(&self, everybody: bool) {
        let options = self.options();
        let name = options.get_database().expect("a database of its own").to_owned();
        let other = PgPool::connect_with(options.database("postgres")).await.unwrap();
        let sql = format!("alter database {name} allow_connections {everybody}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&other).await.unwrap();
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1";
        sqlx::query(cut).bind(&name).execute(&other).await.unwrap();
    }

    /// For `--database` of a program under test, and for psql.
    pub fn url(&self) -> String {
        let host = match self.options.get_socket() {
            Some(socket) => {
                format!("localhost/{}?host={}", self.options.get_database().unwrap_or(""), socket.display())
            }
            None => return self.options.to_url_lossy().to_string(),
        };
        format!("postgres://{}@{host}", self.options.get_username())
    }

    /// The same for another role.
    pub fn url_as(&self, role: &str) -> String {
        self.url().replace(&format!("//{}@", self.options.get_username()), &format!("//{role}@"))
    }

    /// From now on each text that is read as a number takes a minute.
    pub async fn read_numbers_slowly(&self) {
        let slow = "create or replace function rollcall_number(value text) returns numeric language plpgsql as
                    $$ begin perform pg_sleep(60); return 1; end $$";
        sqlx::raw_sql(slow).execute(&self.pool).await.unwrap();
    }
}

impl Server {
    async fn start() -> Server {
        let (options, embedded) = match std::env::var("ROLLCALL_TEST_DATABASE_URL") {
            Ok(url) => (url.parse().expect("ROLLCALL_TEST_DATABASE_URL is a Postgres URL"), None),
            Err(_) => {
                let folder = own_folder(&std::env::temp_dir().join("rollcall-tests"));
                let embedded =
                    Embedded::start(EmbeddedOptions { folder, durable: false }).await.expect("Postgres starts");
                (embedded.options(), Some(embedded))
            }
        };
        let server = Server { options: options.log_statements("trace".parse().expect("a level")), _embedded: embedded };
        let template = database_name("template");
        server.execute(format!("create database {template}")).await;
        let pool = PgPoolOptions::new()
            .connect_with(server.options.clone().database(&template))
            .await
            .expect("the template opens");
        rollcall::database::migrate(&pool).await.expect("the template is migrated");
        pool.close().await;
        server
    }

    async fn execute(&self, sql: String) {
        let mut connection = self.options.connect().await.expect("Postgres takes connections");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the statement runs");
        connection.close().await.ok();
    }
}

fn database_name(suffix: &str) -> String {
    format!("rollcall_test_{}_{suffix}", std::process::id())
}

/// `above/<our process id>`, after deleting those whose process is gone.
fn own_folder(above: &Path) -> std::path::PathBuf {
    for folder in fs::read_dir(above).into_iter().flatten().flatten() {
        let pid = folder.file_name().to_string_lossy().parse().ok();
        let alive = pid.is_some_and(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok());
        if !alive {
            fs::remove_dir_all(folder.path()).ok();
        }
    }
    above.join(std::process::id().to_string())
}
