//! People change all the time: by imports that change many at once, and by orders that come in one by one.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::runtime::Handle;

use super::{Done, Size, machines::Machines};
use crate::support::{dice::Dice, http};

pub struct Load {
    database: String,
    folder: PathBuf,
    size: Size,
    stopped: AtomicBool,
}

impl Load {
    pub fn new(machines: &Machines, size: Size) -> Load {
        Load { database: machines.world.db.url(), folder: machines.logs(), size, stopped: AtomicBool::new(false) }
    }

    /// No more comes in.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self, ended: &AtomicBool) -> bool {
        !self.stopped.load(Ordering::Relaxed) && !ended.load(Ordering::Relaxed)
    }

    /// Gives half of the people other numbers, again and again; an import that fails is begun again, as a person's script would.
    pub fn import(&self, done: &Done, ended: &AtomicBool) {
        let (mut dice, mut round) = (Dice::of(self.size.seed ^ 1), 0_u64);
        let file = self.folder.join("people.jsonl");
        while self.goes_on(ended) {
            round += 1;
            let at = chrono::DateTime::from_timestamp(1_700_000_000 + round as i64, 0).expect("a time").to_rfc3339();
            let mut text = String::new();
            for person in 0..self.size.people {
                if dice.one_in(2) {
                    continue;
                }
                let numbers = (0..self.size.traits).map(|n| (format!("n{n}"), json!(dice.below(4))));
                let message = json!({
                    "type": "identify", "userId": format!("u{person}"), "messageId": format!("i{round}-{person}"), "timestamp": at,
                    "traits": numbers.collect::<serde_json::Map<_, _>>(),
                });
                text += &format!("{message}\n");
            }
            fs::write(&file, &text).expect("the folder is writable");
            while self.goes_on(ended) {
                let mut import = std::process::Command::new(env!("CARGO_BIN_EXE_rollcall"));
                import.current_dir(&self.folder).arg("import").arg(&file).env("DATABASE_URL", &self.database);
                if import.output().expect("it starts").status.success() {
                    done.messages.fetch_add(text.lines().count() as u64, Ordering::Relaxed);
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(200));
            }
            // About as long as a tick takes: so most of it is seen by a run of its own.
            std::thread::park_timeout(Duration::from_millis(700));
        }
    }

    /// Orders by the tracking API of whichever instance answers.
    pub fn track(&self, runtime: &Handle, done: &Done, ended: &AtomicBool) {
        let client = http::client();
        let mut order = 0_u64;
        while self.goes_on(ended) {
            for address in self.addresses() {
                let person = order % self.size.people;
                let body = json!({
                    "type": "track", "event": "Order Completed", "userId": format!("u{person}"), "messageId": format!("o{order}"),
                    "timestamp": "2024-05-01T00:00:00Z", "properties": {"revenue": 1},
                });
                let request = client.post(format!("http://{address}/v1/track")).timeout(Duration::from_secs(2));
                let sent = runtime.block_on(async { request.body(body.to_string()).send().await });
                if sent.is_ok_and(|response| response.status().is_success()) {
                    order += 1;
                    done.messages.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            std::thread::park_timeout(Duration::from_millis(30));
        }
    }

    /// Where the instances take messages in, the latest first, as their logs say.
    fn addresses(&self) -> Vec<String> {
        let number = |path: &PathBuf| {
            let name = path.file_stem()?.to_str()?.strip_prefix("instance-")?;
            name.parse::<u64>().ok()
        };
        let logs = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut logs: Vec<(u64, PathBuf)> = logs.filter_map(|path| Some((number(&path)?, path))).collect();
        logs.sort();
        let latest = logs.into_iter().rev().take(self.size.instances as usize + 1);
        latest.filter_map(|(_, log)| address(&fs::read_to_string(log).ok()?)).collect()
    }
}

fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("listener=\"tracking\""))?;
    Some(line.rsplit_once("address=")?.1.trim().to_owned())
}
