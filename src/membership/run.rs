//! What is a run? What one audience's evaluation came to, and what became of it.

use chrono::{DateTime, Utc};
use serde::Serialize;

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
