//! What is a run? What one audience's evaluation came to, and what became of it.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::RunId;

/// One audience's run, as recorded (or, in a dry run, as it would be).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// `None` in a dry run.
    pub run: Option<RunId>,
    pub key: String,
    pub evaluated_at: DateTime<Utc>,
    pub members: u64,
    /// Against the run before.
    pub entered: u64,
    pub exited: u64,
    /// Of the whole tick, whose audiences share their scans.
    pub evaluate_ms: i64,
    /// `sealed`; or `held`, and then nobody is told.
    pub state: RunState,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_because: Option<String>,
    /// Which rows of its statement put nobody in; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<PassedOver>,
}

/// Rows of a statement that put nobody in, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PassedOver {
    /// Without a user id.
    pub null: u64,
    /// Of somebody who is in by another row: under the same user id, or another one of the same person.
    pub repeated: u64,
    /// With a user id that no profile has.
    pub unknown: u64,
}

impl PassedOver {
    /// Whether every row put somebody in.
    pub fn is_none(self) -> bool {
        self == PassedOver::default()
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PassedOver { null, repeated, unknown } = self;
        write!(f, "rows passed over: {null} null, {repeated} repeated, {unknown} of users that the store does not know")
    }
}

/// What a run counts for. Named as in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum RunState {
    /// Told, or to be told.
    Sealed,
    /// Beyond the guard: a person must decide.
    Held,
    /// Was held, and a person let it through.
    Released,
    /// Was held, and a person refused it.
    Discarded,
    /// Was held, until the audience's next run came.
    Superseded,
    /// Nothing was sealed: of a row in a list, which is none of `runs`.
    Failed,
}

impl RunState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Sealed => "sealed",
            RunState::Held => "held",
            RunState::Released => "released",
            RunState::Discarded => "discarded",
            RunState::Superseded => "superseded",
            RunState::Failed => "failed",
        }
    }
}
