//! Is the process well? `/healthz` for whoever starts it again.

use axum::{Router, routing::get};

use super::token;
use crate::config::Http;

/// The routes of the listener `http`.
pub fn routes(config: &Http) -> Router {
    // Whoever probes need not know the token: the answer tells nothing.
    let open = Router::new().route("/healthz", get(|| async { "ok\n" }));
    open.merge(token::required(Router::new(), config.token.as_ref()))
}
