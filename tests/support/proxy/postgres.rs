//! Postgres' frames: a letter and four bytes of length. A COMMIT is called by the statements that it ends.

use std::collections::HashMap;

use super::{super::postgres::Database, Protocol, Proxy, Upstream, number};

/// A proxy before the server of a database, and the database's URL there.
pub fn proxy(db: &Database) -> (Proxy, String) {
    let options = db.options();
    let upstream = match options.get_socket() {
        Some(folder) => Upstream::Unix(folder.join(format!(".s.PGSQL.{}", options.get_port()))),
        None => Upstream::Tcp(format!("{}:{}", options.get_host(), options.get_port())),
    };
    let proxy = Proxy::start(upstream, |_| Postgres::default());
    let (user, name) = (options.get_username(), options.get_database().expect("a database"));
    // Without TLS, which would hide the frames.
    let url = format!("postgres://{user}@{}/{name}?sslmode=disable", proxy.address);
    (proxy, url)
}

#[derive(Default)]
struct Postgres {
    /// The first message of a session has no letter.
    started: bool,
    /// Statements by their names.
    prepared: HashMap<String, String>,
    /// What was asked since the last BEGIN.
    asked: Vec<String>,
    /// The COMMIT that is not yet answered.
    commit: Option<String>,
}

impl Postgres {
    /// A statement is run.
    fn runs(&mut self, statement: String) -> String {
        let begins_with = |word: &str| statement.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        if begins_with("begin") {
            self.asked.clear();
        } else if begins_with("commit") {
            let commit = format!("COMMIT of {}", std::mem::take(&mut self.asked).join("; "));
            self.commit = Some(commit.clone());
            return commit;
        } else {
            self.asked.push(statement.clone());
        }
        statement
    }
}

impl Protocol for Postgres {
    fn request_length(&self, bytes: &[u8]) -> Option<usize> {
        if self.started { Some(1 + number(bytes, 1)?) } else { number(bytes, 0) }
    }

    fn reply_length(&self, bytes: &[u8]) -> Option<usize> {
        Some(1 + number(bytes, 1)?)
    }

    fn request(&mut self, frame: &[u8]) -> String {
        if !std::mem::replace(&mut self.started, true) {
            return "start".to_owned();
        }
        let mut texts = frame[5..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let mut text = || texts.next().unwrap_or_default();
        match frame[0] {
            b'Q' => self.runs(text()),
            b'P' => {
                let (name, statement) = (text(), text());
                self.prepared.insert(name, statement);
                "Parse".to_owned()
            }
            b'B' => {
                text();
                let statement = self.prepared.get(&text()).cloned().unwrap_or_default();
                self.runs(statement)
            }
            letter => char::from(letter).to_string(),
        }
    }

    fn reply(&mut self, frame: &mut [u8]) -> Option<String> {
        if frame[0] == b'C' && &frame[5..] == b"COMMIT\0" { self.commit.take() } else { None }
    }
}
