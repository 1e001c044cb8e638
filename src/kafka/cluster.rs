//! How do we get to a cluster? Settings, certificates and tokens, made into clients that can authenticate from the start.
//!
//! Every client of delivery is made here. Opening reads the certificate files and gets the first token anew, so whoever
//! opens again after a refusal picks up rotated credentials; nothing is retried here.

use std::{
    ffi::CString,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    admin::AdminClient,
    client::{Client, ClientContext, OAuthToken},
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult},
    producer::{BaseProducer, Producer as _, ProducerContext},
    types::RDKafkaErrorCode as Code,
};

use super::{
    diagnosis::{self, Remark},
    handshake,
    properties::properties,
    settings::Settings,
    tls,
    tokens::Tokens,
};
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// How many remarks are kept: more say nothing new.
const REMARKS: usize = 64;

/// One destination's cluster, ready to make clients of.
#[derive(Clone)]
pub struct Cluster {
    destination: Arc<str>,
    settings: Arc<Settings>,
    config: ClientConfig,
    tokens: Option<Arc<Tokens>>,
}

impl Cluster {
    /// Reads certificates and gets the first token, where the settings ask for them. Blocks; not for a tokio worker.
    pub fn open(destination: &str, settings: &Settings) -> Result<Cluster> {
        if let Some(tls) = &settings.tls {
            if !tls.reject_unauthorized {
                tracing::warn!(
                    destination,
                    "ssl_reject_unauthorized_ca is false: ANYONE on the network path can read and change what is sent"
                );
            }
            for warning in tls::read(tls)?.warnings(Clock::system().now()) {
                tracing::warn!(destination, "{warning}");
            }
        }
        let config = properties(settings)?;
        let tokens = Tokens::start(settings)?;
        Ok(Cluster { destination: destination.into(), settings: Arc::new(settings.clone()), config, tokens })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The properties that all clients share; add what is particular to one.
    pub fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// What a client of this cluster tells and asks; one for each client.
    pub fn context(&self) -> Context {
        Context {
            destination: Arc::clone(&self.destination),
            settings: Arc::clone(&self.settings),
            tokens: self.tokens.clone(),
            remarks: Arc::default(),
        }
    }

    /// A consumer with these properties, that can authenticate from the start.
    pub fn consumer(&self, properties: &[(&str, &str)]) -> Result<BaseConsumer<Context>> {
        let mut config = self.config_without_producing();
        // Required by the consumer, and never used: partitions are assigned by hand and nothing is committed.
        config.set("group.id", "rollcall").set("enable.auto.commit", "false");
        config.extend(properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let consumer: BaseConsumer<Context> = self.create(&config, self.context())?;
        self.authenticate(consumer.client());
        Ok(consumer)
    }

    /// An admin client that can authenticate from the start.
    pub fn admin(&self) -> Result<AdminClient<Context>> {
        let admin: AdminClient<Context> = self.create(&self.config_without_producing(), self.context())?;
        self.authenticate(admin.inner());
        Ok(admin)
    }

    /// A producer that can authenticate from the start.
    pub fn producer<C: ProducerContext>(&self, config: &ClientConfig, context: C) -> Result<BaseProducer<C>> {
        let producer: BaseProducer<C> = self.create(config, context)?;
        self.authenticate(producer.client());
        Ok(producer)
    }

    fn config_without_producing(&self) -> ClientConfig {
        const PRODUCING: [&str; 10] = [
            "compression.",
            "linger.ms",
            "batch.",
            "queue.buffering.",
            "message.",
            "sticky.",
            "transaction.",
            "retry.",
            "request.timeout.ms",
            "delivery.",
        ];
        let known: Vec<String> = self.settings.properties.keys().cloned().collect();
        let mut config = self.config.clone();
        for name in known.iter().filter(|name| PRODUCING.iter().any(|stem| name.starts_with(stem))) {
            config.remove(name);
        }
        config
    }

    fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
        &self,
        config: &ClientConfig,
        context: C,
    ) -> Result<T> {
        config.create_with_context(context).map_err(|error| match error {
            // A property's value may be a secret, so neither the value nor a text that may quote it is shown.
            KafkaError::ClientConfig(_, why, name, value) => {
                let why = if value.is_empty() { why } else { why.replace(&value, "…") };
                Error::settings(format!("librdkafka does not take the property {name}: {why}"))
                    .help("Look the property up in librdkafka's CONFIGURATION.md, and mend it under properties.")
            }
            other => Error::settings("the Kafka client cannot be set up").because(other),
        })
    }

    /// Hands the client its first token. librdkafka asks for it in an event, but an admin client never looks at its
    /// events, and the others only when they are polled, which comes too late for a blocking call.
    fn authenticate<C: ClientContext>(&self, client: &Client<C>) {
        let Some(tokens) = &self.tokens else { return };
        let OAuthToken { token, principal_name, lifetime_ms } = tokens.at_hand();
        let (Ok(token), Ok(principal)) = (CString::new(token), CString::new(principal_name)) else { return };
        let mut text = [0; 256];
        // SAFETY: the client lives for the whole call; the strings end with NUL, and librdkafka copies them; no extensions
        // are passed; the error buffer's length is its own.
        let code = unsafe {
            rdkafka::bindings::rd_kafka_oauthbearer_set_token(
                client.native_ptr(),
                token.as_ptr(),
                lifetime_ms,
                principal.as_ptr(),
                std::ptr::null_mut(),
                0,
                text.as_mut_ptr(),
                text.len(),
            )
        };
        if Code::from(code) != Code::NoError {
            tracing::warn!(destination = &*self.destination, code = %Code::from(code), "librdkafka does not take the token");
        }
    }
}

/// Why a call got no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// There is no connection, and this is why.
    Diagnosed(Error),
    /// There is one, and the brokers refuse this very call.
    Failed(KafkaError),
}

/// What a client tells while it works, and where it has its token from.
#[derive(Clone)]
pub struct Context {
    destination: Arc<str>,
    settings: Arc<Settings>,
    tokens: Option<Arc<Tokens>>,
    remarks: Arc<Mutex<Vec<Remark>>>,
}

impl Context {
    /// Whether the brokers said something that ends the trying.
    pub fn check(&self) -> Result<()> {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tls) = &self.settings.tls {
            // One look is enough: the brokers of a cluster have their certificates from one hand.
            if let Some(broker) =
                remarks.iter().find(|remark| diagnosis::is_unexplained(remark)).map(|r| r.broker().to_owned())
            {
                // A coordinator is spoken of by its office, not by its address.
                let known = |broker: &String| broker.contains(':');
                let address = Some(&broker).filter(|broker| known(broker)).or(self.settings.brokers.first());
                let reason = match handshake::look(address.unwrap_or(&broker), tls) {
                    Ok(shown) => shown.distrust.unwrap_or_else(|| diagnosis::TRUSTED_NOW.into()),
                    Err(_) => "no reason found".into(),
                };
                remarks.retain(|remark| !diagnosis::is_unexplained(remark));
                remarks.push(Remark { code: Code::SSL, text: format!("{broker}: certificate not trusted: {reason}") });
            }
        }
        diagnosis::check(&remarks, &self.settings)
    }

    /// The error for when nothing answered in time.
    pub fn unanswered(&self) -> Error {
        diagnosis::unanswered(&self.remarks.lock().unwrap_or_else(PoisonError::into_inner), &self.settings)
    }

    fn remark(&self, code: Code, text: &str) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if remarks.len() == REMARKS {
            remarks.remove(0);
        }
        remarks.push(Remark { code, text: text.to_owned() });
    }

    /// Repeats a call that blocks, in short slices, until it succeeds, fails for good, or the brokers say why it never
    /// will. `poll` serves the client's events for the time given; without it nobody hears what the brokers say.
    ///
    /// # Errors
    /// The diagnosis, when there is one; else the call's own error.
    pub fn until_answered<T>(
        &self,
        patience: Duration,
        mut poll: impl FnMut(Duration),
        mut call: impl FnMut(Duration) -> KafkaResult<T>,
    ) -> Result<T, Unanswered> {
        const SLICE: Duration = Duration::from_millis(250);
        let deadline = Instant::now() + patience;
        loop {
            let answer = call(SLICE);
            poll(Duration::from_millis(20));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if !passes(&error) => return Err(Unanswered::Failed(error)),
                Err(_) => self.check().map_err(Unanswered::Diagnosed)?,
            }
            if Instant::now() > deadline {
                return Err(Unanswered::Diagnosed(self.unanswered()));
            }
        }
    }
}

/// Whether a call failed only because nobody answered within its slice.
fn passes(error: &KafkaError) -> bool {
    let timed_out = |code| {
        matches!(
            code,
            Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
        )
    };
    match error {
        KafkaError::Transaction(error) => error.is_retriable() || timed_out(error.code()),
        error => error.rdkafka_error_code().is_some_and(timed_out),
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let destination = &*self.destination;
        match level {
            RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", destination, facility, "{message}"),
            // What matters of these is told once, as an error with a way out; librdkafka repeats them at every try.
            _ => tracing::debug!(target: "librdkafka", destination, facility, "{message}"),
        }
        // Connections that a broker closes are told in the log alone: "[thrd:…]: ssl://host:9092/…: Disconnected …".
        if facility == "FAIL" && !matches!(level, RDKafkaLogLevel::Debug) {
            let text = message.split_once("]: ").map_or(message, |(_, text)| text);
            self.remark(Code::BrokerTransportFailure, text);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.remark(code, reason);
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.tokens.as_ref().map(|tokens| tokens.at_hand()).ok_or_else(|| "this destination has no tokens".into())
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}
