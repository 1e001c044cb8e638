//! May this request be answered? Only if it carries the listener's token, where there is one.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use openssl::memcmp;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// The same routes, which answer 401 to whoever does not send `Authorization: Bearer` with this token. Without one they answer all:
/// the configuration has seen to it that only this machine can ask then.
pub fn required<S: Clone + Send + Sync + 'static>(routes: Router<S>, token: Option<&Secret>) -> Router<S> {
    match token {
        Some(token) => routes.route_layer(middleware::from_fn_with_state(digest(token), check)),
        None => routes,
    }
}

async fn check(State(expected): State<[u8; 32]>, request: Request, next: Next) -> Response {
    match is_carried(request.headers(), &expected) {
        true => next.run(request).await,
        false => {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "a token is needed\n").into_response()
        }
    }
}

/// What is kept of a token: enough to know it again, not to use it.
pub fn digest(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose().as_bytes()).into()
}

/// Whether a request carries the token of this digest. Digests are compared, and each in full: neither the time nor the length tells how
/// near a guess was.
pub fn is_carried(headers: &HeaderMap, expected: &[u8; 32]) -> bool {
    carried(headers).is_some_and(|token| memcmp::eq(Sha256::digest(token.as_bytes()).as_slice(), expected))
}

fn carried(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
