//! Where does a destination go on after a start, a crash or a doubt? Facts in, a decision out.
//!
//! Pure, so that every case can be tested, and so that nothing is ever sent on a guess: what does not add up halts.

use std::fmt;

use uuid::Uuid;

use super::cursor::Cursor;
use crate::{config::Delivery, delta::Chain, ids::Position};

/// All that is known when a new producer has fenced the older ones. Gathering it in another order is unsafe: a cursor read
/// before fencing may be overtaken by an older instance's commit.
#[derive(Debug, Clone)]
pub struct Facts {
    pub delivery: Delivery,
    /// The destination's stream, as Postgres has it.
    pub stream: Uuid,
    /// The end of the log: positions `[0, log_end)` are sealed.
    pub log_end: Position,
    /// The cursor's mirror in Postgres: written after a commit was acknowledged, so Kafka must be at least as far.
    pub mirror: Position,
    /// What the cursor topic has for this stream.
    pub cursor: Found,
    /// Whether records were deleted from the cursor topic that came after the stream had begun.
    pub deleted: bool,
    /// The log's chain at the cursor: what the cursor must carry.
    pub chain: Option<Chain>,
    /// Topics that were sent to before, and that are other topics by the same name now.
    pub recreated: Vec<String>,
}

/// The last committed cursor record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A record that is not a cursor: somebody else writes to the topic.
    Unreadable,
    Cursor(Cursor),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Tell the log from here on.
    Resume(Position),
    /// All is told.
    Idle(Position),
    /// Tell nothing, a person must look.
    Halt(Halt),
}

/// Why a destination halted, with what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    pub reason: Reason,
    pub detail: String,
}

/// The reasons to halt. The names are those in `destinations.halt_reason`, in the docs and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Kafka was told more than the log holds: Postgres was restored from a backup, or failed over to a standby that lagged.
    CursorAhead,
    /// Postgres knows of commits that Kafka does not have: Kafka lost committed data.
    CursorBehind,
    /// There was a cursor, and there is none now: the cursor topic was deleted, recreated or does not keep its records.
    CursorLost,
    /// The record in the cursor topic is no cursor.
    CursorUnreadable,
    /// The cursor is another stream's.
    OtherStream,
    /// The log at the cursor is not the one that was told: Postgres went back and then on in another way.
    ChainDiffers,
    /// The transaction after the cursor was committed in part: a commit arrived late and hit the next transaction (KAFKA-17754).
    TornTransaction,
    /// A topic that was sent to was deleted and created again: what it was told is gone.
    TopicRecreated,
    /// A run in the log is not as it was sealed: rows were edited, lost or restored in part.
    LogDamaged,
    /// More records of one run can never be delivered than can be a few bad profiles.
    TooManyQuarantined,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 10] = [
        Reason::CursorAhead,
        Reason::CursorBehind,
        Reason::CursorLost,
        Reason::CursorUnreadable,
        Reason::OtherStream,
        Reason::ChainDiffers,
        Reason::TornTransaction,
        Reason::TopicRecreated,
        Reason::LogDamaged,
        Reason::TooManyQuarantined,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Reason::CursorAhead => "cursor_ahead",
            Reason::CursorBehind => "cursor_behind",
            Reason::CursorLost => "cursor_lost",
            Reason::CursorUnreadable => "cursor_unreadable",
            Reason::OtherStream => "other_stream",
            Reason::ChainDiffers => "chain_differs",
            Reason::TornTransaction => "torn_transaction",
            Reason::TopicRecreated => "topic_recreated",
            Reason::LogDamaged => "log_damaged",
            Reason::TooManyQuarantined => "too_many_quarantined",
        }
    }

    /// What a person can do, as a full sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Reason::CursorAhead | Reason::ChainDiffers => {
                "Bring back the database that wrote the log, or start a new stream by `rollcall unhalt --start-over`, which tells the log again from its beginning."
            }
            Reason::CursorBehind | Reason::TornTransaction | Reason::CursorUnreadable | Reason::OtherStream => {
                "Find out what happened to the cursor topic, then start a new stream by `rollcall unhalt --start-over`, which tells the log again from its beginning."
            }
            Reason::CursorLost => {
                "Restore the cursor topic, or start a new stream by `rollcall unhalt --start-over`, which tells the log again from its beginning. \
                 The topic must keep its records: cleanup.policy=compact."
            }
            Reason::TopicRecreated => {
                "If the new topic is meant to be empty, forget the old one by `rollcall unhalt --forget-topic`; else start a new stream by `--start-over`, which tells the log again \
                 from its beginning."
            }
            Reason::LogDamaged => {
                "Bring back the database from one backup, or start a new stream by `rollcall unhalt --start-over`: each audience's next run then tells its whole membership."
            }
            Reason::TooManyQuarantined => {
                "Mend the mapping or the topic's limits, then sync again: nothing was skipped on the way, and `rollcall quarantine retry` tells what was put aside before."
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Halt {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Halt { reason, detail: detail.into() }
    }
}

/// Decides. The order of the questions matters only for which reason is named when several hold.
pub fn decide(facts: &Facts) -> Decision {
    let halt = |reason, detail: String| Decision::Halt(Halt { reason, detail });
    let position = match &facts.cursor {
        Found::Unreadable => {
            return halt(Reason::CursorUnreadable, "the last record under this stream's key is no cursor".into());
        }
        Found::Nothing if facts.mirror > Position(0) => {
            return halt(Reason::CursorLost, format!("{} was told, but Kafka has no cursor", facts.mirror));
        }
        // Nor may it be taken for a beginning where the first mirror was lost too.
        Found::Nothing if facts.deleted => {
            return halt(
                Reason::CursorLost,
                "records were deleted from the cursor topic since this stream began".into(),
            );
        }
        Found::Nothing => Position(0),
        Found::Cursor(cursor) => {
            if cursor.stream != facts.stream {
                return halt(
                    Reason::OtherStream,
                    format!("the cursor is of stream {}, not {}", cursor.stream, facts.stream),
                );
            }
            if cursor.next > facts.log_end {
                let detail = format!("Kafka was told up to {}, the log ends at {}", cursor.next, facts.log_end);
                return halt(Reason::CursorAhead, detail);
            }
            if cursor.next < facts.mirror {
                let detail = format!("{} was committed, but Kafka's cursor is at {}", facts.mirror, cursor.next);
                return halt(Reason::CursorBehind, detail);
            }
            let Some(end) = &cursor.end else {
                return halt(Reason::TornTransaction, format!("the transaction from {} on has no end", cursor.next));
            };
            if facts.chain.as_ref().map(Chain::to_hex).as_ref() != Some(&end.chain) {
                return halt(
                    Reason::ChainDiffers,
                    format!("run {} at {} is not the one that was told", end.run, cursor.next),
                );
            }
            match facts.delivery {
                Delivery::ExactlyOnce => cursor.next,
                // Here the cursor says how far may have been told, which was told for sure only as far as was mirrored.
                Delivery::AtLeastOnce => facts.mirror,
            }
        }
    };
    if !facts.recreated.is_empty() {
        return halt(Reason::TopicRecreated, facts.recreated.join(", "));
    }
    if position < facts.log_end { Decision::Resume(position) } else { Decision::Idle(position) }
}
