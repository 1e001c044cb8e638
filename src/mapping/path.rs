//! Which value does a path name? `$.a.b[0]['c']`, as the peer's `get` walks it.

use crate::js::{Json, Number};

/// A text at the top of an event that may be known without parsing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    Type,
    UserId,
    AnonymousId,
    MessageId,
    Timestamp,
    Event,
}

impl Top {
    pub fn named(key: &str) -> Option<Top> {
        Some(match key {
            "type" => Top::Type,
            "userId" => Top::UserId,
            "anonymousId" => Top::AnonymousId,
            "messageId" => Top::MessageId,
            "timestamp" => Top::Timestamp,
            "event" => Top::Event,
            _ => return None,
        })
    }
}

/// A path, split into its steps; without steps it is the whole value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
    /// It leads to a text at the top of the event, which may be known without parsing it.
    top: Option<Top>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    key: Box<str>,
    /// The step as an array index.
    index: Option<usize>,
}

impl Path {
    /// Whether it is the whole value.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty()
    }

    /// As `@path` reads it: the first `$.` is dropped, wherever it stands.
    pub fn parse(text: &str) -> Path {
        Self::split(&text.replacen("$.", "", 1))
    }

    /// As a template's placeholder reads it. Dots separate; so do brackets around a number or a quoted key, whose quotes are
    /// dropped. Other brackets belong to the key.
    pub fn split(text: &str) -> Path {
        let marks = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'"' | b'\'');
        let bytes = text.as_bytes();
        let mut steps = Vec::new();
        let mut start = 0;
        let mut closing = false;
        for (at, byte) in bytes.iter().enumerate() {
            let after = bytes.get(at + 1).copied();
            let before = at.checked_sub(1).map(|at| bytes[at]);
            closing = *byte == b']' && (closing || before.is_some_and(marks));
            if *byte == b'.' || closing || (*byte == b'[' && after.is_some_and(marks)) {
                if at > start {
                    steps.push(Step::new(&text[start..at].replace(['\'', '"'], "")));
                }
                start = at + 1;
            }
        }
        if start < text.len() {
            steps.push(Step::new(&text[start..].replace(['\'', '"'], "")));
        }
        Self::of_steps(steps)
    }

    /// Of keys that are taken as they are.
    pub fn of_keys<'k>(keys: impl IntoIterator<Item = &'k str>) -> Path {
        Self::of_steps(keys.into_iter().map(Step::new).collect())
    }

    fn of_steps(steps: Vec<Step>) -> Path {
        let top = match steps.as_slice() {
            [only] => Top::named(&only.key),
            _ => None,
        };
        Path { steps, top }
    }

    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// Its steps, as keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| &*step.key)
    }

    pub fn top(&self) -> Option<Top> {
        self.top
    }

    /// The value at this path. A null or otherwise falsy value on the way is itself the answer, as in the peer.
    pub fn of<'v>(&self, root: &'v Json<'v>) -> Json<'v> {
        let mut value = root.view();
        for (at, step) in self.steps.iter().enumerate() {
            if value.is_falsy() {
                break;
            }
            match step.of(value) {
                Found::Value(found) => value = found.view(),
                Found::Nothing => return Json::Undefined,
                Found::Made(made) => {
                    let rest = &self.steps[at + 1..];
                    return if rest.is_empty() || made.is_falsy() { made } else { Json::Undefined };
                }
            }
        }
        if matches!(value, Json::Undefined) { Json::Undefined } else { Json::Ref(value) }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("$.")?;
        for (at, step) in self.steps.iter().enumerate() {
            match step.index {
                Some(index) => write!(f, "[{index}]")?,
                None if at > 0 => write!(f, ".{}", step.key)?,
                None => f.write_str(&step.key)?,
            }
        }
        Ok(())
    }
}

enum Found<'v> {
    Nothing,
    Value(&'v Json<'v>),
    /// A value that is not in the tree: a length, or one character of a text.
    Made(Json<'v>),
}

impl Step {
    fn new(key: &str) -> Step {
        let canonical =
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
        Step { index: if canonical { key.parse().ok() } else { None }, key: key.into() }
    }

    fn of<'v>(&self, value: &'v Json<'v>) -> Found<'v> {
        match value {
            Json::Object(_) => value.member(&self.key).map_or(Found::Nothing, Found::Value),
            Json::Array(items) => match self.index {
                Some(index) => items.get(index).map_or(Found::Nothing, Found::Value),
                None if &*self.key == "length" => Found::Made(Json::Number(Number::from(items.len()))),
                None => Found::Nothing,
            },
            Json::Text(text) if &*self.key == "length" => {
                Found::Made(Json::Number(Number::from(text.encode_utf16().count())))
            }
            Json::Text(text) => match self.index.and_then(|index| character(text, index)) {
                Some(character) => Found::Made(Json::text(character)),
                None => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }
}

/// The character at a UTF-16 position; nothing in the middle of a surrogate pair, which has no text of its own.
fn character(text: &str, position: usize) -> Option<&str> {
    let mut units = 0;
    for (at, char) in text.char_indices() {
        if units == position && char.len_utf16() == 1 {
            return text.get(at..at + char.len_utf8());
        }
        units += char.len_utf16();
        if units > position {
            return None;
        }
    }
    None
}
