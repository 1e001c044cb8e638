//! The Send mapping: the peer's vectors, what is beyond them, and the command that shows it.

mod command;
mod compared;
mod properties;
mod send;
mod settings;
mod vectors;

use rollcall::{
    Result,
    config::{self, OnExit},
    mapping::{Event, Mapping, Outcome, Record, Rejection},
};
use serde_json::Value;

/// A mapping of the default trigger.
fn compile(mapping: Value) -> Result<Mapping> {
    compile_with(mapping, None, OnExit::Record)
}

fn compile_with(mapping: Value, subscribe: Option<&str>, on_exit: OnExit) -> Result<Mapping> {
    let mapping = mapping.as_object().expect("a mapping is an object").clone();
    let subscribe = subscribe.map(str::to_owned);
    Mapping::compile("test", &config::Mapping { name: "test".into(), enabled: true, subscribe, mapping, on_exit })
}

fn apply(mapping: Value, event: &Value) -> Outcome {
    compile(mapping).expect("a valid mapping").apply(&Event::of_value(event))
}

fn record(mapping: Value, event: &Value) -> Record {
    match apply(mapping, event) {
        Outcome::Record(record) => record,
        other => panic!("expected a record, got {other:?}"),
    }
}

fn rejection(mapping: Value, event: &Value) -> Rejection {
    match apply(mapping, event) {
        Outcome::Rejected(rejection) => rejection,
        other => panic!("expected a rejection, got {other:?}"),
    }
}

fn text(record: &Record) -> &str {
    std::str::from_utf8(record.value.as_deref().expect("a value")).expect("UTF-8")
}
