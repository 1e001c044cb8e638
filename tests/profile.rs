//! The profile store: what is imported is there, once, whatever happens on the way.

mod command;
mod embedded;
mod fetched;
mod files;
mod ids;
mod identity;
mod killed;
mod messages;
mod model;
mod promotions;
mod resolution;
mod watermark;

use std::io::Write;

use rollcall::profile::{
    csv::ColumnMap,
    import::{Importer, Summary},
    source::{Reading, Source},
};
use serde_json::{Value, json};
use sqlx::PgPool;

/// Imports lines from a file of their own; returns the summary and the refusals.
async fn import(pool: &PgPool, lines: &str) -> (Summary, Vec<Value>) {
    import_file(pool, "messages.jsonl", lines.as_bytes(), None).await
}

async fn import_file(pool: &PgPool, name: &str, content: &[u8], map: Option<ColumnMap>) -> (Summary, Vec<Value>) {
    import_with(pool, name, content, Reading::by(map)).await
}

async fn import_with(pool: &PgPool, name: &str, content: &[u8], reading: Reading) -> (Summary, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(content).unwrap();
    let mut report = Vec::new();
    let summary =
        Importer::new(pool.clone()).run(Source::open(&path, reading).unwrap(), &mut report, |_| ()).await.unwrap();
    let refusals = report.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (summary, refusals.map(|line| serde_json::from_slice(line).unwrap()).collect())
}

fn lines(messages: &[Value]) -> String {
    messages.iter().map(|message| format!("{message}\n")).collect()
}

fn track(id: &str, user: &str, event: &str, at: &str, properties: Value) -> Value {
    json!({"type": "track", "messageId": id, "userId": user, "event": event, "timestamp": at, "properties": properties})
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}
