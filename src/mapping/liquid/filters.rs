//! What do Liquid's filters answer? Those of LiquidJS that the peer leaves enabled.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use regex::Regex;

use super::{
    date,
    encode::{base64_decode, base64_encode, escape, in_words, percent_decode, percent_encode, unescape},
    value::Value,
};
use crate::{
    js::{self, Json},
    limits,
    mapping::Fault,
};

/// Filters that the peer disables.
const DISABLED: [&str; 20] = [
    "array_to_sentence_string",
    "concat",
    "find",
    "find_exp",
    "find_index",
    "find_index_exp",
    "group_by",
    "group_by_exp",
    "has",
    "has_exp",
    "map",
    "newline_to_br",
    "reject",
    "reject_exp",
    "reverse",
    "sort",
    "sort_natural",
    "uniq",
    "where_exp",
    "type",
];

/// One filter. A name that does not exist leaves the value as it is, as LiquidJS does.
pub fn apply<'a>(
    name: &str,
    value: Value<'a>,
    arguments: &[Value<'a>],
    named: &HashMap<&str, Value<'a>>,
) -> Result<Value<'a>, Fault> {
    if DISABLED.contains(&name) {
        return Err(format!("filter \"{name}\" is disabled"));
    }
    let text = |at: usize| arguments.get(at).map(Value::to_text).unwrap_or_default();
    let number = |at: usize, default: f64| arguments.get(at).map_or(default, Value::to_number);
    let same = |at: usize| arguments.get(at).map_or(0.0, Value::to_number);
    let input = || value.to_text();
    Ok(match name {
        // Numbers, by JavaScript's rules.
        "abs" => Value::Number(value.to_number().abs()),
        "ceil" => Value::Number(value.to_number().ceil()),
        "floor" => Value::Number(value.to_number().floor()),
        "plus" => Value::Number(value.to_number() + same(0)),
        "minus" => Value::Number(value.to_number() - same(0)),
        "times" => Value::Number(value.to_number() * same(0)),
        "divided_by" => {
            let quotient = value.to_number() / same(0);
            Value::Number(if arguments.get(1).is_some_and(Value::is_true) { quotient.floor() } else { quotient })
        }
        // With the sign of the divisor.
        "modulo" => Value::Number((value.to_number() % same(0) + same(0)) % same(0)),
        "at_least" => Value::Number(value.to_number().max(same(0))),
        "at_most" => Value::Number(value.to_number().min(same(0))),
        "round" => {
            let scale = 10f64.powf(number(0, 0.0));
            let scaled = value.to_number() * scale * (1.0 + f64::EPSILON);
            Value::Number((scaled + 0.5).floor() / scale)
        }
        "to_integer" => Value::Number(value.as_number().unwrap_or(f64::NAN)),
        // Texts.
        "append" | "prepend" if arguments.len() != 1 => return Err(format!("filter \"{name}\" wants one argument")),
        "append" => bounded(input() + &text(0))?,
        "prepend" => bounded(text(0) + &input())?,
        "upcase" => Value::text(input().to_uppercase()),
        "downcase" => Value::text(input().to_lowercase()),
        "capitalize" => {
            let input = input();
            let mut chars = input.chars();
            let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
            Value::text(first + &chars.as_str().to_lowercase())
        }
        "strip" | "lstrip" | "rstrip" => {
            let (input, chars) = (input(), text(0));
            let strip = |char: char| if chars.is_empty() { js::is_space(char) } else { chars.contains(char) };
            Value::text(match name {
                "strip" => input.trim_matches(strip).to_owned(),
                "lstrip" => input.trim_start_matches(strip).to_owned(),
                _ => input.trim_end_matches(strip).to_owned(),
            })
        }
        "strip_newlines" => Value::text(input().replace("\r\n", "").replace('\n', "")),
        "normalize_whitespace" => Value::text(in_words(&input(), " ")),
        "number_of_words" => Value::Number(input().split_whitespace().count() as f64),
        "remove" => Value::text(input().replace(&text(0), "")),
        "remove_first" => Value::text(input().replacen(&text(0), "", 1)),
        "remove_last" => Value::text(replace_last(input(), &text(0), "")),
        "replace" => replaced(&input(), &text(0), &text(1))?,
        "replace_first" => bounded(input().replacen(&text(0), &text(1), 1))?,
        "replace_last" => bounded(replace_last(input(), &text(0), &text(1)))?,
        "split" => {
            let (input, by) = (input(), text(0));
            let mut parts: Vec<String> = match by.as_str() {
                "" => input.encode_utf16().map(|unit| String::from_utf16_lossy(&[unit])).collect(),
                by => input.split(by).map(str::to_owned).collect(),
            };
            while parts.last().is_some_and(String::is_empty) {
                parts.pop();
            }
            array(parts.into_iter().map(|part| Json::Text(Cow::Owned(part))).collect())
        }
        "truncate" => {
            let (input, length) = (input(), number(0, 50.0).max(0.0) as usize);
            let end = if arguments.len() > 1 { text(1) } else { "...".into() };
            let units: Vec<u16> = input.encode_utf16().collect();
            if units.len() <= length {
                Value::text(input)
            } else {
                let kept = length.saturating_sub(end.encode_utf16().count());
                Value::text(String::from_utf16_lossy(&units[..kept]) + &end)
            }
        }
        "truncatewords" => {
            let (input, most) = (input(), number(0, 15.0).max(1.0) as usize);
            let end = if arguments.len() > 1 { text(1) } else { "...".into() };
            let spaced = in_words(&input, " ");
            let words: Vec<&str> = spaced.split(' ').collect();
            let kept = words[..most.min(words.len())].join(" ");
            Value::text(if words.len() >= most { kept + &end } else { kept })
        }
        // Markup and addresses.
        "escape" | "xml_escape" => bounded(escape(&input()))?,
        "escape_once" => bounded(escape(&unescape(&input())))?,
        "strip_html" => {
            // The pattern is a constant; that it compiles is tested.
            static HTML: LazyLock<Option<Regex>> = LazyLock::new(|| {
                Regex::new(r"(?i)<script[\s\S]*?</script>|<style[\s\S]*?</style>|<[^\n\r]*?>|<!--[\s\S]*?-->").ok()
            });
            let input = input();
            Value::text(HTML.as_ref().map_or(input.clone(), |html| html.replace_all(&input, "").into_owned()))
        }
        "url_encode" => bounded(percent_encode(&input(), "-_.!~*'()").replace("%20", "+"))?,
        "cgi_escape" => bounded(percent_encode(&input(), "-_.~").replace("%20", "+"))?,
        "uri_escape" => bounded(percent_encode(&input(), "-_.!~*'();/?:@&=+$,#[]"))?,
        "url_decode" => Value::text(percent_decode(&input())?.replace('+', " ")),
        "slugify" => Value::text(slugify(&input(), &text(0), arguments.get(1).is_some_and(Value::is_true))),
        "base64_encode" => bounded(base64_encode(input().as_bytes()))?,
        "base64_decode" => Value::text(String::from_utf8_lossy(&base64_decode(&input())).into_owned()),
        // Arrays.
        "join" => {
            let by = if arguments.is_empty() { " ".into() } else { text(0) };
            let items: Vec<String> = items(&value).into_iter().map(|item| Value::Json(item).to_text()).collect();
            bounded(items.join(&by))?
        }
        "first" => ends(&value, true),
        "last" => ends(&value, false),
        "size" => Value::Number(match value.as_json() {
            Some(Json::Text(text)) => text.encode_utf16().count() as f64,
            Some(Json::Array(items)) => items.len() as f64,
            _ => 0.0,
        }),
        "slice" => slice(&value, number(0, 0.0), number(1, 1.0)),
        "compact" => array(items(&value).into_iter().filter(|item| !item.is_absent()).collect()),
        "sum" => {
            let of = |item: Json<'a>| match arguments.first() {
                Some(key) => item.member(&key.to_text()).map_or(0.0, |member| Value::Json(member.clone()).to_number()),
                None => Value::Json(item).to_number(),
            };
            Value::Number(items(&value).into_iter().map(of).sum())
        }
        "push" | "unshift" => {
            let mut items = items(&value);
            let item = arguments.first().cloned().unwrap_or(Value::nothing()).into_json();
            if name == "push" {
                items.push(item)
            } else {
                items.insert(0, item)
            }
            array(items)
        }
        "pop" | "shift" => {
            let mut items = items(&value);
            if name == "pop" {
                items.pop();
            } else if !items.is_empty() {
                items.remove(0);
            }
            array(items)
        }
        "where" => {
            let (key, wanted) = (text(0), arguments.get(1).map(Value::to_text));
            let keeps = |item: &Json<'_>| match (item.member(&key), &wanted) {
                (Some(member), Some(wanted)) => Value::Json(member.clone()).to_text() == *wanted,
                (Some(member), None) => Value::Json(member.clone()).is_true(),
                (None, _) => false,
            };
            array(items(&value).into_iter().filter(keeps).collect())
        }
        // The rest.
        "default" => {
            let keeps = match value.as_json() {
                Some(Json::Text(text)) => !text.is_empty(),
                Some(Json::Array(items)) => !items.is_empty(),
                Some(Json::Bool(false)) => named.get("allow_false").is_some_and(Value::is_true),
                _ => value.is_true(),
            };
            if keeps { value } else { arguments.first().cloned().unwrap_or(Value::nothing()) }
        }
        "json" | "jsonify" | "inspect" => match value.into_json() {
            Json::Undefined => Value::nothing(),
            value => bounded(js::json_text(&value))?,
        },
        "date" => date::format(value, arguments.first().map(Value::to_text).as_deref())?,
        "date_to_xmlschema" => date::format(value, Some("%Y-%m-%dT%H:%M:%S%:z"))?,
        "date_to_rfc822" => date::format(value, Some("%a, %d %b %Y %H:%M:%S %z"))?,
        "date_to_string" | "date_to_long_string" => {
            let month = if name == "date_to_string" { "%b" } else { "%B" };
            let form = match (text(0).as_str(), text(1).as_str()) {
                ("ordinal", "US") => format!("{month} %-d%q, %Y"),
                ("ordinal", _) => format!("%-d%q {month} %Y"),
                _ => format!("%d {month} %Y"),
            };
            date::format(value, Some(&form))?
        }
        "sample" => {
            return Err(
                "filter \"sample\" gives another value each time, so that a record could not be repeated".into()
            );
        }
        _ => value,
    })
}

fn bounded<'a>(text: String) -> Result<Value<'a>, Fault> {
    if text.len() > limits::LIQUID_OUTPUT_BYTES {
        return Err(format!("a text is longer than {} bytes", limits::LIQUID_OUTPUT_BYTES));
    }
    Ok(Value::text(text))
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

fn array(items: Vec<Json<'_>>) -> Value<'_> {
    Value::Json(Json::Array(items))
}

/// The entries of an array; any other value is an array of one, nothing is empty.
fn items<'a>(value: &Value<'a>) -> Vec<Json<'a>> {
    match value {
        Value::Json(json) => match json.view() {
            Json::Undefined | Json::Null => Vec::new(),
            Json::Array(items) => items.clone(),
            _ => vec![json.clone()],
        },
        number => vec![number.clone().into_json()],
    }
}

fn ends<'a>(value: &Value<'a>, first: bool) -> Value<'a> {
    match value.as_json() {
        Some(Json::Array(items)) => {
            let item = if first { items.first() } else { items.last() };
            item.map_or(Value::nothing(), |item| Value::Json(item.clone()))
        }
        Some(Json::Text(text)) => {
            let char = if first { text.chars().next() } else { text.chars().next_back() };
            Value::text(char.map(String::from).unwrap_or_default())
        }
        _ => Value::text(""),
    }
}

fn slice<'a>(value: &Value<'a>, begin: f64, length: f64) -> Value<'a> {
    let bounds = |size: usize| {
        let begin = if begin < 0.0 { size as f64 + begin } else { begin };
        let valid = begin >= 0.0 && length >= 0.0;
        let from = begin.clamp(0.0, size as f64);
        let to = (begin + length).clamp(from, size as f64);
        if valid { from as usize..to as usize } else { 0..0 }
    };
    match value.as_json() {
        Some(Json::Array(items)) => array(items[bounds(items.len())].to_vec()),
        Some(Json::Undefined | Json::Null) => array(Vec::new()),
        _ => {
            let units: Vec<u16> = value.to_text().encode_utf16().collect();
            Value::text(String::from_utf16_lossy(&units[bounds(units.len())]))
        }
    }
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
