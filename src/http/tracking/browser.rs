//! What does Segment's browser library ask before it sends? The settings of its source, which make it send to us.

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

/// The settings of a source as `analytics-next` and the mobile libraries read them. Only one integration: ours.
pub fn settings(write_key: &str, scheme: &str, host: &str) -> Value {
    json!({
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": format!("{host}/v1"),
                "protocol": scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": false,
                "maybeBundledConfigIds": {},
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]}
            }
        },
        "plan": {
            "track": {"__default": {"enabled": true, "integrations": {}}},
            "identify": {"__default": {"enabled": true}},
            "group": {"__default": {"enabled": true}}
        },
        "edgeFunction": {},
        "analyticsNextEnabled": true,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0, "host": format!("{host}/v1")},
        "legacyVideoPluginsEnabled": false,
        "remotePlugins": []
    })
}

/// How the asker reaches us: by what is configured, else as it did.
pub fn origin(public_url: Option<&str>, headers: &HeaderMap) -> (String, String) {
    if let Some((scheme, host)) = public_url.and_then(|url| url.split_once("://")) {
        return (scheme.to_owned(), host.trim_end_matches('/').to_owned());
    }
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let scheme = match text(header::HeaderName::from_static("x-forwarded-proto")) {
        Some("https") => "https",
        _ => "http",
    };
    (scheme.to_owned(), text(header::HOST).unwrap_or("localhost").to_owned())
}
