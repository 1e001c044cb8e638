//! `rollcall map`: which record would this event become? Sends nothing, and needs neither Postgres nor Kafka.

pub mod show;
pub mod vectors;

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    config::{self, Config},
    error::{Error, Result},
    mapping::{Event, Mapping, Trigger},
};

/// Shows the records that events become, or why they do not.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "\
Examples:
  rollcall map --mapping send.json --events events.ndjson
  rollcall map --destination prod --events - --json
  rollcall map --trigger 'type = \"identify\" and traits.vip = true' --events events.ndjson
  rollcall map --destination prod --explain")]
pub struct MapArgs {
    /// A mapping (YAML or JSON): its fields, or {name, subscribe, mapping, on_exit}, or a list of those.
    #[arg(long, value_name = "FILE", conflicts_with = "destination")]
    pub mapping: Option<PathBuf>,
    /// The mappings of a destination of the configuration.
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Events as JSON, one after the other or in an array; - reads standard input.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Shows which events this trigger (FQL) lets through, instead of mapping them.
    #[arg(long, value_name = "FQL", conflicts_with_all = ["mapping", "destination"])]
    pub trigger: Option<String>,
    /// Shows where each field of the record comes from.
    #[arg(long)]
    pub explain: bool,
    /// Runs a file of conformance vectors; fails if a core or edge case differs.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mapping", "destination", "events", "trigger", "explain"])]
    pub vectors: Option<PathBuf>,
}

/// Runs the command; with `json`, one JSON object a line is printed. `config` is asked for only when `--destination` is given.
pub fn run(args: MapArgs, json: bool, config: impl FnOnce() -> Result<Config>, out: &mut dyn Write) -> Result<()> {
    if let Some(path) = &args.vectors {
        return run_vectors(&read(path)?, json, out);
    }
    if let Some(text) = &args.trigger {
        let trigger = Trigger::read("the command line", text)?;
        return show::trigger(&trigger, &events(&args)?, json, out);
    }
    let mappings = match (&args.mapping, &args.destination) {
        (Some(path), _) => mappings_of(path)?,
        (None, Some(name)) => of_destination(name, &config()?)?,
        (None, None) => {
            return Err(Error::settings("there is no mapping to apply")
                .help("Give --mapping FILE, --destination NAME, --trigger FQL or --vectors FILE."));
        }
    };
    if args.explain {
        show::explanation(&mappings, json, out)?;
    }
    if args.explain && args.events.is_none() {
        return Ok(());
    }
    show::outcomes(&mappings, &events(&args)?, json, out)
}

fn run_vectors(text: &str, json: bool, out: &mut dyn Write) -> Result<()> {
    let cases = vectors::run(text)?;
    show::cases(&cases, json, out)?;
    let failed = cases.iter().filter(|case| case.difference.is_some() && case.tier != "quirk").count();
    if failed == 0 {
        return Ok(());
    }
    Err(Error::definition(format!("{failed} core or edge cases differ from the peer"))
        .help("docs/segment-compatibility.md lists the differences that are meant."))
}

/// Reads a file, or standard input for `-`.
fn read(path: &Path) -> Result<String> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|cause| {
        Error::settings(format!("{} cannot be read", path.display()))
            .help("Check the path, and that the file is UTF-8 text; - is standard input.")
            .because(cause)
    })
}

/// The events of the file, as their own texts: a JSON value after the other, or one array of them.
fn events(args: &MapArgs) -> Result<Vec<String>> {
    let path = args.events.clone().unwrap_or_else(|| "-".into());
    let text = read(&path)?;
    let mut events = Vec::new();
    for value in serde_json::Deserializer::from_str(&text).into_iter::<Box<serde_json::value::RawValue>>() {
        let number = events.len() + 1;
        let value = value.map_err(|cause| {
            Error::settings(format!("event {number} of {} is not JSON", path.display()))
                .help("Give one JSON object a line, or an array of them.")
                .because(cause)
        })?;
        match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(value.get()) {
            Ok(list) => events.extend(list.into_iter().map(|event| event.get().to_owned())),
            Err(_) => events.push(value.get().to_owned()),
        }
    }
    Ok(events)
}

/// The mappings of a file, compiled.
fn mappings_of(path: &Path) -> Result<Vec<Mapping>> {
    let text = read(path)?;
    let wrong = || Error::definition(format!("{} holds no mapping", path.display()));
    let shape = "A mapping is {topic: …, payload: …}, or {name, subscribe, mapping: {…}, on_exit}, or a list of those.";
    let value: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) => config::value(&path.display().to_string(), &text)?,
    };
    let list = match value {
        Value::Array(list) => list,
        one => vec![one],
    };
    let mut mappings = Vec::new();
    for (at, value) in list.into_iter().enumerate() {
        // Fields alone are a mapping of the default trigger.
        let value = match value {
            Value::Object(fields) if !matches!(fields.get("mapping"), Some(Value::Object(_))) => {
                json!({"mapping": fields})
            }
            other => other,
        };
        let mut value = value;
        if let Value::Object(members) = &mut value {
            members.entry("name").or_insert_with(|| format!("mapping {}", at + 1).into());
        }
        mappings.push(
            serde_json::from_value::<config::Mapping>(value).map_err(|cause| wrong().help(shape).because(cause))?,
        );
    }
    mappings.iter().map(|mapping| Mapping::compile(&mapping.name, mapping)).collect()
}

fn of_destination(name: &str, config: &Config) -> Result<Vec<Mapping>> {
    let destination = config.destinations.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.destinations.keys().map(String::as_str).collect();
        let help = if known.is_empty() {
            "The configuration has none.".into()
        } else {
            format!("There are {}.", known.join(", "))
        };
        Error::settings(format!("there is no destination '{name}'")).help(help)
    })?;
    let mut mappings = Mapping::compile_all(name, destination)?;
    mappings.retain(Mapping::enabled);
    Ok(mappings)
}

/// An event of its text; what is not JSON or not an object is said, not fatal.
fn parsed(text: &str) -> Result<Event<'_>, String> {
    Event::parse(text).map_err(|cause| format!("not JSON: {cause}"))
}
