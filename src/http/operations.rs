//! Is the process well, can it work, is everything fresh, and what has it done? Health and metrics of `serve`.
//!
//! ```text
//!  /healthz     the process lives, and its ticker goes round: if not, start it again        open
//!  /readyz      this instance works: database, schema, a session to work with, a ticker      open; names with the token
//!               that has just looked. One bad audience changes nothing
//!  /freshness   every audience is as fresh as promised, and no destination halted           with the token
//!  /metrics     Prometheus                                                                  with the token
//! ```
//!
//! Only reads, on a connection of its own: health does not wait behind work. What the database said is told again for some seconds, so
//! that whoever asks often does not ask the database.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{
    report::{Report, Reporter},
    token,
};
use crate::{
    freshness, limits,
    telemetry::{Heartbeat, metrics},
};

/// What the routes look at.
#[derive(Debug, Clone)]
pub struct Operations {
    pub reporter: Arc<Reporter>,
    pub ticker: Heartbeat,
}

/// The routes of the listener `http`, under its token.
pub fn routes(operations: Operations, token: Option<&crate::config::Secret>) -> Router {
    let guarded = Router::new().route("/freshness", get(fresh)).route("/metrics", get(exported));
    // Whoever probes need not know the token, and is told nothing but whether it is well.
    let known = token.map(token::digest);
    let open = Router::new().route("/healthz", get(alive)).route(
        "/readyz",
        get(move |state, headers: HeaderMap| {
            let is_trusted = known.is_none_or(|known| token::is_carried(&headers, &known));
            ready(state, is_trusted)
        }),
    );
    open.merge(token::required(guarded, token)).with_state(operations)
}

async fn alive(State(operations): State<Operations>) -> Response {
    let silent = operations.ticker.silent_for();
    if silent < Duration::from_secs(limits::TICKER_SILENT_SECONDS) {
        return (StatusCode::OK, Json(json!({"status": "alive"}))).into_response();
    }
    let body = json!({"status": "stuck", "ticker_silent_seconds": silent.as_secs()});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn ready(State(operations): State<Operations>, is_trusted: bool) -> Response {
    let report = operations.reporter.report().await;
    let looks = operations.ticker.silent_for() < Duration::from_secs(limits::READY_SILENT_SECONDS);
    let (code, status) = match &*report {
        Report { database: Ok(_), is_schema_current: true, gives_sessions: true, .. } if looks => {
            (StatusCode::OK, "ready")
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let mut body = json!({"status": status});
    if is_trusted {
        let (database, schema) = match (&report.database, report.is_schema_current) {
            (Ok(_), true) => ("up", "current"),
            (Ok(_), false) => ("up", "older"),
            (Err(_), _) => ("down", "unknown"),
        };
        body["database"] = database.into();
        body["schema"] = schema.into();
        body["sessions"] = if report.gives_sessions { "free" } else { "taken" }.into();
        body["ticker"] = if looks { "looks" } else { "silent" }.into();
        body["overdue"] = overdue(&report).iter().map(|audience| audience.key.clone()).collect();
        body["halted"] = halted(&report).into();
    }
    (code, Json(body)).into_response()
}

async fn fresh(State(operations): State<Operations>) -> Response {
    let report = operations.reporter.report().await;
    if let Err(error) = &report.database {
        let body = json!({"status": "unknown", "database": "down", "error": error});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let (overdue, halted) = (overdue(&report), halted(&report));
    let (code, status) = match (overdue.is_empty(), halted.is_empty()) {
        (true, true) => (StatusCode::OK, "fresh"),
        (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "halted"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "overdue"),
    };
    (code, Json(json!({"status": status, "overdue": overdue, "halted": halted}))).into_response()
}

async fn exported(State(operations): State<Operations>) -> Response {
    operations.reporter.report().await.count();
    let text = metrics::start().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn overdue(report: &Report) -> Vec<&freshness::Audience> {
    report.database.as_ref().map(|facts| facts.survey.overdue()).unwrap_or_default()
}

fn halted(report: &Report) -> Vec<String> {
    let destinations = report.database.iter().flat_map(|facts| &facts.destinations);
    destinations.filter(|row| row.state == "halted").map(|row| row.name.clone()).collect()
}
