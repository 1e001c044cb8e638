//! Is the listener `http` the one that the configuration asks for?

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use sqlx::PgPool;

use crate::{
    Result,
    clock::Clock,
    config::{Config, Http},
    http::{Guards, Listener, Running, operations, profiles},
};

/// The listener, as long as it is wanted.
pub struct Listening {
    by: Http,
    space_id: String,
    pool: PgPool,
    clock: Clock,
    running: Option<Running>,
}

impl Listening {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the address that is configured cannot be had. One that nobody asked for is done without: the second instance on a
    /// machine is to serve as well.
    pub async fn start(config: &Config, pool: PgPool, clock: Clock) -> Result<Listening> {
        more_files();
        let by = config.http.clone();
        let running = match by.address() {
            None => None,
            Some(address) => match Listener::bind("http", address).await {
                Ok(listener) => Some({
                    let profiles = profiles::routes(pool.clone(), clock.clone(), config.space_id(), by.token.as_ref());
                    listener.start(operations::routes(&by).merge(profiles), Guards::default())
                }),
                Err(error) if by.listen.is_none() => {
                    let help = "name one with `http: {listen: …}`, or set `http: {enabled: false}`";
                    tracing::warn!(%error, help, "serving without a listener for health and metrics");
                    None
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Listening { by, space_id: config.space_id().to_owned(), pool, clock, running })
    }

    /// Listens by another configuration from here on, if it asks for something else.
    ///
    /// # Errors
    /// As [`Listening::start`]; nobody listens then.
    pub async fn follow(&mut self, config: &Config) -> Result<()> {
        let token = |by: &Http| by.token.as_ref().map(|token| token.expose().to_owned());
        let is_same = self.by.address() == config.http.address()
            && token(&self.by) == token(&config.http)
            && self.space_id == config.space_id();
        if !is_same {
            self.stop().await;
            *self = Listening::start(config, self.pool.clone(), self.clock.clone()).await?;
        }
        Ok(())
    }

    /// Lets the requests under way end.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

/// As many open files as the system lets us have: shells give 1,024, which connections alone may use up.
fn more_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}
