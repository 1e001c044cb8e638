//! In which of a destination's two lanes does a change go out, and what must be told before it? Pure.
//!
//! ```text
//!  a few changes ──► live ─┐                     each lane: a log, a stream, a cursor and a producer of its own
//!  a backfill ─────► bulk ─┴─► the same topics
//! ```
//!
//! **Why the order of one audience is kept.** The log of each lane is told in its order. A change also names the place in the
//! *other* lane's log where the audience's last change there ends (`after_position`), and it is told only when that lane's
//! mirrored cursor is there. The mirror is written after a commit is known, so it may be behind, and then a change waits without
//! need; it is never ahead. So of two changes of one audience the one sealed first is committed first, in whichever lanes they are.
//! A change waits only for changes sealed before it: no two wait for each other.
//!
//! **Why nobody waits.** Lanes are chosen so that what must be told before *is* told: a change follows its audience's last one
//! into the bulk lane as long as that is not told there, and else goes to the live lane. Waiting is for the rare rest: a stream
//! that is told again from its beginning, where both logs are far ahead of their cursors.

use std::fmt;

use serde::Serialize;

use crate::ids::Position;

/// One of the two ways to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Lane {
    /// For what changed since the last run.
    Live,
    /// For backfills: what is too much to be told at once.
    Bulk,
}

impl Lane {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Live => "live",
            Lane::Bulk => "bulk",
        }
    }

    pub fn other(self) -> Lane {
        match self {
            Lane::Live => Lane::Bulk,
            Lane::Bulk => Lane::Live,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in each lane's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    pub live: Position,
    pub bulk: Position,
}

impl Places {
    /// Where both logs begin.
    pub const START: Places = Places { live: Position(0), bulk: Position(0) };

    pub fn of(&self, lane: Lane) -> Position {
        match lane {
            Lane::Live => self.live,
            Lane::Bulk => self.bulk,
        }
    }

    pub fn set(&mut self, lane: Lane, place: Position) {
        match lane {
            Lane::Live => self.live = place,
            Lane::Bulk => self.bulk = place,
        }
    }
}

/// The lane of an audience's next change that is no slice of a backfill: `ends` is where its last changes end, `told` how far
/// the lanes are told.
pub fn lane(ends: &Places, told: &Places) -> Lane {
    if ends.bulk > told.bulk { Lane::Bulk } else { Lane::Live }
}

/// Whether the audience's next slice may go into the bulk lane without anybody having to wait there.
pub fn may_slice(ends: &Places, told: &Places) -> bool {
    ends.live <= told.live
}
