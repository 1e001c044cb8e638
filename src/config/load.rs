//! What is in the file? Reads it, replaces variables, checks it, and reports all that is wrong at once.

use std::{env, fs, ops::Range, path::Path, sync::LazyLock};

use regex::Regex;

use super::{
    Config, sense,
    settings::HARMLESS,
    shape::Shape,
    tree::{self, Node, Value},
    variables::{self, Surroundings},
};
use crate::{
    Error, Result,
    error::{Problem, Problems},
    limits,
};

/// Reads and checks the configuration at `path`, with this process's environment.
pub fn load(path: &Path) -> Result<Config> {
    let text = fs::read_to_string(path).map_err(|error| {
        let error = Error::settings(format!("the configuration {} cannot be read", path.display())).because(error);
        error.help("Name another with --config or ROLLCALL_CONFIG; rollcall.example.yaml is one to start from.")
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let variable = |name: &str| env::var(name).ok();
    let file = |path: &str| variables::read_small(folder, path);
    parse(&path.display().to_string(), &text, &Surroundings { variable: &variable, file: &file })
}

/// The configuration that `text` holds; `name` names it in errors.
pub fn parse(name: &str, text: &str, around: &Surroundings<'_>) -> Result<Config> {
    if text.len() > limits::CONFIG_BYTES {
        return Err(Error::settings(format!("{name} has more than {} bytes", limits::CONFIG_BYTES))
            .help("A configuration is text written by people; is this another file?"));
    }
    let mut tree = match tree::read(text) {
        Ok(tree) => tree,
        Err(problem) => return Err(wrong(name, masked_by_name(text), vec![problem])),
    };
    let mut problems = Vec::new();
    let shown = masked(text, &tree);
    variables::replace(&mut tree, text, around, &mut problems);
    Shape { schema: &schema(), problems: &mut problems }.check(&mut tree, "");
    match serde_json::from_value(tree.clone().into_json()) {
        Ok(config) => {
            sense::check(&config, &tree, &mut problems);
            if problems.is_empty() { Ok(config) } else { Err(wrong(name, shown, problems)) }
        }
        Err(_) if !problems.is_empty() => Err(wrong(name, shown, problems)),
        // Not even the cause is told: serde quotes values.
        Err(_) => Err(Error::internal(format!("{name} has the right shape, yet cannot be taken in"))),
    }
}

/// The JSON Schema of the configuration file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

fn wrong(name: &str, text: String, mut problems: Vec<Problem>) -> Error {
    problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
    let count = problems.len();
    let message = match count {
        1 => format!("{name} has a problem"),
        _ => format!("{name} has {count} problems"),
    };
    problems.truncate(limits::CONFIG_PROBLEMS);
    let error = Error::settings(message).at(Problems { name: name.into(), text, problems });
    match count > limits::CONFIG_PROBLEMS {
        true => error.help(format!("These are the first {}.", limits::CONFIG_PROBLEMS)),
        false => error,
    }
}

/// The text as it may be shown in an error: every value that may hold a secret is blotted out, byte for byte, so that
/// places stay where they are.
fn masked(text: &str, tree: &Node) -> String {
    let mut spans = Vec::new();
    if let Some(database) = tree.get("database") {
        spans.extend(scalars(database));
    }
    if let Some(Value::Map(destinations)) = tree.get("destinations").map(|node| &node.value) {
        for (_, destination) in destinations {
            match destination.get("settings").map(|settings| &settings.value) {
                Some(Value::Map(settings)) => {
                    let secret = settings.iter().filter(|(key, _)| !HARMLESS.contains(&key.name.as_str()));
                    spans.extend(secret.flat_map(|(_, value)| scalars(value)));
                }
                _ => spans.extend(destination.get("settings").into_iter().flat_map(scalars)),
            }
        }
    }
    blot(&masked_by_name(text), spans)
}

/// The places of all scalars below `node`.
fn scalars(node: &Node) -> Vec<Range<usize>> {
    match &node.value {
        Value::List(items) => items.iter().flat_map(scalars).collect(),
        Value::Map(entries) => entries.iter().flat_map(|(_, value)| scalars(value)).collect(),
        _ => vec![node.span.clone(), node.written.clone()],
    }
}

/// The same by the look of a line alone, for what is not (or not yet) known to be a setting.
fn masked_by_name(text: &str) -> String {
    static SECRET: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?im)(?:password|passwd|secret|token|accesskey|ssl_?key|private_?key|database|://)[\w"'-]*\s*:?\s*(.+)$"#)
            .expect("a constant pattern, compiled by the tests")
    });
    let spans = SECRET.captures_iter(text).filter_map(|found| found.get(1)).map(|value| value.range()).collect();
    blot(text, spans)
}

fn blot(text: &str, spans: Vec<Range<usize>>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        let is_variable = text.get(span.clone()).is_some_and(|value| value.trim_matches(['"', '\'']).starts_with("${"));
        if !is_variable {
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
