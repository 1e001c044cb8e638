//! What of the file may an error show? Everything but values that may be secrets, which are blotted out byte for byte,
//! so that places stay where they are.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    settings::HARMLESS,
    tree::{Node, Value},
};

/// Keys whose values are secrets wherever they stand, misspelt ones included.
static SECRET_KEY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?i)pass|secret|token|credential|datab|(access|ssl|private|write)_?key")
        .expect("a constant pattern, under test")
});

/// The text without the secrets of `tree`, which was read from it.
pub fn values(text: &str, tree: &Node) -> String {
    let mut spans = Vec::new();
    secrets(tree, false, &mut spans);
    blot(text, &spans)
}

/// The same for a text that cannot be parsed: by the look of each line alone.
pub fn lines(text: &str) -> String {
    let mut start = 0;
    let mut spans = Vec::new();
    for line in text.split_inclusive('\n') {
        let found = SECRET_KEY.find(line).map(|found| found.end());
        // `key:` may be that of a source, or of an audience: which one cannot be seen here.
        let secret = found.into_iter().chain(line.find("://")).chain(line.find("key:")).min();
        spans.extend(secret.map(|from| start + from..start + line.len()));
        start += line.len();
    }
    blot(text, &spans)
}

fn secrets(node: &Node, secret: bool, spans: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                if key.name == "settings" {
                    // Of Segment's settings only some are known to be harmless; of a list or a scalar here, nothing is.
                    let is_map = !value.entries().is_empty();
                    value.entries().iter().for_each(|(name, value)| {
                        secrets(value, secret || !HARMLESS.contains(&name.name.as_str()), spans);
                    });
                    if !is_map {
                        secrets(value, true, spans);
                    }
                } else {
                    secrets(value, secret || SECRET_KEY.is_match(&key.name), spans);
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| secrets(item, secret, spans)),
        Value::Text(text) if !secret && !text.contains("://") => {}
        Value::Text(_) => spans.extend([node.span.clone(), node.written.clone()]),
        _ if secret => spans.extend([node.span.clone(), node.written.clone()]),
        _ => {}
    }
}

/// A `${…}` stays: it names a secret, and is none.
fn blot(text: &str, spans: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        let variable = text.get(span.clone()).map(|value| value.trim_matches(['"', '\'', ' ']));
        if !variable.is_some_and(|value| value.starts_with("${") && value.ends_with('}') && !value.contains(":-")) {
            let end = span.end.min(bytes.len());
            bytes[span.start.min(end)..end]
                .iter_mut()
                .filter(|byte| !b"\r\n".contains(byte))
                .for_each(|byte| *byte = b'*');
        }
    }
    // Whole characters were replaced by ASCII; should a place ever be off, show nothing rather than half a secret.
    String::from_utf8(bytes).unwrap_or_else(|_| text.chars().map(|c| if c == '\n' { c } else { '*' }).collect())
}
