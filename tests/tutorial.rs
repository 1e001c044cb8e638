//! docs/tutorial.md as a new user would: each command is run as it stands in the page, and what it prints is compared with the page.
//!
//! In the page a `…` stands for what differs from run to run. Only the two addresses of its first step are replaced.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use regex::Regex;

use crate::support::{
    kafka::{self, Broker},
    postgres::Database,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tutorial.md");
/// Ends the output of a command; the exit code follows.
const END: &str = "== ended with ";

/// One shell, as the page says.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(folder: &Path) -> Shell {
        let program = Path::new(env!("CARGO_BIN_EXE_rollcall")).parent().unwrap();
        let paths = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
        let path = env::join_paths([program.to_owned()].into_iter().chain(paths)).unwrap();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(folder).env("PATH", path).env("COLUMNS", "100");
        for name in ["ROLLCALL_CONFIG", "ROLLCALL_STATE_DIR", "RUST_LOG", "DATABASE_URL", "KAFKA_BROKERS"] {
            command.env_remove(name);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash starts");
        let mut input = process.stdin.take().unwrap();
        // What a terminal shows is both.
        input.write_all(b"exec 2>&1\n").unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Shell { process, input, output }
    }

    /// What the commands print; they must succeed.
    fn run(&mut self, commands: &str) -> String {
        writeln!(self.input, "{}\necho \"{END}$?\"", commands.trim_end()).unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the shell ended:\n{printed}");
            if let Some(code) = line.strip_prefix(END) {
                assert_eq!(code.trim(), "0", "{commands}\n{printed}");
                return printed;
            }
            printed += &line;
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether `printed` is what the page says: line by line, spaces at line ends aside, where `…` stands for anything.
fn is_told(page: &str, printed: &str) -> bool {
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    let pattern = regex::escape(lines(page).trim()).replace('…', "[^\n]*");
    Regex::new(&format!("^{pattern}$")).unwrap().is_match(lines(printed).trim())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_the_tutorial_prints_what_the_page_says() {
    let db = Database::bare().await;
    // A broker of its own, whose topics nobody else has.
    let broker = Broker::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Shell::start(folder.path());
    let fence = Regex::new(r"(?ms)^```(sh|console)\n(.*?)^```").unwrap();
    let page = fs::read_to_string(PAGE).unwrap();
    let (mut compared, mut differs) = (0, Vec::new());
    for found in fence.captures_iter(&page) {
        let block = found[2]
            .replace("postgres://rollcall@localhost/rollcall", &format!("'{}'", db.url()))
            .replace("KAFKA_BROKERS=localhost:9092", &format!("KAFKA_BROKERS={}", broker.address));
        if &found[1] == "sh" {
            shell.run(&block);
            continue;
        }
        for part in format!("\n{block}").split("\n$ ").skip(1) {
            let (command, page) = part.split_once('\n').unwrap_or((part, ""));
            let printed = shell.run(command).replace(&broker.address, "localhost:9092");
            compared += 1;
            if !is_told(page, &printed) {
                differs.push(format!("$ {command}\n{printed}"));
            }
        }
    }
    assert!(differs.is_empty(), "the page says something else than what is printed:\n{}", differs.join("\n"));
    assert!(compared >= 10, "{compared}");
    assert_eq!(kafka::read_committed(&broker.address, "audience-changes").len(), 3, "each told once");
}
