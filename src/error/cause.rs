//! What of another library's error may be told as the cause of ours? Each kind of error is listed here once, or beside its library,
//! with what it may show: an error that quotes what it could not read quotes a person's values or a secret.

use std::{error::Error as StdError, fmt, io, num, str, string, sync::Arc};

use super::{Error, database};

/// What happened below, in words that may be shown.
pub struct Cause(pub(super) Box<dyn StdError + Send + Sync>);

impl Cause {
    /// An error that shows nothing but names, numbers, places and what the system said.
    pub fn shown(error: impl StdError + Send + Sync + 'static) -> Cause {
        Cause(Box::new(error))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

macro_rules! shown {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Cause {
            fn from(error: $error) -> Cause {
                Cause::shown(error)
            }
        })*
    };
}

shown!(
    Error,
    Arc<Error>,
    io::Error,
    num::ParseIntError,
    num::TryFromIntError,
    str::Utf8Error,
    string::FromUtf8Error,
    std::ffi::NulError,
    std::sync::mpsc::RecvError,
    chrono::ParseError,
    openssl::error::ErrorStack,
);

impl From<String> for Cause {
    fn from(words: String) -> Cause {
        Cause(words.into())
    }
}

impl From<sqlx::Error> for Cause {
    fn from(error: sqlx::Error) -> Cause {
        Cause::shown(database::Said::of(&error))
    }
}

impl From<sqlx::migrate::MigrateError> for Cause {
    fn from(error: sqlx::migrate::MigrateError) -> Cause {
        Cause::shown(database::migration(&error))
    }
}

/// The place alone: what stands there is quoted.
impl From<serde_json::Error> for Cause {
    fn from(error: serde_json::Error) -> Cause {
        let what = match error.classify() {
            serde_json::error::Category::Data => "of another form than wanted",
            serde_json::error::Category::Io => "not read to its end",
            _ => "no JSON",
        };
        match error.line() {
            0 => what.to_owned().into(),
            line => format!("{what}, at line {line}, column {}", error.column()).into(),
        }
    }
}

/// An address may be signed, and an answer may hold what it grants.
impl From<ureq::Error> for Cause {
    fn from(error: ureq::Error) -> Cause {
        match error {
            ureq::Error::Io(error) => error.into(),
            ureq::Error::Timeout(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Cause::shown(error),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => Cause::shown(error),
            _ => "the address or the answer cannot be used".to_owned().into(),
        }
    }
}

/// What a task panicked with may hold anything.
impl From<tokio::task::JoinError> for Cause {
    fn from(error: tokio::task::JoinError) -> Cause {
        if error.is_panic() { "it panicked" } else { "it was cancelled" }.to_owned().into()
    }
}
