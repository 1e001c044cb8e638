//! What does a verb need from outside? The configuration, the database and the output, opened when first asked for.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, PgPool, postgres::PgConnectOptions};
use tokio::{
    sync::{Mutex, OnceCell},
    time::timeout,
};

use super::{Global, Output};
use crate::{
    Error, Result,
    clock::Clock,
    config::{self, Config},
    database::{self, Sessions},
    embedded::{Embedded, EmbeddedOptions},
    lease::Instance,
    profile::rules::Rules,
};

/// Connections of one process: evaluation reads on several at once.
const CONNECTIONS: u32 = 8;

/// How long the database may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Handed to every verb.
#[derive(Debug)]
pub struct Context {
    global: Global,
    output: Output,
    clock: Clock,
    store: OnceCell<PgPool>,
    instance: OnceCell<Instance>,
    embedded: Mutex<Option<Embedded>>,
}

impl Context {
    pub(super) fn new(global: Global) -> Self {
        let output = Output::new(global.json, global.color);
        Context {
            global,
            output,
            clock: Clock::system(),
            store: OnceCell::new(),
            instance: OnceCell::new(),
            embedded: Mutex::new(None),
        }
    }

    /// The same program as if it had been started in `folder`, with what is kept there.
    pub fn at(&self, folder: &Path) -> Context {
        let global =
            Global { config: folder.join("rollcall.yaml"), state_dir: folder.join(".rollcall"), ..self.global.clone() };
        Context { clock: self.clock.clone(), ..Context::new(global) }
    }

    /// Whether the database is an embedded one.
    pub async fn is_embedded(&self) -> bool {
        self.embedded.lock().await.is_some()
    }

    /// The options given to every verb.
    pub fn global(&self) -> &Global {
        &self.global
    }

    /// Where results go.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// What time it is.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The configuration file, read and checked.
    pub fn config(&self) -> Result<Config> {
        config::load(&self.global.config)
    }

    /// How people are told apart: by the configuration, if there is one.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if the configuration is wrong.
    pub fn rules(&self) -> Result<Rules> {
        if self.global.config.exists() { Rules::of(&self.config()?.identity) } else { Ok(Rules::default()) }
    }

    /// The database, its schema up to date: the one of `--database` or `DATABASE_URL`, else the configured one, else
    /// an embedded one that lives as long as this process.
    pub async fn store(&self) -> Result<PgPool> {
        let pool = self.store.get_or_try_init(|| async {
            // A slow statement is no news to whoever reads the log, and its text tells them nothing.
            let options = self.database().await?.disable_statement_logging();
            // A pool would knock for half a minute on a closed door; one connection says at once what is the matter.
            let first = timeout(PATIENCE, database::connect(&options)).await;
            let mut first = first.map_err(|_| away(sqlx::Error::PoolTimedOut))?.map_err(away)?;
            // Before anything is prepared: a pooler may lend the session in which it was.
            database::refuse_shared_sessions(&options).await?;
            database::refuse_standby(&mut first).await?;
            first.close().await?;
            let pool = database::pool(options, Sessions::Work, CONNECTIONS);
            database::migrate(&pool).await?;
            Ok::<_, Error>(pool)
        });
        Ok(pool.await?.clone())
    }

    /// This process among all that work on the database.
    pub async fn instance(&self) -> Result<Instance> {
        let instance =
            self.instance.get_or_try_init(async || Instance::new(self.store().await?, self.clock.clone()).await);
        Ok(instance.await?.clone())
    }

    /// How to connect to the database, which is started here if it is an embedded one.
    pub(super) async fn database(&self) -> Result<PgConnectOptions> {
        if let Some(url) = self.database_url()? {
            return url.parse().map_err(|_| {
                Error::settings("the database's URL cannot be read")
                    .help("Write postgres://user:password@host:5432/database, with special characters percent-encoded.")
            });
        }
        let mut embedded = self.embedded.lock().await;
        if let Some(embedded) = &*embedded {
            return Ok(embedded.options());
        }
        let folder = self.embedded_folder();
        tracing::info!(folder = %folder.display(), "starting the embedded Postgres");
        let started = Embedded::start(EmbeddedOptions { folder, durable: true }).await?;
        Ok(embedded.insert(started).options())
    }

    /// The URL of the database, unless it is to be an embedded one. It may hold a password.
    pub(super) fn database_url(&self) -> Result<Option<String>> {
        if let Some(url) = &self.global.database {
            return Ok(Some(url.clone()));
        }
        // A verb such as `import` works without a configuration; one that is there counts, and must be right.
        if !self.global.config.exists() {
            return Ok(None);
        }
        Ok(self.config()?.database.map(config::Secret::into_exposed))
    }

    /// Whether there is a database to ask: one that is named, or an embedded one that was set up before.
    pub(super) fn has_store(&self) -> Result<bool> {
        Ok(self.database_url()?.is_some() || self.embedded_folder().exists())
    }

    fn embedded_folder(&self) -> PathBuf {
        self.global.state_dir.join("postgres")
    }

    /// Closes the connections and stops the embedded Postgres.
    pub(super) async fn close(&self) -> Result<()> {
        if let Some(instance) = self.instance.get() {
            // Also after Ctrl-C in the middle: whoever is next need not wait for their end.
            timeout(Duration::from_secs(1), instance.release_all()).await.ok();
        }
        if let Some(pool) = self.store.get() {
            // A database that does not answer does not keep the program from ending.
            timeout(Duration::from_secs(1), pool.close()).await.ok();
        }
        match self.embedded.lock().await.take() {
            Some(embedded) => embedded.stop().await,
            None => Ok(()),
        }
    }
}

/// A first connection that fails is most often a wrong address: say where to look.
fn away(error: sqlx::Error) -> Error {
    let error = Error::from(error);
    let message = match error.kind {
        crate::Kind::Settings => "the database refused the connection",
        _ => "the database cannot be reached",
    };
    Error::new(error.kind, message)
        .help("Check --database, DATABASE_URL or `database` in the configuration; `rollcall check` says more.")
        .because(error)
}
