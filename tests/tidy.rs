//! The house rules that a machine can check, so that nobody has to remember them. Style as a test.

mod book;
mod forge;
mod circles;
mod outside;
mod reliability;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use regex::Regex;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below `folder` with that ending, as (path from the root, text), in order.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.to_string_lossy().ends_with(ending) {
                let path = entry.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((path, fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no *{ending}");
    found
}

/// The program's code without comments and without its unit tests, which stand at the end of a file.
fn code() -> Vec<(String, String)> {
    let comment = Regex::new(r"(?m)^\s*//.*$|\s//\s.*$").unwrap();
    let cut = |(path, text): (String, String)| {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        (path, comment.replace_all(code, "").into_owned())
    };
    files("src", ".rs").into_iter().map(cut).collect()
}

/// The top module of a file: `src/deliver/cursor.rs` and `src/deliver.rs` are `deliver`.
fn module(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

/// Fails with every offence, one a line.
fn none(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// The lines of the code that match `pattern`, outside what `allowed` says.
fn lines_with(pattern: &str, allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    let offences = code().into_iter().filter(|(path, _)| !allowed(path)).flat_map(|(path, text)| {
        let hits = text.lines().filter(|line| pattern.is_match(line)).map(|line| format!("{path}: {}", line.trim()));
        hits.collect::<Vec<_>>()
    });
    offences.collect()
}

/// Modules in the order of `lib.rs`, as (name, whether it belongs to the shelf).
fn modules() -> Vec<(String, bool)> {
    let lib = read("src/lib.rs");
    let mut shelf = true;
    let mut modules = Vec::new();
    for line in lib.lines() {
        if line.contains("The flow.") {
            shelf = false;
        }
        if let Some(name) = line.strip_prefix("pub mod ") {
            modules.push((name.trim_end_matches(';').to_owned(), shelf));
        }
    }
    assert!(modules.len() > 10);
    modules
}

#[test]
fn a_module_uses_only_what_stands_above_it_and_the_shelf() {
    let modules = modules();
    let rank = |name: &str| modules.iter().position(|(module, _)| module == name);
    let single = Regex::new(r"\bcrate::(\w+)").unwrap();
    let group = Regex::new(r"(?s)\buse crate::\{(.*?)\n?\};").unwrap();
    let head = Regex::new(r"(?m)(?:^|,)\s*(\w+)").unwrap();
    let braces = Regex::new(r"\{[^{}]*\}").unwrap();
    let mut offences = Vec::new();
    for (path, text) in code() {
        let own = module(&path);
        let Some(own_rank) = rank(own) else { continue };
        let mut used: Vec<String> = single.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        for found in group.captures_iter(&text) {
            let mut inner = found[1].to_owned();
            while braces.is_match(&inner) {
                inner = braces.replace_all(&inner, "").into_owned();
            }
            used.extend(head.captures_iter(&inner).map(|found| found[1].to_owned()));
        }
        used.sort();
        used.dedup();
        for used in used {
            let Some(used_rank) = rank(&used) else { continue };
            let (above, on_shelf) = (used_rank <= own_rank, modules[used_rank].1);
            if !above && !on_shelf {
                offences.push(format!("{path} uses `{used}`, which stands below `{own}` in src/lib.rs"));
            }
        }
    }
    none("data flow one way", offences);
}

#[test]
fn the_maps_name_every_module_and_the_architecture_in_its_order() {
    let text = read("docs/architecture.md");
    let flow: Vec<_> = modules().into_iter().filter(|(_, shelf)| !shelf).map(|(name, _)| name).collect();
    let row = Regex::new(r"(?m)^\| `(\w+)` \|").unwrap();
    let told: Vec<_> = row.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    assert_eq!(told, flow, "the table of docs/architecture.md and src/lib.rs");
    let tree = read("CONTRIBUTING.md");
    for (name, _) in modules() {
        let named = [format!(" {name}/"), format!(" {name}.rs")].iter().any(|entry| tree.contains(entry));
        assert!(named, "CONTRIBUTING.md does not say where `{name}` is");
    }
    let shelf = text.split("the shelf: ").nth(1).and_then(|rest| rest.split("`.").next()).unwrap();
    for (name, _) in modules().into_iter().filter(|(_, shelf)| *shelf) {
        assert!(
            format!("{shelf}`").contains(&format!("`{name}`")),
            "docs/architecture.md does not name `{name}` on the shelf"
        );
    }
}

#[test]
fn libraries_stay_in_their_module() {
    let in_modules = |allowed: &'static [&'static str]| move |path: &str| allowed.contains(&module(path));
    // The demo's in-process cluster and the yardstick of `bench` live beside the real client.
    // What is read of topics of others is no part of telling; its clients are those of delivery.
    none(
        "rdkafka only in src/kafka, src/deliver and src/stream",
        lines_with(r"\brdkafka::", in_modules(&["deliver", "kafka", "stream"])),
    );
    none("axum only in src/http", lines_with(r"\b(axum|hyper|hyper_util|tower_http)::", in_modules(&["http"])));
    none("clap only where the command line is read", lines_with(r"\bclap::", in_modules(&["cli", "telemetry"])));
    none("tables and bars only in src/cli", lines_with(r"\b(comfy_table|indicatif|miette)::", in_modules(&["cli"])));
    none("YAML only in src/config", lines_with(r"\bserde_saphyr::", in_modules(&["config"])));
}

#[test]
fn pure_code_knows_no_database_no_network_and_no_clock() {
    let pure = |path: &str| {
        ["src/audience/", "src/js/", "src/mapping/", "src/schedule/"].iter().any(|folder| path.starts_with(folder))
            || [
                "src/identify.rs",
                "src/deliver/recover.rs",
                "src/membership/diff.rs",
                "src/membership/guard.rs",
                "src/plan/compare.rs",
            ]
            .contains(&path)
    };
    let impure = r"\b(sqlx|rdkafka|tokio|reqwest)::|\b(Utc|Local|Instant|SystemTime)::now\b|\bstd::(net|process|env)\b";
    none("parsing, checking, diffing, mapping and deciding are pure", lines_with(impure, |path| !pure(path)));
}

#[test]
fn every_session_is_made_where_its_bounds_are_set() {
    // The embedded server is asked whether it is up before there is anything to bound.
    let allowed = |path: &str| ["database", "embedded"].contains(&module(path));
    none(
        "src/database connects",
        lines_with(r"PgConnection::connect|PgPoolOptions|PgPool::connect(_with|_lazy)?\(", allowed),
    );
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    none("clock.rs reads the clock", lines_with(r"\b(Utc|Local|SystemTime)::now\b", |path| path == "src/clock.rs"));
}

#[test]
fn nobody_prints_but_the_output() {
    none("Output prints", lines_with(r"\be?println!|\be?print!|\bdbg!", |_| false));
}

#[test]
fn nothing_panics_on_purpose_and_nothing_is_left_undone() {
    none("no unwrap outside tests", lines_with(r"\.unwrap\(\)|\bpanic!\(", |_| false));
    let marks = ["to", "do!|unimple", "mented!"].concat();
    none("nothing undone", lines_with(&format!(r"\b({marks})"), |_| false));
    let notes = Regex::new(&["\\b(FIX", "ME|XX", "X|TO", "DO)\\b"].concat()).unwrap();
    let both = files("src", ".rs").into_iter().chain(files("tests", ".rs"));
    none("no notes to self", both.filter(|(_, text)| notes.is_match(text)).map(|(path, _)| path).collect());
    let ignored = ["#[ig", "nore"].concat();
    none(
        "no skipped test",
        files("tests", ".rs").into_iter().filter(|(_, t)| t.contains(&ignored)).map(|f| f.0).collect(),
    );
}

#[test]
fn every_module_begins_by_saying_what_it_is_for() {
    let both = files("src", ".rs").into_iter().chain(files("tests", ".rs"));
    none("a short //! first", both.filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect());
}

#[test]
fn files_stay_short_and_are_named_for_what_they_hold() {
    const CEILING: usize = 400;
    let all = files("src", ".rs");
    let long = all.iter().filter(|(_, text)| text.lines().count() > CEILING);
    none("about 400 lines at most", long.map(|(path, text)| format!("{path}: {}", text.lines().count())).collect());
    let vague = Regex::new(r"(^|/)(utils?|common|types|manager|engine|helpers?|misc)(\.rs|/)").unwrap();
    none("names that say something", all.into_iter().map(|f| f.0).filter(|path| vague.is_match(path)).collect());
}

#[test]
fn states_are_the_same_words_in_the_schema_and_in_the_program() {
    let migrations: String = files("migrations", ".sql").into_iter().map(|(_, text)| text).collect();
    let source: String = code().into_iter().map(|(_, text)| text).collect();
    let checks = Regex::new(r"(?s)check \((\w+) in \(([^)]*)\)\)").unwrap();
    let word = Regex::new(r"'(\w+)'").unwrap();
    let mut count = 0;
    for check in checks.captures_iter(&migrations) {
        for state in word.captures_iter(&check[2]) {
            count += 1;
            let quoted = format!("\"{}\"", &state[1]);
            let in_sql = format!("'{}'", &state[1]);
            let variant = Regex::new(&format!(r"(?i)\b{}\b", state[1].replace('_', ""))).unwrap();
            let known = source.contains(&quoted) || source.contains(&in_sql) || variant.is_match(&source);
            assert!(known, "no code knows the state {} of column {}", &state[1], &check[1]);
        }
    }
    assert!(count >= 5, "the CHECKs of the migrations are not found any more");
}

#[test]
fn the_documents_mention_every_verb_and_every_option() {
    let operations = read("docs/operations.md");
    let command = rollcall::cli::Cli::command();
    for verb in command.get_subcommands() {
        let name = format!("rollcall {}", verb.get_name());
        assert!(operations.contains(&name), "docs/operations.md does not mention `{name}`");
    }
    for option in command.get_arguments().filter_map(|option| option.get_long()) {
        assert!(operations.contains(&format!("--{option}")), "docs/operations.md does not mention --{option}");
    }
    for kind in ["definition", "settings", "wait", "halted", "internal"] {
        assert!(operations.contains(&format!("`{kind}`")), "docs/operations.md does not mention the kind {kind}");
    }
}

#[test]
fn the_documents_mention_every_key_of_the_configuration() {
    let page = read("docs/configuration.md");
    fn visit(schema: &Value, page: &str) {
        for (name, _) in schema["properties"].as_object().into_iter().flatten() {
            assert!(page.contains(&format!("`{name}`")), "docs/configuration.md does not mention `{name}`");
        }
        for word in schema["oneOf"].as_array().into_iter().flatten().filter_map(|branch| branch["const"].as_str()) {
            assert!(page.contains(&format!("`{word}`")), "docs/configuration.md does not mention `{word}`");
        }
        schema["$defs"].as_object().into_iter().flatten().for_each(|(_, schema)| visit(schema, page));
    }
    visit(&rollcall::config::schema(), &page);
}

#[test]
fn commands_in_the_documents_exist() {
    let call = Regex::new(r"(?m)(?:^|[`$ ])rollcall ((?:--?[\w-]+(?: [\w./-]+)? )*)([a-z]+)\b").unwrap();
    let command = rollcall::cli::Cli::command();
    let fence = Regex::new(r"(?s)```(?:sh|console|bash)\n(.*?)```").unwrap();
    let span = Regex::new(r"`(rollcall [^`]+)`").unwrap();
    let mut count = 0;
    for (path, text) in documents() {
        let fenced = fence.captures_iter(&text).map(|found| found[1].to_owned());
        for snippet in fenced.chain(span.captures_iter(&text).map(|found| found[1].to_owned())) {
            for found in call.captures_iter(&snippet) {
                assert!(
                    &found[2] == "help" || command.find_subcommand(&found[2]).is_some(),
                    "{path}: `rollcall {}` does not exist",
                    &found[2]
                );
                count += 1;
            }
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let mut offences = Vec::new();
    for (path, text) in documents() {
        let folder = PathBuf::from(&path).parent().unwrap().to_owned();
        for found in link.captures_iter(&text) {
            if !root().join(&folder).join(&found[1]).exists() {
                offences.push(format!("{path}: {}", &found[1]));
            }
        }
    }
    none("no dead links", offences);
}

fn documents() -> Vec<(String, String)> {
    let mut documents = files("docs", ".md");
    documents.extend(
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|path| (path.to_owned(), read(path))),
    );
    documents
}

#[test]
fn no_tracked_text_tells_of_somebodys_machine() {
    let private = Regex::new(&["/wo", r"rk/|/ho", r"me/\w|/tmp/ba", "sh"].concat()).unwrap();
    let mut all = documents();
    for (folder, ending) in [("src", ".rs"), ("tests", ".rs"), ("migrations", ".sql")] {
        all.extend(files(folder, ending));
    }
    for path in ["Cargo.toml", "Dockerfile", "docker-compose.yml", "rollcall.example.yaml", ".ci/run", "deny.toml"] {
        all.push((path.to_owned(), read(path)));
    }
    none("no paths of one machine", all.into_iter().filter(|(_, text)| private.is_match(text)).map(|f| f.0).collect());
}

/// A document of YAML as JSON.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_compose_file_names_what_exists() {
    let compose = yaml(&read("docker-compose.yml"));
    let services = compose["services"].as_object().expect("services");
    assert_eq!(services.keys().collect::<Vec<_>>(), ["postgres", "kafka", "rollcall"]);
    for (name, service) in services {
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            assert!(services.contains_key(needed.0), "{name} depends on {}", needed.0);
            assert!(services[needed.0]["healthcheck"].is_object(), "{} has no health check", needed.0);
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let is_there = match source.strip_prefix("./") {
                Some(file) => root().join(file).exists(),
                None => compose["volumes"].as_object().is_some_and(|volumes| volumes.contains_key(source)),
            };
            assert!(is_there, "{name} mounts {source}");
        }
    }
    // Within the container the program asks itself.
    let health: Vec<_> = services["rollcall"]["healthcheck"]["test"].as_array().unwrap().iter().collect();
    assert_eq!(health[0], "CMD");
    is_a_command(&health[1..].iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>());
    let build = &services["rollcall"]["build"];
    assert!(build == "." || root().join(build["dockerfile"].as_str().unwrap_or("Dockerfile")).exists());
    let command: Vec<_> =
        services["rollcall"]["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    is_a_command(&[&["rollcall"][..], &command].concat());
}

/// Fails unless the program would take these words.
fn is_a_command(words: &[&str]) {
    let taken = rollcall::cli::Cli::command().try_get_matches_from(words);
    assert!(taken.is_ok(), "{words:?} is no command: {:?}", taken.err());
}

#[test]
fn the_dockerfile_copies_what_exists_between_stages_that_exist() {
    let text = read("Dockerfile").replace("\\\n", " ");
    let health_option = Regex::new(r"^--(interval|timeout|start-period)=\d+s$").unwrap();
    let mut stages = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[0] {
            "FROM" => stages.push(if words.get(2) == Some(&"AS") { words[3] } else { "" }),
            "COPY" => {
                assert!(!stages.is_empty(), "COPY before FROM");
                match words[1].strip_prefix("--from=") {
                    Some(stage) => {
                        assert!(stages[..stages.len() - 1].contains(&stage), "no stage {stage} above: {line}")
                    }
                    None => words[1..words.len() - 1].iter().filter(|word| !word.starts_with("--")).for_each(|file| {
                        assert!(root().join(file).exists(), "{file} is copied, but is not there");
                    }),
                }
            }
            "HEALTHCHECK" => {
                let (options, command) = line.split_once(" CMD ").expect("what to run");
                for option in options.split_whitespace().skip(1) {
                    assert!(health_option.is_match(option), "{option}");
                }
                let words: Vec<String> =
                    serde_json::from_str(command).expect("the exec form: the image may have no shell");
                is_a_command(&words.iter().map(String::as_str).collect::<Vec<_>>());
            }
            "RUN" | "WORKDIR" | "USER" | "ENTRYPOINT" | "CMD" | "ENV" | "ARG" | "EXPOSE" | "VOLUME" | "LABEL" => {}
            other => panic!("{other} is no instruction that is used here: {line}"),
        }
    }
    assert_eq!(stages, ["build", ""]);
    // What the build embeds must be in the build stage.
    for needed in ["Cargo.toml", "Cargo.lock", "build.rs", "src", "migrations", "data"] {
        assert!(text.contains(needed), "the build needs {needed}");
    }
    let rust = read("Cargo.toml")
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    assert!(text.contains(&format!("rust:{rust}")), "the Dockerfile builds with another Rust than rust-version");
}
