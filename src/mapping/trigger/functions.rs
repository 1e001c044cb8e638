//! What do the functions of a trigger answer? Those that the peer documents; null-safe, as it says.

use std::borrow::Cow;

use heck::{ToKebabCase, ToTitleCase};

use crate::js::{self, Json, Number};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Contains,
    Match,
    Length,
    Lowercase,
    Uppercase,
    Snakecase,
    Kebabcase,
    Titlecase,
    Typeof,
    Bool,
    String,
    Number,
}

impl Function {
    pub const ALL: [(&'static str, Function); 12] = [
        ("contains", Function::Contains),
        ("match", Function::Match),
        ("length", Function::Length),
        ("lowercase", Function::Lowercase),
        ("uppercase", Function::Uppercase),
        ("snakecase", Function::Snakecase),
        ("kebabcase", Function::Kebabcase),
        ("titlecase", Function::Titlecase),
        ("typeof", Function::Typeof),
        ("bool", Function::Bool),
        ("string", Function::String),
        ("number", Function::Number),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(name, _)| name)
    }

    pub fn arguments(self) -> usize {
        if self.is_test_of_text() { 2 } else { 1 }
    }

    /// `contains` and `match`: of anything but a text they are neither true nor, with `!`, false.
    pub fn is_test_of_text(self) -> bool {
        matches!(self, Function::Contains | Function::Match)
    }

    /// Whether its answer is a condition by itself.
    pub fn is_condition(self) -> bool {
        self.is_test_of_text() || self == Function::Bool
    }

    /// The value for a value; with `second` for the functions of two arguments.
    pub fn call<'v>(self, value: &Json<'v>, second: &Json<'v>) -> Json<'v> {
        let changed = |change: fn(&str) -> String| match value.as_str() {
            Some(text) => Json::Text(Cow::Owned(change(text))),
            None => value.clone(),
        };
        match self {
            Function::Contains => Json::Bool(value.as_str().is_some_and(|text| text.contains(&js::string(second)))),
            Function::Match => Json::Bool(value.as_str().is_some_and(|text| glob(&js::string(second), text))),
            Function::Length => Json::Number(Number::from(match value.view() {
                Json::Text(text) => text.len(),
                Json::Array(items) => items.len(),
                Json::Object(members) => members.len(),
                _ => 0,
            })),
            Function::Lowercase => changed(str::to_lowercase),
            Function::Uppercase => changed(str::to_uppercase),
            Function::Snakecase => changed(|text| text.replace(' ', "_")),
            Function::Kebabcase => changed(|text| text.to_kebab_case()),
            Function::Titlecase => changed(|text| text.to_title_case()),
            Function::Typeof => Json::Text(Cow::Borrowed(match value.view() {
                Json::Undefined => "null",
                other => other.kind(),
            })),
            Function::Bool => match value.view() {
                Json::Text(text) => Json::Bool(text == "true"),
                other => Json::Bool(!other.is_falsy()),
            },
            Function::String if value.is_absent() => Json::Null,
            Function::String => Json::Text(Cow::Owned(match value.view() {
                container @ (Json::Array(_) | Json::Object(_)) => js::json_text(container),
                scalar => js::string(scalar),
            })),
            Function::Number => match value.view() {
                Json::Text(text) if !text.trim().is_empty() => {
                    js::number(text).and_then(Number::from_f64).map_or(Json::Null, Json::Number)
                }
                Json::Bool(bool) => Json::Number(usize::from(*bool).into()),
                Json::Number(number) => Json::Number(number.clone()),
                _ => Json::Null,
            },
        }
    }
}

/// Whether the whole text matches: `*` any run, `?` one character, `[a-z]` one of a set (`[!…]` or `[^…]` not of it),
/// `\x` the character itself. Case matters.
pub fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not match here: one character later.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        let step = match (p == pattern.len(), text.get(t)) {
            (true, None) => return true,
            (false, Some(char)) => one(&pattern[p..], *char),
            _ => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// The length of the pattern's first element, if it matches the character.
fn one(pattern: &[char], char: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == char).then_some(2),
        ['[', rest @ ..] => match rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) {
            Some(close) => {
                let (negated, set) = match &rest[..close] {
                    ['!' | '^', set @ ..] if !set.is_empty() => (true, set),
                    set => (false, set),
                };
                (in_set(set, char) != negated).then_some(close + 2)
            }
            // Without its end the bracket is itself.
            None => (char == '[').then_some(1),
        },
        [literal, ..] => (*literal == char).then_some(1),
        [] => None,
    }
}

fn in_set(mut set: &[char], char: char) -> bool {
    loop {
        set = match set {
            [from, '-', to, ..] if (*from..=*to).contains(&char) => return true,
            [_, '-', _, rest @ ..] => rest,
            [member, ..] if *member == char => return true,
            [_, rest @ ..] => rest,
            [] => return false,
        }
    }
}
