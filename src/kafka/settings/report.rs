//! How are wrong settings told? All in one error, each with the peer's code, in a text that hides every secret.

use serde_json::{Map, Value};

use super::NAMES;
use crate::error::{Error, Problem, Problems};

/// One thing wrong with a settings block. The code is the peer's where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: &'static str,
    pub setting: String,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    /// A value of another kind than `wanted`.
    pub(super) fn of_kind(setting: &str, wanted: &str, kind: &str) -> Fault {
        let message = format!("{setting} should be {wanted}, but it is of type {kind}");
        Fault { code: "SETTING_TYPE", setting: setting.to_owned(), message, help: None }
    }
}

/// Settings whose value is never shown.
const SECRET: [&str; 7] = [
    "password",
    "secretAccessKey",
    "ssl_key",
    "ssl_key_passphrase",
    "oauth_client_secret",
    "accessKeyId",
    "properties",
];

/// One error that shows every faulty setting, secrets hidden.
pub(super) fn report(owner: &str, settings: &Map<String, Value>, faults: Vec<Fault>) -> Error {
    let mut text = String::new();
    let mut problems = Vec::with_capacity(faults.len());
    for fault in faults {
        let shown = match settings.get(&fault.setting) {
            _ if SECRET.contains(&fault.setting.as_str()) => "[hidden]".to_owned(),
            Some(Value::String(shown)) if NAMES.contains(&fault.setting.as_str()) => {
                shown.lines().next().unwrap_or("").to_owned()
            }
            Some(_) => "…".to_owned(),
            None => String::new(),
        };
        let start = text.len();
        text.push_str(&format!("{}: {shown}", fault.setting));
        problems.push(Problem {
            message: format!("{}: {}", fault.code, fault.message),
            span: start..text.len(),
            help: fault.help,
        });
        text.push('\n');
    }
    let count = problems.len();
    let message = match problems.as_slice() {
        [only] => format!("{owner}: {}", only.message),
        _ => format!("{owner}: {count} settings are wrong"),
    };
    let help = problems
        .first()
        .and_then(|problem| problem.help.clone())
        .unwrap_or_else(|| "Correct it under settings.".into());
    Error::settings(message).help(help).at(Problems { name: format!("settings of {owner}"), text, problems })
}
