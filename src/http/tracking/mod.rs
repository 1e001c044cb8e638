//! How do Segment's libraries send to us? Its tracking API: an address a call, one for batches, and what browsers ask beside.
//!
//! ```text
//!  body (bytes, gzip) ──► call (pure: messages, each or why not) ──► profile::live (one commit for many) ──► answer
//! ```
//!
//! 200 means committed. What is wrong with one message is told of that one; what a second try would mend is answered so that every
//! library tries again. Nothing here knows an audience.

mod answer;
mod apart;
mod body;
mod browser;
pub mod call;
mod keys;
mod tally;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sqlx::PgPool;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use super::{Guards, Listener, Running};
use crate::{
    Result,
    clock::Clock,
    config, limits,
    profile::{
        Message, Refusal,
        live::{Intake, Unstored, Writers},
        room::Budget,
        rules::Rules,
    },
    telemetry::metrics::{INTAKE_MESSAGES, TRACKING_REQUESTS},
};
use answer::{Answer, RATE_LIMIT_RESET};
use body::Unread;
use call::{Address, Call, Received};
use keys::{Keys, Source};
use tally::{Keeper, Tally};

/// The listener for live messages, with the writers behind it.
pub struct Tracking {
    running: Running,
    shared: Shared,
    writers: Writers,
    tally: Keeper,
}

/// What every request needs.
#[derive(Clone)]
struct Shared {
    intake: Intake,
    /// What the bodies of those hold who have shown no write key.
    strangers: Budget,
    clock: Clock,
    config: Arc<RwLock<Arc<Reading>>>,
    tally: Tally,
    rules: Arc<Rules>,
}

/// The configuration as requests read it.
struct Reading {
    keys: Keys,
    public_url: Option<String>,
}

impl Reading {
    fn of(config: &config::Tracking) -> Arc<Reading> {
        Arc::new(Reading { keys: Keys::of(config), public_url: config.public_url.clone() })
    }
}

impl Tracking {
    /// Listens, and stores what comes; whose it is goes by `rules`.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn start(pool: PgPool, clock: Clock, config: &config::Tracking, rules: Arc<Rules>) -> Result<Tracking> {
        let listener = Tracking::bind(config).await?;
        Ok(Tracking::start_on(listener, pool, clock, config, rules))
    }

    /// Takes the address; nobody is answered yet.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn bind(config: &config::Tracking) -> Result<Listener> {
        Listener::bind("tracking", config.address()).await
    }

    /// As [`Tracking::start`], on an address that is had already.
    pub fn start_on(
        listener: Listener,
        pool: PgPool,
        clock: Clock,
        config: &config::Tracking,
        rules: Arc<Rules>,
    ) -> Tracking {
        if config.write_keys.is_empty() {
            tracing::warn!("no write key is configured: whoever is on this machine may send messages");
        }
        let (intake, writers) = Intake::start(&pool, &clock, &rules);
        let (tally, keeper) = Tally::start(pool);
        let config = Arc::new(RwLock::new(Reading::of(config)));
        let strangers = Budget::new(limits::STRANGERS_BYTES, false);
        let shared = Shared { intake, strangers, clock, config, tally, rules };
        let guards = Guards {
            // Read within its own limit, and answered as the libraries need it.
            body_bytes: usize::MAX,
            request: Duration::from_secs(limits::TRACKING_REQUEST_SECONDS),
            connections: limits::TRACKING_CONNECTIONS,
        };
        let running = listener.start(routes(shared.clone()), guards);
        Tracking { running, shared, writers, tally: keeper }
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.running.address()
    }

    /// See [`Running::hand_over`].
    pub fn hand_over(&self) -> Option<Listener> {
        self.running.hand_over()
    }

    /// Takes other write keys in.
    pub fn follow(&self, config: &config::Tracking) {
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = Reading::of(config);
    }

    /// Takes no more requests, and ends when those under way are answered.
    pub async fn stop(self) {
        let Tracking { running, shared, writers, tally } = self;
        running.stop().await;
        drop(shared);
        // Cut-off requests may have left something to be written, which nobody waits for.
        tokio::time::timeout(Duration::from_secs(1), writers.ended()).await.ok();
        tally.end().await;
    }
}

fn routes(shared: Shared) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        // `*` would not include Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::RETRY_AFTER, RATE_LIMIT_RESET])
        .max_age(Duration::from_secs(86_400));
    Router::new()
        .route("/v1/{call}", post(take))
        .route("/v1/{call}/", post(take))
        .route("/v1/projects/{write_key}/settings", get(settings))
        .fallback(|| async { Answer::Nowhere })
        .layer(cors)
        .with_state(shared)
}

async fn take(State(shared): State<Shared>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let answer = match (Address::of(&name), &*name) {
        (Some(address), _) => shared.take(address, &headers, body).await,
        // What the browser library measures of itself is taken and forgotten.
        (None, "m") => Answer::Stored { refused: Vec::new() },
        (None, _) => Answer::Nowhere,
    };
    metrics::counter!(TRACKING_REQUESTS, "outcome" => answer.outcome()).increment(1);
    answer.into_response()
}

async fn settings(State(shared): State<Shared>, Path(write_key): Path<String>, headers: HeaderMap) -> Response {
    let reading = shared.reading();
    let is_known = !matches!(reading.keys.source(std::iter::once(write_key.clone())), Source::Unknown);
    if !is_known && reading.keys.is_strict {
        return Answer::Unknown("nobody has this write key").into_response();
    }
    let (scheme, host) = browser::origin(reading.public_url.as_deref(), &headers);
    ([(header::CACHE_CONTROL, "no-cache")], Json(browser::settings(&write_key, &scheme, &host))).into_response()
}

impl Shared {
    fn reading(&self) -> Arc<Reading> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the messages of a request, and says what became of them.
    ///
    /// Whose it is counts before its body is read: those who have shown no key share few bytes, whatever they send.
    async fn take(&self, address: Address, headers: &HeaderMap, body: Body) -> Answer {
        let reading = self.reading();
        let mut room = match reading.keys.source(keys::in_header(headers).into_iter()) {
            Source::Named(_) | Source::Anybody => self.intake.room(),
            // A token of OAuth may stand beside the key, but who signs in by a key has no other.
            Source::Unknown if reading.keys.is_strict && keys::is_basic(headers) => {
                body::discard(body).await;
                return Answer::Unknown("nobody has this write key");
            }
            Source::Missing | Source::Unknown => self.strangers.room(),
        };
        let read = match body::read(headers, body, &mut room).await {
            Ok(body) => self.understand(address, headers, &body),
            Err(Unread::Invalid(code, message)) => Err(Answer::Invalid(code, message)),
            Err(Unread::Full) => Err(self.unstored(Unstored::Full)),
            Err(Unread::Slow) => Err(Answer::Slow(self.clock.now())),
        };
        let Understood { source, sent, messages, mut refused } = match read {
            Ok(understood) => understood,
            Err(answer) => return answer,
        };
        let misdated = messages.iter().filter(|message| message.misdated).count() as i64;
        // It is no stranger's any more.
        let mut own = self.intake.room();
        if own.grow(room.bytes()).await.is_err() {
            return self.unstored(Unstored::Full);
        }
        own.is_whole();
        drop(room);
        let places: Vec<u64> = messages.iter().map(|message| message.line).collect();
        match self.intake.store(messages, own).await {
            Ok(faults) => refused.extend(
                faults
                    .into_iter()
                    .filter_map(|(nth, reason)| Some(Refusal { line: *places.get(nth)?, field: "line", reason })),
            ),
            Err(unstored) => return self.unstored(unstored),
        }
        self.tally.add(source.as_deref(), &refused);
        self.tally.add_misdated(source.as_deref(), misdated);
        match refused.first() {
            Some(first) if refused.len() == sent => answer::all_refused(first),
            _ => Answer::Stored { refused },
        }
    }

    /// Whose the request is, and what it says.
    fn understand(&self, address: Address, headers: &HeaderMap, body: &str) -> Result<Understood, Answer> {
        let mended;
        let call = match Call::read(address, body) {
            // Seldom, so that a body which is right is read once.
            Err(wrong) => match Call::mended(address, body) {
                Some(body) => {
                    mended = body;
                    Call::read(address, &mended)
                }
                None => Err(wrong),
            },
            call => call,
        };
        let call = call.map_err(|(code, message)| Answer::Invalid(code, message))?;
        let reading = self.reading();
        let source = match reading.keys.source(keys::presented(headers, call.write_key())) {
            Source::Named(name) => Some(name),
            Source::Anybody => None,
            Source::Missing | Source::Unknown if !reading.keys.is_strict => {
                let sent = call.count() as u64;
                metrics::counter!(INTAKE_MESSAGES, "outcome" => "dropped").increment(sent);
                return Err(Answer::Dropped);
            }
            Source::Missing => return Err(Answer::Unknown("there is no write key")),
            Source::Unknown => return Err(Answer::Unknown("nobody has this write key")),
        };
        let (mut messages, mut refused) = (Vec::new(), Vec::new());
        for read in call.messages(Received { at: self.clock.now(), source, rules: &self.rules }, random) {
            match read {
                Ok(message) => messages.push(message),
                Err(refusal) => refused.push(refusal),
            }
        }
        Ok(Understood { source: source.map(str::to_owned), sent: call.count(), messages, refused })
    }

    fn unstored(&self, why: Unstored) -> Answer {
        Answer::Unstored(why, self.clock.now())
    }
}

/// A request, understood.
struct Understood {
    source: Option<String>,
    /// How many messages it brought.
    sent: usize,
    messages: Vec<Message>,
    /// The others, and why.
    refused: Vec<Refusal>,
}

/// Bytes that nobody else has drawn.
fn random() -> [u8; 16] {
    // Of std's hashers each has keys of its own, seeded by the system.
    let half = || RandomState::new().hash_one(()).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    bytes
}
