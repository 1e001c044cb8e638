//! Is the listener `http` the one that the configuration asks for?

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    Result,
    config::Http,
    http::{
        Guards, Listener, Running,
        operations::{self, Operations},
    },
    limits,
};

/// The listener, as long as it is wanted.
pub struct Listening {
    operations: Operations,
    by: Http,
    running: Option<Running>,
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
    /// Begins to answer.
    pub fn start(listener: Option<Listener>, by: &Http, operations: Operations) -> Listening {
        let routes = operations::routes(operations.clone(), by.token.as_ref());
        let running = listener.map(|listener| listener.start(routes, Guards::default()));
        Listening { operations, by: by.clone(), running }
    }

    /// Listens by another configuration from here on, if it asks for something else.
    ///
    /// # Errors
    /// As [`bind`]. Another address is had before the old one is given up, so that stays then.
    pub async fn follow(&mut self, wanted: &Http) -> Result<()> {
        let token = |by: &Http| by.token.as_ref().map(|token| token.expose().to_owned());
        let is_same_address = self.by.address() == wanted.address();
        if is_same_address && token(&self.by) == token(wanted) {
            return Ok(());
        }
        if is_same_address {
            self.stop().await;
        }
        let listener = bind(wanted).await?;
        self.stop().await;
        *self = Listening::start(listener, wanted, self.operations.clone());
        Ok(())
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
