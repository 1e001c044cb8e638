//! What went wrong, and what should a person do now? The one error type of the program.
//!
//! The kind says what to do; the source chain says what happened. A message never holds a secret or a person's traits.

mod cause;
pub mod database;

use std::{error::Error as StdError, fmt, ops::Range};

pub use cause::Cause;
use database::Said;

/// What to do now. Each kind has a stable exit code, listed in `docs/operations.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An audience definition, a trigger or a mapping is wrong: fix the definition.
    Definition,
    /// A setting, a file or an argument is wrong: fix the settings.
    Settings,
    /// Postgres, Kafka or another instance is in the way: it may pass by itself, so wait and try again.
    Wait,
    /// A destination halted, or data contradict each other: a person must decide.
    Halted,
    /// None of the above: a defect of this program; please report it.
    Internal,
}

impl Kind {
    /// The process exit code: 0 is success, 2 is clap's for a wrong command line.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Definition => 3,
            Kind::Settings => 4,
            Kind::Wait => 5,
            Kind::Halted => 6,
        }
    }
}

/// An error with what to do about it.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// How to fix it, as a full sentence.
    pub help: Option<String>,
    /// Every place in a text that is wrong, when the error is about a text.
    pub problems: Option<Box<Problems>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What most functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// All that is wrong with one text (a definition, a trigger, a configuration file).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// What the text is called: a path, or `audience 'big_spenders'`.
    pub name: String,
    pub text: String,
    pub problems: Vec<Problem>,
}

/// One thing wrong in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    /// Byte range to underline.
    pub span: Range<usize>,
    /// What was expected, or the nearest known name, as a full sentence.
    pub help: Option<String>,
}

impl Problems {
    /// Line and column of one of them, from 1, in characters.
    pub fn position(&self, problem: &Problem) -> (usize, usize) {
        let mut end = problem.span.start.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), help: None, problems: None, source: None }
    }
    pub fn definition(message: impl Into<String>) -> Self {
        Self::new(Kind::Definition, message)
    }
    pub fn settings(message: impl Into<String>) -> Self {
        Self::new(Kind::Settings, message)
    }
    pub fn wait(message: impl Into<String>) -> Self {
        Self::new(Kind::Wait, message)
    }
    pub fn halted(message: impl Into<String>) -> Self {
        Self::new(Kind::Halted, message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }
    /// Says how to fix it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Says what happened below.
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.source = Some(cause.into().0);
        self
    }
    /// What Postgres called it (SQLSTATE), if it was Postgres.
    pub fn sqlstate(&self) -> Option<&str> {
        self.source.as_ref()?.downcast_ref::<Said>()?.code.as_deref()
    }
    /// Points at every wrong place of a text.
    pub fn at(mut self, problems: Problems) -> Self {
        self.problems = Some(Box::new(problems));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A database error is waited out, unless Postgres says that the statement itself is wrong.
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // A right that the role lacks. Its message names a table or a function, and quotes no data.
                Some("42501") => {
                    return Error::settings(format!("the database refuses: {} (42501)", database.message()))
                        .help("As the owner of what is named, grant the role of Rollcall that right.")
                        .because(error);
                }
                // No lock in time, idle for too long in a transaction.
                Some("55P03" | "25P03") => Kind::Wait,
                code => match code.map(|code| &code[..2]) {
                    // connection exception, transaction rollback, insufficient resources, operator intervention
                    Some("08" | "40" | "53" | "57") => Kind::Wait,
                    // invalid authorization, invalid catalog name, access denied
                    Some("28" | "3D") => Kind::Settings,
                    _ => Kind::Internal,
                },
            },
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Kind::Wait,
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => Kind::Settings,
            _ => Kind::Internal,
        };
        let said = Said::of(&error);
        // As amid a failover, when the address already leads to the server that is not yet promoted.
        if said.code.as_deref() == Some("25006") {
            return Error::wait("the database can only be read now (25006): it is a standby, or was made so")
                .help("Promote it, or let `default_transaction_read_only` be off.")
                .because(error);
        }
        let code = said.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        Error::new(kind, format!("the database did not do as asked{code}")).because(error)
    }
}
