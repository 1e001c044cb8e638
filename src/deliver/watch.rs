//! What does librdkafka say beside the results of its calls? Records that were not stored, and errors of the client as a whole.
//!
//! It only takes down what is reported; what that means is for [`super::producer`] to decide.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, Producer as _, ProducerContext},
    types::RDKafkaErrorCode as Code,
};

use crate::kafka::cluster::Context;

/// What librdkafka reports beside the results of calls.
pub struct Watch {
    pub context: Context,
    seen: Mutex<Seen>,
}

/// What was reported since it was last forgotten.
#[derive(Debug, Default)]
pub struct Seen {
    /// Records that were not stored, by index in the page.
    pub failed: Vec<(usize, Code)>,
    /// The last error that is about the client as a whole.
    pub error: Option<Code>,
    /// Whether a connection broke.
    pub broken: bool,
}

/// The delivery opaque of cursor records.
pub const CURSOR: usize = usize::MAX;

impl Watch {
    pub fn new(context: Context) -> Watch {
        Watch { context, seen: Mutex::default() }
    }

    /// Looks at what was seen, and may change it.
    pub fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = Context::ENABLE_REFRESH_OAUTH_TOKEN;

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error.clone(), reason);
        if let Some(code) = error.rdkafka_error_code() {
            self.with(|seen| {
                // "All brokers down" says less than why.
                if code != Code::AllBrokersDown || seen.error.is_none() {
                    seen.error = Some(code);
                }
            });
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A connection that breaks is no error to librdkafka: it sends again what was under way on it, as a commit, and says so here alone.
        if facility == "FAIL" {
            self.with(|seen| seen.broken = true);
        }
        self.context.log(level, facility, message);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, record: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            self.with(|seen| seen.failed.push((record, code)));
        }
    }
}

/// Takes in what has been reported, then rests a moment. (rust-rdkafka's `poll` with a timeout of a millisecond spins: what is
/// left of it rounds down to nothing.)
pub fn breathe<C: ProducerContext>(inner: &BaseProducer<C>) {
    inner.poll(Duration::ZERO);
    std::thread::sleep(Duration::from_micros(200));
}

/// Takes in all that has been reported: `poll` takes in one report at a time.
pub fn hear(inner: &BaseProducer<Watch>) {
    while inner.in_flight_count() > 0 {
        inner.poll(Duration::ZERO);
    }
}
