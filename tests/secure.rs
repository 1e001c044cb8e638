//! Settings and mechanisms against a secured Apache Kafka: who gets in, who does not, and what he is told.

use rollcall::{
    Result,
    deliver::{Delivered, Session},
    kafka::settings::Settings,
};
use serde_json::{Map, Value, json};

use crate::deliver::Stage;

mod canaries;
mod certificates;
mod check;
pub mod http;
mod mechanisms;
mod recovery;
mod refusals;
mod replicas;
mod rights;

/// Delivers a sealed log by these settings, read back at the listener for masters.
async fn deliver(stage: &Stage, settings: &Map<String, Value>) -> Result<Delivered> {
    let mut target = stage.target();
    target.settings = Settings::parse("kafka", settings)?;
    Session::start(stage.pool().clone(), target).await?.deliver(&|_| true).await
}

/// Runs the program in a folder with this configuration of one destination.
fn program(settings: &Map<String, Value>, topic: &str, cursor_topic: &str, args: &[&str]) -> std::process::Output {
    let folder = tempfile::tempdir().expect("a folder");
    let config = json!({"destinations": {"prod": {
        "settings": settings, "cursor_topic": cursor_topic,
        "mappings": [{"name": "changes", "mapping": {"topic": topic, "payload": {"@path": "$."}}}],
    }}, "audiences": [{"name": "All", "query": "trait('email').exists()", "include_traits": ["email"]}]});
    std::fs::write(folder.path().join("rollcall.yaml"), config.to_string()).expect("writable");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder.path()).args(args).env_remove("DATABASE_URL").env("RUST_LOG", "trace");
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
