//! What stands for `${…}`? The environment and files, put into values after parsing, so that no value can add YAML.
//!
//! `${NAME}`, `${NAME:-default}` (when unset or empty, as in a shell), `${file:/path}` (without its last line end);
//! `$${` is a literal `${`. A `$` before anything else is itself. Keys are left alone.
//!
//! Must never replace one where its value would be shown: which texts are settings is a word of the schema, [`SETTINGS`].

use std::{fs, io, path::Path};

use schemars::Schema;

use super::tree::{Node, Value};
use crate::{error::Problem, limits};

/// The word of the schema at what holds settings or secrets, and all below it: there, and in numbers and switches, variables are replaced.
/// All other texts (names, definitions, mappings) are shown to people, so none may bring a secret in.
pub const SETTINGS: &str = "x-variables";

/// The same schema, of what holds settings.
pub fn settings(mut schema: Schema) -> Schema {
    schema.insert(SETTINGS.into(), true.into());
    schema
}

/// What `${…}` may refer to.
pub struct Surroundings<'a> {
    /// An environment variable by name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file by its path, as written.
    pub file: &'a dyn Fn(&str) -> io::Result<String>,
}

/// Reads a small text file; a relative path starts at `folder`.
pub fn read_small(folder: &Path, path: &str) -> io::Result<String> {
    let path = folder.join(path);
    if fs::metadata(&path)?.len() > limits::SECRET_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large for a value"));
    }
    fs::read_to_string(path)
}

/// Replaces `${…}` in `node`, if it is a text; without surroundings there is nothing that it may refer to.
pub fn replace(node: &mut Node, text: &str, around: Option<&Surroundings<'_>>, problems: &mut Vec<Problem>) {
    let Value::Text(value) = &mut node.value else { return };
    if !value.contains("${") {
        return;
    }
    match replaced(value, around) {
        Ok(new) => {
            *value = new;
            node.replaced = true;
        }
        Err(Unresolved { what, message, help }) => {
            // The same words in the file, unless an escape or an alias hides them.
            let written = text.get(node.span.clone()).and_then(|written| written.find(&what));
            let span = match written {
                Some(offset) => node.span.start + offset..node.span.start + offset + what.len(),
                None => node.span.clone(),
            };
            problems.push(Problem { message, span, help: Some(help) });
            node.value = Value::Unresolved;
        }
    }
}

struct Unresolved {
    /// The words to underline.
    what: String,
    message: String,
    help: String,
}

fn replaced(text: &str, around: Option<&Surroundings<'_>>) -> Result<String, Unresolved> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        result.push_str(&rest[..start]);
        let Some(length) = rest[start..].find('}') else {
            return Err(Unresolved {
                what: "${".into(),
                message: "`${` is not closed".into(),
                help: "Write ${NAME}, ${NAME:-default} or ${file:/path}; a literal `${` is written `$${`.".into(),
            });
        };
        let whole = &rest[start..=start + length];
        let Some(around) = around else {
            return Err(Unresolved {
                what: whole.to_owned(),
                message: "a variable cannot stand here".into(),
                help: "It is replaced in settings alone, because this text is shown to people. Write what is meant; a literal `${` \
                       is written `$${`."
                    .into(),
            });
        };
        result.push_str(&resolved(whole, &whole[2..whole.len() - 1], around)?);
        rest = &rest[start + length + 1..];
    }
    Ok(result + rest)
}

fn resolved(whole: &str, inside: &str, around: &Surroundings<'_>) -> Result<String, Unresolved> {
    let unresolved = |message, help| Unresolved { what: whole.to_owned(), message, help };
    if let Some(path) = inside.strip_prefix("file:") {
        let mut content = (around.file)(path).map_err(|error| {
            let help = format!(
                "Its path is absolute, or relative to the configuration; at most {} bytes of UTF-8.",
                limits::SECRET_FILE_BYTES
            );
            unresolved(format!("{path} cannot be read: {}", error.kind()), help)
        })?;
        if content.ends_with('\n') {
            content.truncate(content.trim_end_matches(['\r', '\n']).len());
        }
        return Ok(content);
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        let help = "Write ${NAME}, ${NAME:-default} or ${file:/path}; a literal `${` is written `$${`.";
        return Err(unresolved("this names no variable".into(), help.into()));
    }
    match ((around.variable)(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let help = format!("Set it, or give a default: ${{{name}:-default}}.");
            Err(unresolved(format!("the environment has no {name}"), help))
        }
    }
}
