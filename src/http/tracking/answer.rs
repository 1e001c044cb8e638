//! What is answered? In JSON, by statuses that make each of Segment's libraries do the right thing: go on, drop, or come again.
//!
//! 400 for whatever a second try would not mend, however large, because some libraries keep a batch for ever on any other status
//! below 500 than 400; 429 and 503 with `Retry-After` for what a second try will. Never a value of a message.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::{
    limits,
    profile::{Refusal, live::Unstored},
};

/// When a client should come again, in seconds.
const RETRY_SECONDS: i64 = 1;
pub const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// An answer to a request with messages.
#[derive(Debug)]
pub enum Answer {
    /// All are committed, save these.
    Stored { refused: Vec<Refusal> },
    /// A wrong write key that is not to be told.
    Dropped,
    /// Nothing of it can be used: a code for programs, and a sentence.
    Invalid(&'static str, String),
    /// No write key, or one that nobody knows.
    Unknown(&'static str),
    /// No such address.
    Nowhere,
    /// Nothing is stored, as far as is known.
    Unstored(Unstored, DateTime<Utc>),
    /// Its body came too slowly to be waited for.
    Slow(DateTime<Utc>),
}

impl Answer {
    /// The label of `rollcall_tracking_requests_total`.
    pub fn outcome(&self) -> &'static str {
        match self {
            Answer::Stored { refused } if refused.is_empty() => "stored",
            Answer::Stored { .. } => "stored_in_part",
            Answer::Dropped => "dropped",
            Answer::Invalid(..) => "invalid",
            Answer::Unknown(_) => "unauthorized",
            Answer::Nowhere => "not_found",
            Answer::Unstored(Unstored::Full, _) => "full",
            Answer::Unstored(Unstored::Away, _) => "away",
            Answer::Slow(_) => "slow",
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Answer::Dropped => Json(json!({"success": true})).into_response(),
            Answer::Stored { refused } => Json(stored(&refused)).into_response(),
            Answer::Invalid(code, message) => fault(StatusCode::BAD_REQUEST, code, &message),
            Answer::Unknown(message) => {
                let mut response = fault(StatusCode::UNAUTHORIZED, "invalid_write_key", message);
                // Not `Basic`: a browser would ask its user for a password.
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("WriteKey"));
                response
            }
            Answer::Nowhere => fault(StatusCode::NOT_FOUND, "not_found", "there is no such address"),
            Answer::Unstored(Unstored::Full, now) => {
                again(now, fault(StatusCode::TOO_MANY_REQUESTS, "overloaded", "too much waits: come again"))
            }
            Answer::Unstored(Unstored::Away, now) => again(
                now,
                fault(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "nothing can be stored now: come again"),
            ),
            Answer::Slow(now) => {
                again(now, fault(StatusCode::SERVICE_UNAVAILABLE, "too_slow", "the body came too slowly: come again"))
            }
        }
    }
}

/// An answer that makes every library come again.
fn again(now: DateTime<Utc>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    headers.insert(RATE_LIMIT_RESET, HeaderValue::from(now.timestamp() + RETRY_SECONDS));
    response
}

fn stored(refused: &[Refusal]) -> Value {
    if refused.is_empty() {
        return json!({"success": true});
    }
    let told = refused.iter().take(limits::TRACKING_REFUSALS);
    let told: Vec<Value> = told
        .map(|refusal| json!({"index": refusal.line, "field": field(refusal), "message": sentence(refusal)}))
        .collect();
    json!({"success": true, "refused": told, "refused_count": refused.len()})
}

/// The one message of a request is refused, or each of a batch: the first reason stands for all.
pub fn all_refused(refusal: &Refusal) -> Answer {
    let is_nobody = refusal.field == "userId" && refusal.reason.starts_with("is missing");
    Answer::Invalid(if is_nobody { "no_user_anon_id" } else { "invalid_message" }, sentence(refusal))
}

fn field(refusal: &Refusal) -> &'static str {
    // `line` is what an import calls the whole.
    if refusal.field == "line" { "message" } else { refusal.field }
}

fn sentence(refusal: &Refusal) -> String {
    format!("{} {}", field(refusal), refusal.reason)
}

/// Segment's Python library needs both `code` and `message`.
fn fault(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"success": false, "code": code, "message": message}))).into_response()
}
