//! What record does an event become? Trigger, directives, coercion, Send fields. Pure: no store, no clock, no network.
//!
//! ```text
//!  event ──► trigger ──► plan (directives) ──► Send fields (coercion) ──► record
//!            no: Unsubscribed                  no: Rejected, with a code
//! ```
//!
//! A mapping is compiled once ([`Mapping::compile`]: every problem at once) and applied to each event. Applying never
//! fails as a whole: an event that cannot be mapped is rejected by itself.

mod compile;
mod event;
mod explain;
mod liquid;
pub mod membership;
pub mod partition;
mod path;
mod plan;
mod reads;
mod record;
mod report;
mod send;
mod shape;
mod sparse;
mod template;
mod text;
pub mod trigger;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use compile::{Flaw, compile};
pub use event::{Event, Known};
pub use liquid::Liquid;
pub use partition::{murmur2, partition_for_key};
pub use path::Path;
pub use plan::{Plan, Scope};
pub use reads::Reads;

/// Why an event cannot be mapped. The text names kinds of values, never values.
pub type Fault = String;
pub use record::{Outcome, Record, Rejection};
pub use send::Batching;
pub use trigger::Trigger;

use crate::{
    config::{self, OnExit},
    error::{Error, Result},
    limits,
};

/// A Send mapping, compiled.
#[derive(Debug)]
pub struct Mapping {
    name: String,
    enabled: bool,
    trigger: Trigger,
    send: send::Send,
    /// Of the trigger and the fields together.
    reads: Reads,
    on_exit: OnExit,
    version: String,
}

impl Mapping {
    /// Checks and compiles one mapping; the error shows every problem of its trigger and its fields.
    pub fn compile(name: &str, config: &config::Mapping) -> Result<Mapping> {
        let subscribe = config.subscribe.as_deref().unwrap_or(trigger::DEFAULT);
        let trigger = Trigger::parse(subscribe);
        let send = send::Send::compile(&config.mapping);
        match (trigger, send) {
            (Ok(trigger), Ok(send)) => {
                if config.on_exit == OnExit::Tombstone && !send.has_key() {
                    return Err(Error::definition(format!(
                        "mapping '{name}' sends tombstones on exit, but maps no key"
                    ))
                    .help("Map key, for example to {\"@path\": \"$.userId\"}, or remove on_exit."));
                }
                let version = version(subscribe, config);
                let mut reads = send.reads();
                trigger.paths(|path| reads.path(path));
                let (name, enabled, on_exit) = (name.to_owned(), config.enabled, config.on_exit);
                Ok(Mapping { name, enabled, trigger, send, reads, on_exit, version })
            }
            (trigger, send) => {
                Err(report::refusal(name, subscribe, trigger.err(), &config.mapping, send.err().unwrap_or_default()))
            }
        }
    }

    /// Compiles all mappings of a destination; the problems of all of them in one error.
    pub fn compile_all(destination: &str, config: &config::Destination) -> Result<Vec<Mapping>> {
        let most = config.max_mappings.unwrap_or(limits::MAPPINGS_PER_DESTINATION);
        if config.mappings.len() > most {
            let (count, limit) = (config.mappings.len(), format!("destination '{destination}' may have {most}"));
            return Err(Error::definition(format!("{limit} mappings, and has {count}"))
                .help("Set max_mappings of the destination to allow more, or split it."));
        }
        Self::compile_list(&format!("destination '{destination}'"), &config.mappings)
    }

    /// Compiles some mappings that belong together, by whom they are called `owner`; the problems of all of them in one error.
    pub fn compile_list(owner: &str, mappings: &[config::Mapping]) -> Result<Vec<Mapping>> {
        for (at, mapping) in mappings.iter().enumerate() {
            if mappings[..at].iter().any(|earlier| earlier.name == mapping.name) {
                let message = format!("{owner} has two mappings called '{}'", mapping.name);
                return Err(Error::definition(message).help("Give each mapping a name of its own."));
            }
        }
        let (mut compiled, mut errors) = (Vec::new(), Vec::new());
        for mapping in mappings {
            match Self::compile(&mapping.name, mapping) {
                Ok(mapping) => compiled.push(mapping),
                Err(error) => errors.push((&*mapping.name, error)),
            }
        }
        if errors.is_empty() { Ok(compiled) } else { Err(report::all(owner, errors)) }
    }

    /// What one event becomes. Whether the mapping is enabled is the caller's concern. Whoever applies several mappings to an
    /// event says so by [`Event::read_by`], or each parses it for itself.
    pub fn apply(&self, event: &Event<'_>) -> Outcome {
        match event.narrowed(&self.reads) {
            Some(narrow) => self.outcome(&narrow),
            None => self.outcome(event),
        }
    }

    fn outcome(&self, event: &Event<'_>) -> Outcome {
        if !self.trigger.matches(event) {
            return Outcome::Unsubscribed;
        }
        match self.send.record(event) {
            Ok(record) if self.on_exit == OnExit::Tombstone && event.member() == Some(false) => send::tombstone(record),
            Ok(record) => Outcome::Record(record),
            Err(rejection) => Outcome::Rejected(rejection),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn enabled(&self) -> bool {
        self.enabled
    }

    pub fn on_exit(&self) -> OnExit {
        self.on_exit
    }

    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Changes exactly when what the mapping does may change: a hash of trigger, fields and exit.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn batching(&self) -> Batching {
        self.send.batching()
    }

    /// Whether the value of its records is the event as it is.
    pub fn sends_whole_events(&self) -> bool {
        self.fields()
            .iter()
            .any(|(name, plan)| *name == "payload" && matches!(plan, Plan::Path(path) if path.is_whole()))
    }

    /// The topic, if it is the same for every event.
    pub fn literal_topic(&self) -> Option<String> {
        self.send.literal_topic()
    }

    /// The fields that are mapped, with their plans, for people.
    pub fn fields(&self) -> Vec<(&'static str, &Plan)> {
        self.send.fields()
    }
}

/// The first 16 bytes of a SHA-256, in hex. The order of keys counts, because it is the order of the record's.
fn version(subscribe: &str, config: &config::Mapping) -> String {
    let on_exit = match config.on_exit {
        OnExit::Record => "record",
        OnExit::Tombstone => "tombstone",
    };
    let text = serde_json::json!([subscribe, Value::Object(config.mapping.clone()), on_exit]).to_string();
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
