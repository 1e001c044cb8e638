//! What is in the file? Reads it, replaces variables, checks it, and reports all that is wrong at once.

use std::{env, fs, path::Path};

use super::{
    Config, mask, sense,
    shape::Shape,
    tree,
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

/// Any YAML (and so JSON) as a value, within the limits of a configuration; variables are left as they stand.
///
/// # Errors
/// [`crate::Kind::Settings`] with the place, if it is no YAML or too much of it.
pub fn value(name: &str, text: &str) -> Result<serde_json::Value> {
    if text.len() > limits::CONFIG_BYTES {
        return Err(Error::settings(format!("{name} has more than {} bytes", limits::CONFIG_BYTES))
            .help("A mapping is text written by people; is this another file?"));
    }
    match tree::read(text) {
        Ok(tree) => Ok(tree.into_json()),
        Err(problem) => Err(wrong(name, text.to_owned(), vec![problem])),
    }
}

/// The configuration that `text` holds; `name` names it in errors.
pub fn parse(name: &str, text: &str, around: &Surroundings<'_>) -> Result<Config> {
    if text.len() > limits::CONFIG_BYTES {
        return Err(Error::settings(format!("{name} has more than {} bytes", limits::CONFIG_BYTES))
            .help("A configuration is text written by people; is this another file?"));
    }
    let mut tree = match tree::read(text) {
        Ok(tree) => tree,
        Err(problem) => return Err(wrong(name, mask::lines(text), vec![problem])),
    };
    let mut problems = Vec::new();
    let shown = mask::values(text, &tree);
    Shape { schema: &schema(), text, around, problems: &mut problems }.check(&mut tree, "");
    sense::check(&tree, &mut problems);
    if !problems.is_empty() {
        return Err(wrong(name, shown, problems));
    }
    // Not even the cause is told: serde quotes values.
    serde_json::from_value(tree.into_json())
        .map_err(|_| Error::internal(format!("{name} has the right shape, yet cannot be taken in")))
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
