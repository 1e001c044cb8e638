//! Requests as Segment's other libraries write them: Go, Ruby, Java, PHP, Kotlin and C#, Rust.

use serde_json::{Value, json};

use super::{Api, KEY, answered};

struct Recorded {
    library: &'static str,
    path: &'static str,
    /// Whether the key goes with the head (Basic) or in the body.
    basic: bool,
    headers: &'static [(&'static str, &'static str)],
    body: Value,
    events: i64,
}

fn recorded() -> Vec<Recorded> {
    vec![
        Recorded {
            library: "go",
            path: "/v1/batch",
            basic: true,
            headers: &[("Content-Type", "application/json"), ("User-Agent", "analytics-go (version: 3.3.0)")],
            body: json!({
                "messageId": "go-batch", "sentAt": "2024-05-01T10:00:01.5Z",
                "context": {"library": {"name": "analytics-go", "version": "3.3.0"}},
                "batch": [
                    {"type": "track", "messageId": "go-1", "userId": "ann", "event": "Download", "timestamp": "2024-05-01T10:00:00Z",
                     "properties": {"application": "Desktop", "version": "1.1.0"}},
                    {"type": "alias", "messageId": "go-2", "previousId": "a", "userId": "ann", "timestamp": "2024-05-01T10:00:00.123456789Z"}
                ]
            }),
            events: 1,
        },
        Recorded {
            library: "ruby",
            path: "/v1/import",
            basic: true,
            headers: &[
                ("Content-Type", "application/json"),
                ("Accept", "application/json"),
                ("User-Agent", "analytics-ruby/2.4.0"),
            ],
            body: json!({
                "sentAt": "2024-05-01T10:00:01.000Z",
                "batch": [{"context": {"library": {"name": "analytics-ruby", "version": "2.4.0"}}, "messageId": "ruby-1",
                    "timestamp": "2024-05-01T10:00:00.000Z", "type": "track", "event": "Signup", "properties": {}, "userId": "bob",
                    "integrations": {"All": true}}]
            }),
            events: 1,
        },
        Recorded {
            library: "java",
            path: "/v1/import/",
            basic: true,
            headers: &[("Content-Type", "application/json; charset=UTF-8"), ("User-Agent", "analytics-java/3.5.1")],
            body: json!({
                "batch": [{"type": "screen", "messageId": "java-1", "sentAt": null, "timestamp": "2024-05-01T10:00:00.000Z",
                    "context": {}, "anonymousId": "visitor", "userId": null, "integrations": {}, "name": "Main", "category": null, "properties": null}],
                "sentAt": "2024-05-01T10:00:01.000Z", "context": {"library": {"name": "analytics-java", "version": "3.5.1"}},
                "sequence": 1, "writeKey": KEY
            }),
            events: 1,
        },
        Recorded {
            library: "php",
            path: "/v1/batch",
            basic: true,
            headers: &[("Content-Type", "application/json"), ("User-Agent", "analytics-php/3.8.1")],
            body: json!({
                "batch": [{"userId": 42, "event": "Paid", "properties": [], "context": {"library": {"name": "analytics-php", "version": "3.8.1",
                    "consumer": "LibCurl"}}, "messageId": "php-1", "timestamp": "2024-05-01T10:00:00+02:00", "type": "track"}],
                "sentAt": "2024-05-01T10:00:01+02:00"
            }),
            events: 1,
        },
        Recorded {
            library: "kotlin",
            path: "/v1/b",
            basic: true,
            headers: &[("Content-Type", "text/plain"), ("User-Agent", "analytics-kotlin/1.19.2")],
            body: json!({
                "batch": [{"properties": {"size": 3}, "event": "Tapped", "type": "track", "messageId": "kotlin-1",
                    "anonymousId": "device", "context": {"device": {"id": "d1", "type": "android"}, "instanceId": "i"}, "integrations": {},
                    "userId": "", "timestamp": "2024-05-01T10:00:00.000Z", "_metadata": {"bundled": [], "unbundled": [], "bundledIds": []}}],
                "sentAt": "2024-05-01T10:00:01.000Z", "writeKey": KEY
            }),
            events: 1,
        },
        Recorded {
            library: "csharp",
            path: "/v1/b",
            basic: false,
            headers: &[("Content-Type", "text/plain; charset=utf-8")],
            body: json!({
                "batch": [{"name": "Home", "category": "", "properties": {}, "type": "page", "messageId": "csharp-1", "anonymousId": "device",
                    "userId": "cid", "timestamp": "2024-05-01T10:00:00.0000000Z", "context": {}, "integrations": {}}],
                "sentAt": "2024-05-01T10:00:01.0000000Z", "writeKey": KEY
            }),
            events: 1,
        },
        Recorded {
            library: "rust",
            path: "/v1/track",
            basic: true,
            headers: &[("Content-Type", "application/json")],
            body: json!({"userId": "dan", "event": "Ran", "properties": null, "timestamp": "2024-05-01T10:00:00.000000000Z", "context": null,
                "integrations": null}),
            events: 1,
        },
        Recorded {
            library: "rust, in batches",
            path: "/v1/batch",
            basic: true,
            headers: &[("Content-Type", "application/json")],
            body: json!({"batch": [{"type": "track", "userId": "dan", "event": "Ran", "properties": {"n": 1}, "timestamp": "2024-05-01T10:00:00Z"},
                {"type": "identify", "userId": "dan", "traits": null, "timestamp": "2024-05-01T10:00:00Z"}],
                "context": {"library": {"name": "analytics-rust"}}}),
            events: 1,
        },
    ]
}

#[tokio::test]
async fn the_other_libraries_requests_are_taken_and_a_second_try_adds_nothing() {
    let api = Api::start().await;
    let mut stored = 0;
    for request in recorded() {
        // Whoever hears no answer sends it again, a little later.
        for try_ in 0..2 {
            let mut body = request.body.clone();
            if try_ == 1 && body["sentAt"].is_string() {
                body["sentAt"] = "2024-05-01T10:00:09Z".into();
            }
            let mut sent = api.request(request.path).body(body.to_string());
            if request.basic {
                sent = sent.basic_auth(KEY, Some(""));
            }
            for (name, value) in request.headers {
                sent = sent.header(*name, *value);
            }
            let answered = answered(sent).await;
            assert_eq!((answered.status, answered.body), (200, json!({"success": true})), "{}", request.library);
        }
        stored += request.events;
        assert_eq!(api.count("select count(*) from events").await, stored, "{}", request.library);
    }
    assert_eq!(api.count("select count(*) from identifiers where type = 'user_id' and value = '42'").await, 1);
    assert_eq!(api.count("select count(*) from identifiers where type = 'android.id'").await, 1);
}
