//! What of an error of Postgres may be shown? Its code, our words for it, and the place in a statement; never its message.
//!
//! Postgres quotes values of rows in its messages, details and contexts, and a function of somebody's own raises any text under any
//! code. So what is shown is ours, or stands in the statement itself. Only what ends a session, which no row can, is told as it is.

use std::fmt;

use sqlx::{
    migrate::MigrateError,
    postgres::{PgDatabaseError, PgErrorPosition, PgSeverity},
};

use super::{Error, Kind};

/// An error of the database, or of the way to it, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// SQLSTATE, where Postgres itself has spoken.
    pub code: Option<String>,
    words: String,
}

impl Said {
    /// What may be shown of `error`.
    pub fn of(error: &sqlx::Error) -> Said {
        let ours = |words: &str| Said { code: None, words: words.into() };
        match error {
            sqlx::Error::Database(database) => database.try_downcast_ref().map_or_else(|| ours("an error"), postgres),
            sqlx::Error::Io(error) => Said { code: None, words: error.to_string() },
            sqlx::Error::Tls(error) => Said { code: None, words: format!("no TLS: {error}") },
            sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => ours("a setting of it cannot be used"),
            sqlx::Error::PoolTimedOut => ours("no connection was had in time"),
            sqlx::Error::PoolClosed => ours("its connections are closed already"),
            sqlx::Error::WorkerCrashed => ours("the work with it ended early"),
            sqlx::Error::RowNotFound => ours("a row is missing"),
            sqlx::Error::Migrate(error) => migration(error),
            // What cannot be read or written is quoted by these.
            _ => ours("it and this program do not understand each other"),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        self.code.as_ref().map_or(Ok(()), |code| write!(f, " (SQLSTATE {code})"))
    }
}

impl std::error::Error for Said {}

fn postgres(error: &PgDatabaseError) -> Said {
    let words = match (error.severity(), error.constraint()) {
        (PgSeverity::Fatal | PgSeverity::Panic, _) => error.message().to_owned(),
        (_, Some(constraint)) => format!("{} (constraint {constraint})", words(error.code())),
        _ => words(error.code()).to_owned(),
    };
    Said { code: Some(error.code().to_owned()), words }
}

/// What may be shown of a migration that failed.
pub(super) fn migration(error: &MigrateError) -> Said {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => Said::of(error),
        other => Said { code: None, words: other.to_string() },
    }
}

/// The error of a statement that a person wrote, of this `kind` if the statement itself is wrong. `sent` is all that was sent, with
/// the statement in it.
pub fn of_statement(kind: Kind, statement: &str, sent: &str, error: sqlx::Error) -> Error {
    let Some(database) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) else {
        return error.into();
    };
    let code = database.code();
    match &code[..code.len().min(2)] {
        _ if code == "57014" => Error::wait("the statement takes too long")
            .help("It is cancelled then: make it faster, as by an index on what it filters or orders by."),
        // Not about the statement: connection, sign-in, other transactions, resources, the server itself.
        "08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" | "XX" => error.into(),
        class => {
            let place = place(statement, sent, database).unwrap_or_default();
            let message = format!("the statement fails: {}{place} (SQLSTATE {code})", words(code));
            Error::new(kind, message).help(match (class, code) {
                (_, "42501") => "The role needs SELECT on what the statement reads, and nothing else.",
                ("22" | "P0", _) => {
                    "Run it by hand: Postgres says more there, which may quote what nobody should read here."
                }
                _ => "It must be one query, and write nothing. Run it by hand: Postgres says more there.",
            })
        }
    }
}

/// Where the statement is wrong, and the name that stands there; of names that Postgres gives, those in the statement alone.
fn place(statement: &str, sent: &str, error: &PgDatabaseError) -> Option<String> {
    let Some(PgErrorPosition::Original(position)) = error.position() else {
        let named = error.message().rsplit(' ').next()?.trim_matches('"');
        let is_in = statement.split(|c: char| !is_of_name(c)).any(|word| word == named && !named.is_empty());
        return (error.code() == "42501" && is_in).then(|| format!(": `{named}`"));
    };
    let before: usize = sent.chars().take(position - 1).map(char::len_utf8).sum();
    let at = before.checked_sub(sent.find(statement)?)?;
    let (until, from) = (statement.get(..at)?, statement.get(at..)?);
    let line = until.matches('\n').count() + 1;
    let column = until.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let name = from.split(|c| !is_of_name(c)).next().filter(|name| name.starts_with(|c: char| !c.is_ascii_digit()));
    let name = name.filter(|name| !name.is_empty()).map(|name| format!(": `{name}`")).unwrap_or_default();
    Some(format!("{name}, at line {line}, column {column}"))
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || "_.".contains(c)
}

/// Our words for a code, else for its class.
fn words(code: &str) -> &'static str {
    match code {
        "22001" => "a text is too long",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a text is no date or time, or out of range",
        "22012" => "a division by zero",
        "22P02" => "a text cannot be read as the type that is wanted",
        "23505" => "such a row is there already",
        "25006" => "it would write, where nothing may be written",
        "25P03" => "its transaction was idle for too long",
        "40P01" => "two transactions waited for each other",
        "42501" => "the role lacks a permission",
        "42601" => "a syntax error",
        "42702" => "the name of a column could mean several",
        "42703" => "there is no such column",
        "42803" => "a column is neither grouped nor aggregated",
        "42883" => "there is no such function or operator for these types",
        "42P01" => "there is no such table",
        "53100" => "the disk is full",
        "53200" => "the server is out of memory",
        "53300" => "the server has too many connections",
        "55P03" => "a lock was not had in time",
        "57014" => "it was cancelled, or took too long",
        _ => match code.get(..2).unwrap_or_default() {
            "08" => "the connection broke",
            "22" => "a value cannot be used in this way",
            "23" => "a constraint forbids the row",
            "25" => "the transaction is in no state for it",
            "40" => "another transaction was first",
            "42" => "it names or combines what cannot be",
            "53" => "the server lacks a resource",
            "54" => "it is too large or too deep",
            "55" => "something is in no state for it",
            "57" => "the server interrupted it",
            "58" => "the server's system failed",
            "P0" => "a function raised an error",
            "XX" => "the server failed within",
            _ => "the server refused it",
        },
    }
}
