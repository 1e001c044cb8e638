//! What does a consumer make of it? Reads the topic along and adds up who is in which audience.

use std::{
    collections::{HashMap, HashSet},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Error, Result,
    deliver::{Target, readback::Readback},
};

/// How long a topic may take to show what was committed.
const PATIENCE: Duration = Duration::from_secs(20);
const SAMPLES: usize = 4;

/// All that was read.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: u64,
    /// Some events as text: the first one whole, the others in short.
    pub samples: Vec<String>,
    /// By audience key, the userIds told `true` last.
    audiences: HashMap<String, HashSet<String>>,
}

impl Seen {
    /// How many are in, by what was told.
    pub fn members(&self, key: &str) -> u64 {
        self.audiences.get(key).map_or(0, |members| members.len() as u64)
    }

    fn take(&mut self, value: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(value) else { return };
        let Some(key) = event["context"]["personas"]["computation_key"].as_str() else { return };
        let (Some(user), Some(entered)) = (event["userId"].as_str(), event["traits"][key].as_bool()) else { return };
        self.events += 1;
        let members = self.audiences.entry(key.to_owned()).or_default();
        if entered {
            members.insert(user.to_owned());
        } else {
            members.remove(user);
        }
        if self.samples.is_empty() {
            self.samples.push(serde_json::to_string_pretty(&event).unwrap_or_default());
        } else if self.samples.len() < SAMPLES && !entered {
            self.samples.push(format!(r#"{} identify {user}: {{"{key}": false}}"#, event["timestamp"]));
        }
    }
}

/// A consumer on a thread of its own.
pub struct Reader {
    thread: JoinHandle<Result<Seen>>,
    /// Tells how many events there are in all.
    total: mpsc::Sender<u64>,
}

impl Reader {
    /// Reads the topic from its beginning.
    pub fn start(target: &Target, topic: &str) -> Result<Reader> {
        let readback = Readback::of(target, topic, PATIENCE)?;
        let (total, told) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("demo-reader".into())
            .spawn(move || read(&readback, &told))
            .map_err(|error| Error::wait("no thread can be started").because(error))?;
        Ok(Reader { thread, total })
    }

    /// Waits until `total` events were read.
    pub async fn finish(self, total: u64) -> Result<Seen> {
        // A reader that has ended already says why below.
        let _ = self.total.send(total);
        let join = tokio::task::spawn_blocking(move || self.thread.join());
        match join.await {
            Ok(Ok(seen)) => seen,
            _ => Err(Error::internal("the demo's reader ended early")),
        }
    }
}

fn read(readback: &Readback, told: &mpsc::Receiver<u64>) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut total = None;
    let mut deadline = None;
    loop {
        match told.try_recv() {
            Ok(events) => {
                total = Some(events);
                deadline = Some(Instant::now() + PATIENCE);
            }
            // The demo failed, and says why itself.
            Err(mpsc::TryRecvError::Disconnected) if total.is_none() => return Ok(seen),
            Err(_) => {}
        }
        if total.is_some_and(|total| seen.events >= total) {
            return Ok(seen);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Error::wait(format!("the topic shows {} events of {}", seen.events, total.unwrap_or(0))));
        }
        if let Some(read) = readback.next(Duration::from_millis(100))? {
            seen.take(read.value.as_deref().unwrap_or_default());
        }
    }
}
