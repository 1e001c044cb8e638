//! Is the listener `http` the one that the configuration asks for?

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sqlx::PgPool;

use crate::{
    Result,
    clock::Clock,
    config::{Config, Http, Identity},
    http::{
        Guards, Listener, Running,
        operations::{self, Operations},
        profiles,
    },
    limits,
    profile::rules::Rules,
};

/// The listener, as long as it is wanted.
pub struct Listening {
    answering: Answering,
    by: Http,
    space_id: String,
    identity: Identity,
    running: Option<Running>,
}

/// The listener that comes next, if there is to be one.
pub struct Next(Option<Listener>, Arc<Rules>);

/// What is answered from.
#[derive(Clone)]
pub struct Answering {
    pub operations: Operations,
    /// Sessions of those who only look: they wait for each other, and the work for none of them.
    pub reads: PgPool,
    pub clock: Clock,
}

/// Takes the address that a configuration names; `None` if it wants no listener.
///
/// # Errors
/// If the address that is configured cannot be had. One that nobody asked for is done without: the second instance on a machine is
/// to serve as well.
pub async fn bind(http: &Http) -> Result<Option<Listener>> {
    more_files();
    let Some(address) = http.address() else { return Ok(None) };
    match Listener::bind("http", address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if http.listen.is_none() => {
            let help = "name one with `http: {listen: …}`, or set `http: {enabled: false}`";
            tracing::warn!(%error, help, "serving without a listener for health and metrics");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Listening {
    /// Begins to answer; `rules` are those of the configuration.
    pub fn start(listener: Option<Listener>, config: &Config, rules: Arc<Rules>, answering: Answering) -> Listening {
        let (by, space_id) = (config.http.clone(), config.space_id().to_owned());
        let Answering { operations, reads, clock } = answering.clone();
        let running = listener.map(|listener| {
            let profiles = profiles::routes(reads, clock, &space_id, by.token.as_ref(), rules);
            listener.start(operations::routes(operations, by.token.as_ref()).merge(profiles), Guards::default())
        });
        Listening { answering, by, space_id, identity: config.identity.clone(), running }
    }

    /// Has the address that another configuration asks for, and changes nothing yet; `None` if it asks for nothing else.
    ///
    /// # Errors
    /// As [`bind`].
    pub async fn prepare(&self, config: &Config) -> Result<Option<Next>> {
        let wanted = &config.http;
        let token = |by: &Http| by.token.as_ref().map(|token| token.expose().to_owned());
        let is_same_address = self.by.address() == wanted.address();
        let is_same_space = self.space_id == config.space_id() && self.identity == config.identity;
        if is_same_address && token(&self.by) == token(wanted) && is_same_space {
            return Ok(None);
        }
        let had = self.running.as_ref().filter(|_| is_same_address).and_then(Running::hand_over);
        let rules = Arc::new(Rules::of(&config.identity)?);
        let listener = match had {
            Some(listener) => Some(listener),
            None => bind(wanted).await?,
        };
        Ok(Some(Next(listener, rules)))
    }

    /// Listens by another configuration, which `next` was prepared for, from here on.
    pub async fn follow(&mut self, config: &Config, next: Option<Next>) {
        if let Some(Next(listener, rules)) = next {
            self.stop().await;
            *self = Listening::start(listener, config, rules, self.answering.clone());
        }
    }

    /// Lets the requests under way end.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }
}

/// More open files than shells give, which is 1,024: connections alone may use those up.
fn more_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard.min(limits::OPEN_FILES)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(limits::OPEN_FILES), hard)
    {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}
