//! Where do live messages come in, and by whose keys?

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Secret,
    http::{Listen, listen},
    tree::Node,
};
use crate::{error::Problem, limits};

/// Segment's tracking API, for its libraries to send to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tracking {
    /// Address and port; `127.0.0.1:8081` when not given. Port 0 takes a free one, which is logged.
    #[schemars(extend("x-variables" = true))]
    pub listen: Option<Listen>,
    /// Who may send. Without any, everybody on this machine may; needed to listen off loopback.
    pub write_keys: Vec<WriteKey>,
    /// Whether a wrong write key is answered 401. If not, it is answered as if all were well, as Segment does, and what came is dropped.
    pub strict_write_keys: bool,
    /// How browsers reach this address from outside, as `https://ingest.example.com`; told to Segment's browser library.
    #[schemars(extend("x-variables" = true))]
    pub public_url: Option<String>,
}

/// A key that a source of messages sends with them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteKey {
    /// What the source is called, in logs, metrics and with each event.
    pub name: String,
    /// The key itself. Write ${WEB_WRITE_KEY} or ${file:/run/secrets/web}.
    pub key: Secret,
}

impl Default for Tracking {
    fn default() -> Self {
        Tracking { listen: None, write_keys: Vec::new(), strict_write_keys: true, public_url: None }
    }
}

impl Tracking {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen.map_or(SocketAddr::from(([127, 0, 0, 1], 8081)), |listen| listen.0)
    }
}

/// Tells what is wrong with the section `tracking`.
pub(super) fn check(tracking: &Node, problems: &mut Vec<Problem>) {
    let keys = tracking.get("write_keys").map_or(&[][..], Node::items);
    let exposed = listen(tracking, problems).is_some_and(Listen::is_exposed);
    let mut tell = |span, message: &str, help: &str| {
        problems.push(Problem { message: message.into(), span, help: Some(help.into()) });
    };
    if exposed && keys.is_empty() {
        let span = tracking.get("listen").map_or(tracking.start(), |node| node.span.clone());
        let help = "Add one to `write_keys`, or listen on 127.0.0.1.";
        tell(span, "other machines can reach this address, but no write key is asked of them", help);
    }
    let mut seen = Vec::new();
    for (node, name) in keys.iter().filter_map(|key| key.text("name")) {
        if name.is_empty()
            || name.contains(char::is_control)
            || name.chars().count() > limits::IDENTIFIER_CHARS
            || seen.contains(&name)
        {
            tell(node.span.clone(), "this cannot name a write key", "Give each a short name of its own.");
        }
        seen.push(name);
    }
    let mut seen = Vec::new();
    for (node, key) in keys.iter().filter_map(|key| key.text("key")) {
        if key.chars().count() < limits::WRITE_KEY_CHARS {
            let help = format!("Write at least {} characters, as from: openssl rand -hex 16", limits::WRITE_KEY_CHARS);
            tell(node.span.clone(), "the write key is too short", &help);
        } else if seen.contains(&key) {
            tell(node.span.clone(), "another source has the same write key", "Give each source a key of its own.");
        }
        seen.push(key);
    }
    if let Some((node, url)) = tracking.text("public_url")
        && !is_origin(url)
    {
        let help = "Write a scheme and a host, without a path: https://ingest.example.com";
        tell(node.span.clone(), "this is no address that browsers could use", help);
    }
}

fn is_origin(url: &str) -> bool {
    let host = url.strip_prefix("https://").or(url.strip_prefix("http://")).unwrap_or_default();
    let host = host.strip_suffix('/').unwrap_or(host);
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
}
