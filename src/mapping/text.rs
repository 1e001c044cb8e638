//! How is a text changed? `@case` and `@replace`.

use std::borrow::Cow;

use crate::js::{self, Json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Lower,
    Upper,
}

impl Case {
    /// Texts change; anything else stays.
    pub fn of<'a>(self, value: Json<'a>) -> Json<'a> {
        match value.as_str() {
            Some(text) if self == Case::Lower => Json::Text(Cow::Owned(text.to_lowercase())),
            Some(text) => Json::Text(Cow::Owned(text.to_uppercase())),
            None => value,
        }
    }
}

/// `@replace`: one or two plain texts, each by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replace {
    pub steps: Vec<Step>,
    pub ignore_case: bool,
    /// Every occurrence, or only the first.
    pub global: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Not empty.
    pub pattern: String,
    /// May refer to the match as `$&`, to the text around it as ``$` `` and `$'`, and write `$$` for `$`, as in JavaScript.
    pub replacement: String,
}

impl Replace {
    /// Of a text, a number or a boolean; anything else becomes the empty text, as in the peer.
    pub fn of(&self, value: &Json<'_>) -> String {
        match value.view() {
            Json::Text(_) | Json::Number(_) | Json::Bool(_) => {
                self.steps.iter().fold(js::string(value), |text, step| self.step(step, text))
            }
            _ => String::new(),
        }
    }

    fn step(&self, step: &Step, text: String) -> String {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        while let Some((start, end)) = self.find(&step.pattern, &text, from) {
            out.push_str(&text[from..start]);
            expand(&step.replacement, &text, start, end, &mut out);
            from = end;
            if !self.global {
                break;
            }
        }
        out.push_str(&text[from..]);
        out
    }

    fn find(&self, pattern: &str, text: &str, from: usize) -> Option<(usize, usize)> {
        if !self.ignore_case {
            let start = from + text[from..].find(pattern)?;
            return Some((start, start + pattern.len()));
        }
        let same = |a: char, b: char| a == b || canonical(a) == canonical(b);
        text[from..].char_indices().map(|(at, _)| from + at).find_map(|start| {
            let mut rest = text[start..].chars();
            let matched = pattern.chars().all(|wanted| rest.next().is_some_and(|char| same(char, wanted)));
            matched.then(|| (start, text.len() - rest.as_str().len()))
        })
    }
}

/// What JavaScript's `i` flag compares: the upper case, where that is one character and does not turn into ASCII.
fn canonical(char: char) -> char {
    let mut upper = char.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) if char.is_ascii() || !upper.is_ascii() => upper,
        _ => char,
    }
}

fn expand(replacement: &str, text: &str, start: usize, end: usize, out: &mut String) {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let special = match rest.as_bytes().get(at + 1) {
            Some(b'$') => "$",
            Some(b'&') => &text[start..end],
            Some(b'`') => &text[..start],
            Some(b'\'') => &text[end..],
            _ => {
                out.push('$');
                rest = &rest[at + 1..];
                continue;
            }
        };
        out.push_str(special);
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
}
