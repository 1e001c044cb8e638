//! The tracking API on a real Postgres: what is answered, what is stored, and that both agree whatever is sent.

mod addresses;
mod bad_input;
mod field;
mod libraries;
mod overload;
mod recorded;
mod restarts;

use chrono::{DateTime, Utc};
use reqwest::{Client, RequestBuilder};
use rollcall::{
    clock::Clock,
    config::{self, Surroundings},
    http::tracking::Tracking,
};
use serde_json::{Value, json};

use crate::support::{http, postgres::Database};

const KEY: &str = "write-key-of-web";

/// The tracking API over a database of a test's own.
struct Api {
    db: Database,
    tracking: Tracking,
    client: Client,
}

/// What was answered.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Api {
    async fn start() -> Api {
        Api::with("write_keys: [{name: web, key: write-key-of-web}]", Clock::system()).await
    }

    async fn with(settings: &str, clock: Clock) -> Api {
        let db = Database::fresh().await;
        let config = configured(settings);
        let tracking = Tracking::start(db.pool.clone(), clock, &config, Default::default()).await.expect("it listens");
        Api { db, tracking, client: http::client() }
    }

    fn request(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.tracking.address()))
    }

    /// Posts JSON with the right key.
    async fn post(&self, path: &str, body: &Value) -> Answered {
        self.post_text(path, body.to_string()).await
    }

    async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answered {
        answered(self.request(path).basic_auth(KEY, Some("")).body(body)).await
    }

    /// Posts JSON that must be taken as a whole.
    async fn stored(&self, path: &str, body: &Value) {
        let answered = self.post(path, body).await;
        assert_eq!((answered.status, answered.body), (200, json!({"success": true})), "{path} {body}");
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.db.pool).await.unwrap()
    }

    /// When and by which id each event happened, by its name.
    async fn events(&self) -> Vec<(String, DateTime<Utc>, String)> {
        let events =
            "select name, occurred_at, message_id from events join event_names on id = name_id order by 1, 2, 3";
        sqlx::query_as(events).fetch_all(&self.db.pool).await.unwrap()
    }
}

pub fn configured(settings: &str) -> config::Tracking {
    let indented: String = settings.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("tracking:\n  listen: 127.0.0.1:0\n{indented}\n");
    let around = Surroundings { variable: &|_| None, file: &|_| Err(std::io::ErrorKind::NotFound.into()) };
    config::parse("rollcall.yaml", &text, &around).expect("a configuration").tracking.expect("tracking")
}

async fn answered(request: RequestBuilder) -> Answered {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a body");
    Answered { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

fn track(id: &str, user: &str) -> Value {
    json!({"type": "track", "messageId": id, "userId": user, "event": "Order Completed", "properties": {"revenue": 1}})
}
