//! Which tables are messages made of? Statements on a Postgres, whose rows become identify and track calls.

use std::{ops::Range, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Secret, enabled, tree::Node};
use crate::{database::statement as sql, error::Problem, limits, schedule::Setting};

/// A statement whose rows are people, or what they did; without one, a database that SQL audiences and traits name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Postgres URL of the tables; the store's own database when not given. Write ${SHOP_DATABASE_URL}.
    pub database: Option<Secret>,
    /// The statement. It needs SELECT on what it reads, and can write nothing.
    #[serde(default)]
    pub query: String,
    /// Each row is a person, and its columns are traits.
    pub profiles: Option<Profiles>,
    /// Each row is an event, and its columns are properties.
    pub events: Option<Events>,
    /// The column by which only new rows are read; every row each time when not given.
    pub cursor: Option<Cursor>,
    /// When to pull: `every 15m`, `@hourly`, `0 6 * * *`, or a map with a time zone and more.
    pub schedule: Option<Setting>,
    /// A disabled source is not pulled, and goes on where it was when it is enabled again.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

/// Which column says who a row is about; all others are traits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profiles {
    /// The column of the user id.
    pub user_id: String,
}

/// Which columns say what happened to whom and when; all others are properties.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// The event's name, the same for all rows.
    pub name: Option<String>,
    /// Instead of `name`, the column that holds it.
    pub name_column: Option<String>,
    /// The column of the user id.
    pub user_id: String,
    /// The column of the anonymous id, for rows without a user id.
    pub anonymous_id: Option<String>,
    /// The column that says when it happened.
    pub timestamp: String,
    /// The column that tells events apart: each counts once by it.
    pub message_id: String,
}

impl Source {
    /// Whether it has rows to pull.
    pub fn is_pulled(&self) -> bool {
        !self.query.is_empty()
    }
}

impl Default for Profiles {
    fn default() -> Self {
        Profiles { user_id: "user_id".into() }
    }
}

impl Default for Events {
    fn default() -> Self {
        Events {
            name: None,
            name_column: None,
            user_id: "user_id".into(),
            anonymous_id: None,
            timestamp: "timestamp".into(),
            message_id: "message_id".into(),
        }
    }
}

/// How new rows are told from those that were read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Cursor {
    /// A column that grows with each change, as `updated_at` or a serial number.
    pub column: Option<String>,
    /// How far before the last value rows are read again, since a transaction may commit them late: `1h` of a time, a number of a number.
    pub lookback: Option<String>,
    /// Instead of `column`, one of the type xid8, or `xmin`: no late commit is missed, however late.
    pub xid: Option<String>,
}

/// How far before the last value rows are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookback {
    Time(Duration),
    Number(u64),
}

impl Cursor {
    /// None where it is not given.
    ///
    /// # Errors
    /// How to write one.
    pub fn lookback(&self) -> Result<Option<Lookback>, String> {
        self.lookback.as_deref().map(lookback).transpose()
    }
}

fn lookback(text: &str) -> Result<Lookback, String> {
    if let Ok(number) = text.parse() {
        return Ok(Lookback::Number(number));
    }
    let within = crate::schedule::Promise::within(text)?;
    within.to_std().map(Lookback::Time).map_err(|_| "Write a length of time, as `1h`, or a number.".into())
}

/// A statement and where it runs, as one text.
pub(super) fn statement(sql: &str, source: Option<&str>) -> String {
    source.map_or_else(|| sql.to_owned(), |source| format!("{sql}\n-- source: {source}"))
}

/// Tells what is wrong with the `source` of SQL audiences and traits.
pub(super) fn check_named(root: &Node, problems: &mut Vec<Problem>) {
    let known = |name: &str| root.get("sources").is_some_and(|sources| sources.get(name).is_some());
    let computed = ["audiences", "traits"].into_iter().flat_map(|all| root.get(all).map_or(&[][..], Node::items));
    for computed in computed {
        let Some((node, name)) = computed.text("source") else { continue };
        let mut tell = |message: String, help: &str| {
            problems.push(Problem { message, span: node.span.clone(), help: Some(help.into()) });
        };
        if computed.get("sql").is_none() {
            tell(
                "`source` is for `sql` alone".into(),
                "It names the database in which the statement runs: leave it out.",
            );
        }
        if !known(name) {
            tell(format!("there is no source `{name}`"), "Define it under `sources`; its `database` is enough.");
        }
    }
}

/// Tells what is wrong with the section `sources`.
pub(super) fn check(sources: &Node, problems: &mut Vec<Problem>) {
    for (key, source) in sources.entries() {
        let mut tell = |span: &Range<usize>, message: String, help: &str| {
            problems.push(Problem { message, span: span.clone(), help: Some(help.into()) });
        };
        let name = &key.name;
        let is_name = (1..=limits::SOURCE_NAME_CHARS).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if !is_name {
            let help = format!("Use letters, digits, `_` and `-`; at most {}.", limits::SOURCE_NAME_CHARS);
            tell(&key.span, format!("`{name}` cannot name a source"), &help);
        }
        if let Some((node, query)) = source.text("query")
            && sql::one(query).is_empty()
        {
            tell(&node.span, "the statement is empty".into(), "For example: select user_id, plan from customers");
        }
        let [query, profiles, events, database] =
            ["query", "profiles", "events", "database"].map(|name| source.get(name));
        match (profiles, events) {
            (None, None) if query.is_none() && database.is_some() => continue,
            _ if query.is_none() => {
                let help = "Give it a `query`, or only a `database`, in which SQL audiences and traits then run.";
                tell(&key.span, format!("the source `{name}` has no query"), help);
            }
            (Some(_), None) => {}
            (None, Some(events)) => {
                if events.get("name").is_some() == events.get("name_column").is_some() {
                    let help = "Give `name`, or `name_column` where each row has a name of its own.";
                    tell(&events.start(), format!("the events of `{name}` need one name"), help);
                }
            }
            _ => {
                let help = "Give it one of `profiles` (rows are people) and `events` (rows are what they did).";
                tell(&key.span, format!("the source `{name}` does not say what its rows are"), help);
            }
        }
        let Some(cursor) = source.get("cursor") else { continue };
        if cursor.get("column").is_some() == cursor.get("xid").is_some() {
            let help = "Give `column`, or `xid` for a column of the type xid8 or `xmin`.";
            tell(&cursor.start(), format!("the cursor of `{name}` needs one column"), help);
        }
        if let Some((node, text)) = cursor.text("lookback") {
            if cursor.get("xid").is_some() {
                tell(&node.span, "`xid` needs no `lookback`".into(), "Take it out: no late commit is missed.");
            } else if let Err(help) = lookback(text) {
                tell(&node.span, "this is no length of time, and no number".into(), &help);
            }
        }
    }
}
