//! What do the filters of texts, of markup and of addresses answer? No text that they make is longer than the limit.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

use super::{
    super::{
        encode::{base64_decode, base64_encode, escape, in_words, percent_decode, percent_encode, unescape},
        value::Value,
    },
    Call,
    arrays::array,
    bounded,
};
use crate::{
    js::{self, Json},
    limits,
    mapping::Fault,
};

impl<'a> Call<'_, 'a> {
    pub(super) fn of_texts(&self) -> Result<Option<Value<'a>>, Fault> {
        Ok(Some(match self.name {
            "append" | "prepend" if self.arguments.len() != 1 => {
                return Err(format!("filter \"{}\" wants one argument", self.name));
            }
            "append" => bounded(self.input() + &self.text(0))?,
            "prepend" => bounded(self.text(0) + &self.input())?,
            "upcase" => Value::text(self.input().to_uppercase()),
            "downcase" => Value::text(self.input().to_lowercase()),
            "capitalize" => {
                let input = self.input();
                let mut chars = input.chars();
                let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
                Value::text(first + &chars.as_str().to_lowercase())
            }
            "strip" | "lstrip" | "rstrip" => {
                let (input, chars) = (self.input(), self.text(0));
                let strip = |char: char| if chars.is_empty() { js::is_space(char) } else { chars.contains(char) };
                Value::text(match self.name {
                    "strip" => input.trim_matches(strip).to_owned(),
                    "lstrip" => input.trim_start_matches(strip).to_owned(),
                    _ => input.trim_end_matches(strip).to_owned(),
                })
            }
            "strip_newlines" => Value::text(self.input().replace("\r\n", "").replace('\n', "")),
            "normalize_whitespace" => Value::text(in_words(&self.input(), " ")),
            "number_of_words" => Value::Number(self.input().split_whitespace().count() as f64),
            "remove" => Value::text(self.input().replace(&self.text(0), "")),
            "remove_first" => Value::text(self.input().replacen(&self.text(0), "", 1)),
            "remove_last" => Value::text(replace_last(self.input(), &self.text(0), "")),
            "replace" => replaced(&self.input(), &self.text(0), &self.text(1))?,
            "replace_first" => bounded(self.input().replacen(&self.text(0), &self.text(1), 1))?,
            "replace_last" => bounded(replace_last(self.input(), &self.text(0), &self.text(1)))?,
            "split" => self.split(),
            "truncate" => self.truncate(),
            "truncatewords" => self.truncate_words(),
            _ => return Ok(None),
        }))
    }

    fn split(&self) -> Value<'a> {
        let (input, by) = (self.input(), self.text(0));
        let mut parts: Vec<String> = match by.as_str() {
            "" => input.encode_utf16().map(|unit| String::from_utf16_lossy(&[unit])).collect(),
            by => input.split(by).map(str::to_owned).collect(),
        };
        while parts.last().is_some_and(String::is_empty) {
            parts.pop();
        }
        array(parts.into_iter().map(|part| Json::Text(Cow::Owned(part))).collect())
    }

    fn truncate(&self) -> Value<'a> {
        let (input, length) = (self.input(), self.number(0, 50.0).max(0.0) as usize);
        let end = if self.arguments.len() > 1 { self.text(1) } else { "...".into() };
        let units: Vec<u16> = input.encode_utf16().collect();
        if units.len() <= length {
            Value::text(input)
        } else {
            let kept = length.saturating_sub(end.encode_utf16().count());
            Value::text(String::from_utf16_lossy(&units[..kept]) + &end)
        }
    }

    fn truncate_words(&self) -> Value<'a> {
        let (input, most) = (self.input(), self.number(0, 15.0).max(1.0) as usize);
        let end = if self.arguments.len() > 1 { self.text(1) } else { "...".into() };
        let spaced = in_words(&input, " ");
        let words: Vec<&str> = spaced.split(' ').collect();
        let kept = words[..most.min(words.len())].join(" ");
        Value::text(if words.len() >= most { kept + &end } else { kept })
    }

    /// Markup and addresses.
    pub(super) fn of_markup(&self) -> Result<Option<Value<'a>>, Fault> {
        Ok(Some(match self.name {
            "escape" | "xml_escape" => bounded(escape(&self.input()))?,
            "escape_once" => bounded(escape(&unescape(&self.input())))?,
            "strip_html" => {
                // The pattern is a constant; that it compiles is tested.
                static HTML: LazyLock<Option<Regex>> = LazyLock::new(|| {
                    Regex::new(r"(?i)<script[\s\S]*?</script>|<style[\s\S]*?</style>|<[^\n\r]*?>|<!--[\s\S]*?-->").ok()
                });
                let input = self.input();
                Value::text(HTML.as_ref().map_or(input.clone(), |html| html.replace_all(&input, "").into_owned()))
            }
            "url_encode" => bounded(percent_encode(&self.input(), "-_.!~*'()").replace("%20", "+"))?,
            "cgi_escape" => bounded(percent_encode(&self.input(), "-_.~").replace("%20", "+"))?,
            "uri_escape" => bounded(percent_encode(&self.input(), "-_.!~*'();/?:@&=+$,#[]"))?,
            "url_decode" => Value::text(percent_decode(&self.input())?.replace('+', " ")),
            "slugify" => {
                Value::text(slugify(&self.input(), &self.text(0), self.arguments.get(1).is_some_and(Value::is_true)))
            }
            "base64_encode" => bounded(base64_encode(self.input().as_bytes()))?,
            "base64_decode" => Value::text(String::from_utf8_lossy(&base64_decode(&self.input())).into_owned()),
            _ => return Ok(None),
        }))
    }
}

/// Counts before it builds, so that many long replacements never exist.
fn replaced<'a>(input: &str, pattern: &str, with: &str) -> Result<Value<'a>, Fault> {
    if pattern.is_empty() {
        // As `split("").join(…)`: between the characters, not around them.
        let chars: Vec<String> = input.chars().map(String::from).collect();
        let long = input.len().saturating_add(chars.len().saturating_mul(with.len()));
        return if long > limits::LIQUID_OUTPUT_BYTES {
            bounded("x".repeat(limits::LIQUID_OUTPUT_BYTES + 1))
        } else {
            bounded(chars.join(with))
        };
    }
    let long = input.len().saturating_add(input.matches(pattern).count().saturating_mul(with.len()));
    if long > limits::LIQUID_OUTPUT_BYTES + input.len() {
        return Err(format!("a text is longer than {} bytes", limits::LIQUID_OUTPUT_BYTES));
    }
    bounded(input.replace(pattern, with))
}

fn replace_last(mut input: String, pattern: &str, with: &str) -> String {
    if let Some(at) = input.rfind(pattern) {
        input.replace_range(at..at + pattern.len(), with);
    }
    input
}

/// Jekyll's slugs: what the mode does not keep becomes a hyphen.
fn slugify(text: &str, mode: &str, cased: bool) -> String {
    let keeps = |char: char| match mode {
        "raw" => !js::is_space(char),
        "pretty" => char.is_alphanumeric() || "._~!$&'()+,;=@".contains(char),
        "ascii" | "latin" => char.is_ascii_alphanumeric(),
        _ => char.is_alphanumeric(),
    };
    let slug = if matches!(mode, "" | "default" | "raw" | "pretty" | "ascii" | "latin") {
        let spaced: String = text.chars().map(|char| if keeps(char) { char } else { ' ' }).collect();
        in_words(spaced.trim(), "-")
    } else {
        text.to_owned()
    };
    if cased { slug } else { slug.to_lowercase() }
}
