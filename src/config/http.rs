//! Where does a listener listen, and who may ask it? Off loopback only with a token.

use std::{borrow::Cow, net::SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Secret, tree::Node};
use crate::{error::Problem, limits};

/// Where `serve` answers for health, readiness and metrics.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Whether to listen at all.
    pub enabled: bool,
    /// Address and port; `127.0.0.1:8080` when not given. Port 0 takes a free one, which is logged.
    pub listen: Option<Listen>,
    /// What a request must carry as `Authorization: Bearer …`; needed to listen off loopback.
    pub token: Option<Secret>,
}

impl Default for Http {
    fn default() -> Self {
        Http { enabled: true, listen: None, token: None }
    }
}

impl Http {
    /// Where to listen; `None` if it is not wanted.
    pub fn address(&self) -> Option<SocketAddr> {
        let default = Listen(SocketAddr::from(([127, 0, 0, 1], 8080)));
        self.enabled.then(|| self.listen.unwrap_or(default).0)
    }
}

/// An IP address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Listen {
    fn parse(text: &str) -> Option<Listen> {
        text.parse().ok().map(Listen)
    }

    /// Whether other machines can reach it.
    pub fn is_exposed(self) -> bool {
        !self.0.ip().to_canonical().is_loopback()
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Listen::parse(&text).ok_or_else(|| D::Error::custom("no address with a port"))
    }
}

impl JsonSchema for Listen {
    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// Tells what is wrong with the section `http`.
pub(super) fn check(http: &Node, problems: &mut Vec<Problem>) {
    if let Some((node, token)) = http.text("token")
        && token.chars().count() < limits::HTTP_TOKEN_CHARS
    {
        let help = format!("Write at least {} characters, as from: openssl rand -hex 16", limits::HTTP_TOKEN_CHARS);
        problems.push(Problem { message: "the token is too short".into(), span: node.span.clone(), help: Some(help) });
    }
    if listen(http, problems).is_some_and(Listen::is_exposed) && http.get("token").is_none() {
        let (message, help) = (
            "other machines can reach this address, but no token is asked of them",
            "Add a `token`, or listen on 127.0.0.1.",
        );
        let span = http.get("listen").map_or(http.start(), |node| node.span.clone());
        problems.push(Problem { message: message.into(), span, help: Some(help.into()) });
    }
}

/// The address under `listen` of any section; one that cannot be read is told.
pub(super) fn listen(section: &Node, problems: &mut Vec<Problem>) -> Option<Listen> {
    let (node, text) = section.text("listen")?;
    let listen = Listen::parse(text);
    if listen.is_none() {
        let help = "Write an IP address with a port: 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080.".into();
        let message = "this is no address to listen on".into();
        problems.push(Problem { message, span: node.span.clone(), help: Some(help) });
    }
    listen
}
