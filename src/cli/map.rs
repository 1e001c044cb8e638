//! `rollcall map`: which record would this event become? Sends nothing, and needs neither Postgres nor Kafka.

mod events;
pub mod show;
pub mod vectors;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, IsTerminal as _, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    config::{self, Config},
    error::{Error, Result},
    mapping::{Mapping, Trigger},
    profile::source::decompress,
};
use events::Events;

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
    /// Events as JSON, one after the other or in arrays, perhaps compressed (gzip, zstd); - reads standard input, as without it.
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Shows which events this trigger (FQL) lets through, instead of mapping them.
    #[arg(long, value_name = "FQL", conflicts_with_all = ["mapping", "destination", "explain"])]
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
        return show::trigger(&trigger, &mut events(&args)?, json, out);
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
        if args.events.is_none() {
            return Ok(());
        }
    }
    if !mappings.iter().any(Mapping::enabled) {
        return Err(Error::settings("no mapping is enabled").help("Set enabled: true for the one to try."));
    }
    show::outcomes(&mappings, &mut events(&args)?, json, out)
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

/// The events of the file, read while they are shown.
fn events(args: &MapArgs) -> Result<Events<Box<dyn BufRead>>> {
    let path = args.events.as_deref().unwrap_or(Path::new("-"));
    let unreadable = |cause: io::Error| {
        Error::settings(format!("{} cannot be read", path.display()))
            .help("Check the path; - is standard input.")
            .because(cause)
    };
    let reader: Box<dyn Read + Send> = if path != Path::new("-") {
        Box::new(File::open(path).map_err(unreadable)?)
    } else if args.mapping.as_deref() == Some(path) {
        return Err(Error::settings("standard input cannot be both the mapping and the events")
            .help("Give one of them as a file."));
    } else if args.events.is_none() && io::stdin().is_terminal() {
        return Err(Error::settings("there are no events to map")
            .help("Give --events FILE, or pipe events in; --events - reads what you type."));
    } else {
        Box::new(io::stdin())
    };
    Ok(Events::new(Box::new(BufReader::new(decompress(reader).map_err(unreadable)?))))
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
        let mut value = match value {
            Value::Object(fields) if !matches!(fields.get("mapping"), Some(Value::Object(_))) => {
                json!({"mapping": fields})
            }
            other => other,
        };
        if let Value::Object(members) = &mut value {
            members.entry("name").or_insert_with(|| format!("mapping {}", at + 1).into());
        }
        mappings.push(
            serde_json::from_value::<config::Mapping>(value).map_err(|cause| wrong().help(shape).because(cause))?,
        );
    }
    Mapping::compile_list(&path.display().to_string(), &mappings)
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
    Mapping::compile_all(name, destination)
}
