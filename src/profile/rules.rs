//! What counts as an identifier, how many of them a profile may have, and which give way first? Pure.
//!
//! The rules are those of Segment's identity resolution, made from the configuration.

use std::{borrow::Cow, collections::BTreeMap};

use chrono::{DateTime, TimeDelta, Utc};
use heck::{ToLowerCamelCase, ToSnakeCase};
use regex::RegexSet;

use crate::{
    Error, Result,
    config::{Identifier, Identity, Normalize, Window},
    limits,
};

/// Values that stand for nobody: what programs send where they know no id. Compared in any case and without spaces around.
pub const BLOCKED: [&str; 13] = [
    "[0-]*",
    r"-1|0+\.0+",
    r"[\s\p{P}\p{S}\p{C}]*",
    r"[(<\[{]?(null|nil|none|undefined|unknown|unset|empty|blank|nan)[)>\]}]?",
    "n/?a|n\\.a\\.|#n/a|#ref!|#value!",
    r"\(?not[ _-]?(set|available|applicable|authenticated|logged[ _-]?in)\)?",
    r"\[object \w+\]",
    // Templates that nobody filled in. Braces alone may hold a GUID.
    r"\{\{.*\}\}|[$#%]\{.*\}|<%.*%>|\{[a-z_.]+\}|%[a-z_.]+%|<[a-z_. ]+>",
    "true|false",
    "anon|anonymous|guest",
    "user_?id|distinct_?id|anonymous_?id",
    "(f{8})-?(f{4}-?){3}f{12}",
    "\"(null|undefined|none|nil)?\"|'(null|undefined|none|nil)?'",
];

/// The rules of identity resolution, ready to be asked.
#[derive(Debug, Clone)]
pub struct Rules {
    types: BTreeMap<String, Rule>,
    blocked: RegexSet,
}

#[derive(Debug, Clone)]
struct Rule {
    limit: usize,
    window: Option<TimeDelta>,
    priority: u32,
    blocked: RegexSet,
    normalize: Normalize,
    /// The traits and properties that hold it; empty for the types that have a place of their own.
    names: Vec<String>,
}

/// Those that come from fields of their own, and are not looked for among traits.
const PLACED: [&str; 10] = [
    "user_id",
    "anonymous_id",
    "android.id",
    "android.idfa",
    "android.push_token",
    "ios.id",
    "ios.idfa",
    "ios.push_token",
    "ga_client_id",
    "braze_id",
];

impl Default for Rules {
    fn default() -> Self {
        Rules::of(&Identity::default()).expect("the default rules are right")
    }
}

impl Rules {
    /// Reads the rules of a configuration.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`] if a pattern is no regular expression.
    pub fn of(config: &Identity) -> Result<Rules> {
        let mut types = BTreeMap::new();
        for kind in ["user_id", "email", "cross_domain_id"] {
            let given = Identifier {
                kind: kind.to_owned(),
                limit: None,
                window: Window::Ever,
                priority: None,
                blocked: Vec::new(),
                normalize: None,
            };
            types.insert(kind.to_owned(), Rule::of(&given)?);
        }
        for given in &config.identifiers {
            types.insert(given.kind.clone(), Rule::of(given)?);
        }
        let blocked = match &config.blocked {
            Some(patterns) => set(patterns)?,
            None => set(&BLOCKED)?,
        };
        Ok(Rules { types, blocked })
    }

    /// A value as it is stored and looked up.
    pub fn normalized<'v>(&self, kind: &str, value: &'v str) -> Cow<'v, str> {
        let trimmed = value.trim();
        match self.types.get(kind).map_or(Normalize::None, |rule| rule.normalize) {
            Normalize::LowerTrim if trimmed.chars().any(char::is_uppercase) => trimmed.to_lowercase().into(),
            Normalize::LowerTrim | Normalize::Trim => trimmed.into(),
            Normalize::None => value.into(),
        }
    }

    /// Whether a value may identify somebody.
    pub fn allow(&self, kind: &str, value: &str) -> bool {
        let value = value.trim();
        !self.blocked.is_match(value) && !self.types.get(kind).is_some_and(|rule| rule.blocked.is_match(value))
    }

    /// Types that are looked for among traits and properties, with the names they go by there.
    pub fn named(&self) -> impl Iterator<Item = (&str, &[String])> {
        let named = self.types.iter().filter(|(_, rule)| !rule.names.is_empty());
        named.map(|(kind, rule)| (kind.as_str(), rule.names.as_slice()))
    }

    /// How many values of a type a profile may have, of those added after the instant given (all of them, without one).
    pub fn limit(&self, kind: &str, at: DateTime<Utc>) -> (usize, Option<DateTime<Utc>>) {
        match self.types.get(kind) {
            Some(rule) => (rule.limit, rule.window.map(|window| at - window)),
            None => (limits::IDENTIFIERS_PER_TYPE, None),
        }
    }

    /// What is compared to find which identifier gives way: the greatest does.
    pub fn rank<'k>(&self, kind: &'k str) -> (u32, &'k str) {
        (self.types.get(kind).map_or(u32::MAX, |rule| rule.priority), kind)
    }
}

impl Rule {
    fn of(given: &Identifier) -> Result<Rule> {
        let kind = given.kind.as_str();
        if ["user_id", "anonymous_id"].contains(&kind) && given.normalize.is_some_and(|how| how != Normalize::None) {
            return Err(Error::settings(format!(
                "`identity.identifiers` normalizes {kind}, which is compared as it is"
            ))
            .help("SQL audiences, sources and consumers know people by it: write it one way where it is sent."));
        }
        let names = match kind {
            placed if PLACED.contains(&placed) => Vec::new(),
            "email" => vec!["email".into()],
            other => {
                let mut names = vec![other.to_owned(), other.to_snake_case(), other.to_lower_camel_case()];
                names.dedup();
                names
            }
        };
        let default = if kind == "user_id" { 1 } else { limits::IDENTIFIERS_PER_TYPE };
        let rank = match kind {
            "user_id" => 1,
            "email" => 2,
            _ => u32::MAX,
        };
        Ok(Rule {
            limit: given.limit.map_or(default, |limit| limit.max(1) as usize),
            window: match given.window {
                Window::Ever => None,
                Window::Weekly => Some(TimeDelta::days(7)),
                Window::Monthly => Some(TimeDelta::days(30)),
                Window::Annually => Some(TimeDelta::days(365)),
            },
            priority: given.priority.unwrap_or(rank),
            blocked: set(&given.blocked)?,
            normalize: given.normalize.unwrap_or(if kind == "email" { Normalize::LowerTrim } else { Normalize::None }),
            names,
        })
    }
}

/// Patterns that match a whole value, in any case.
fn set(patterns: &[impl AsRef<str>]) -> Result<RegexSet> {
    RegexSet::new(patterns.iter().map(|pattern| whole(pattern.as_ref()))).map_err(|_| {
        Error::settings("a pattern of `identity.blocked` is no regular expression")
            .help("Escape `.`, `(`, `[`, `*`, `+`, `?` and `\\` with a backslash where they stand for themselves.")
    })
}

/// The pattern as it is used.
pub fn whole(pattern: &str) -> String {
    format!("^(?i:{pattern})$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_nobody_is_blocked_and_what_only_looks_like_it_is_not() {
        let rules = Rules::default();
        for value in [
            "",
            " \t",
            "0",
            "000-000",
            "00000000-0000-0000-0000-000000000000",
            "-1",
            "NULL",
            "Anonymous",
            "undefined",
            "[object Object]",
            "(null)",
            " <nil> ",
            "nil",
            "N/A",
            "na",
            "n.a.",
            "true",
            "FALSE",
            "Guest",
            "None",
            "NaN",
            "0.0",
            "(not set)",
            "{}",
            "[]",
            "\"\"",
            "'null'",
            "-",
            "...",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "userId",
        ] {
            assert!(!rules.allow("user_id", value), "{value}");
        }
        for value in [
            "10",
            "-12",
            "nullable",
            "u_anonymous",
            "0a",
            "Nathan",
            "nala",
            "trueman",
            "a",
            "ñ",
            "名",
            "guest1",
            "noneya",
        ] {
            assert!(rules.allow("user_id", value), "{value}");
        }
    }

    #[test]
    fn a_type_of_ones_own_is_known_by_its_name_in_both_spellings() {
        let kind = Identifier {
            kind: "crm_id".into(),
            limit: Some(2),
            window: Window::Weekly,
            priority: Some(1),
            blocked: vec!["test-.*".into()],
            normalize: Some(Normalize::Trim),
        };
        let rules = Rules::of(&Identity { identifiers: vec![kind], blocked: None }).unwrap();
        let names: Vec<_> = rules.named().map(|(kind, names)| (kind, names.join(" "))).collect();
        assert!(names.contains(&("crm_id", "crm_id crmId".into())), "{names:?}");
        assert!(!rules.allow("crm_id", "TEST-7") && rules.allow("email", "test-7"));
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(rules.limit("crm_id", now), (2, Some(now - TimeDelta::days(7))));
        assert_eq!(rules.normalized("crm_id", " A "), "A");
        assert_eq!(rules.normalized("email", " Ann@Example.COM\n"), "ann@example.com");
        assert_eq!(rules.normalized("user_id", " A "), " A ");
        assert_eq!((rules.limit("user_id", now).0, rules.limit("email", now).0), (1, 5));
        assert!(rules.rank("user_id") < rules.rank("email") && rules.rank("email") < rules.rank("anonymous_id"));
        assert!(rules.rank("crm_id") < rules.rank("email") && rules.rank("a") < rules.rank("anonymous_id"));
    }
}
